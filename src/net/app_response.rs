//! The App's response to a request, for both protocols.

use std::any::Any;

use actix_http::{Response, StatusCode};
use actix_web::HttpResponse;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::ServiceResponse;
use bytes::Bytes;

use crate::http::canned_response::FAILED;

/// The result of a call of the App: its response, its error, or the payload of its panic.
type AppOutcome<B> = Result<Result<ServiceResponse<B>, actix_web::Error>, Box<dyn Any + Send>>;

/// Returns the App's response. A panic costs its request alone.
pub(super) fn response_of<B: MessageBody + 'static>(outcome: AppOutcome<B>) -> Response<BoxBody> {
    match outcome {
        Ok(Ok(response)) => Response::from(response.into_parts().1.map_into_boxed_body()),
        Ok(Err(error)) => Response::from(HttpResponse::from_error(error)),
        // The panic hook has logged it.
        Err(_) => Response::with_body(
            StatusCode::INTERNAL_SERVER_ERROR,
            BoxBody::new(Bytes::from_static(FAILED.sentence.as_bytes())),
        ),
    }
}
