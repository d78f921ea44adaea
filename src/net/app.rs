//! Calls the App, for both protocols.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use actix_http::{Request, Response, StatusCode};
use actix_service::Service;
use actix_web::body::BoxBody;
use actix_web::dev::ServiceResponse;
use actix_web::{Error, HttpResponse};
use bytes::Bytes;
use futures_util::FutureExt;

use crate::http::canned_response::FAILED;

/// The App as a service.
pub trait AppService: Service<Request, Response = ServiceResponse, Error = Error> + 'static {}

impl<S: Service<Request, Response = ServiceResponse, Error = Error> + 'static> AppService for S {}

/// Calls the App. A panic costs its request alone.
pub(super) fn call<S: AppService>(app: &S, request: Request) -> impl Future<Output = Response<BoxBody>> {
    AssertUnwindSafe(app.call(request)).catch_unwind().map(|outcome| match outcome {
        Ok(Ok(response)) => Response::from(response.into_parts().1),
        Ok(Err(error)) => Response::from(HttpResponse::from_error(error)),
        // The panic hook has logged it.
        Err(_) => Response::with_body(
            StatusCode::INTERNAL_SERVER_ERROR,
            BoxBody::new(Bytes::from_static(FAILED.sentence.as_bytes())),
        ),
    })
}
