//! What the App makes of a request, whichever protocol that came by.

use std::any::Any;

use actix_http::{Response, StatusCode};
use actix_web::HttpResponse;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::ServiceResponse;
use bytes::Bytes;

/// What a call of the App came to: its answer, its error, or what it panicked with.
type AppOutcome<B> = Result<Result<ServiceResponse<B>, actix_web::Error>, Box<dyn Any + Send>>;

/// The App's response; a panic costs the request alone.
pub(super) fn response_of<B: MessageBody + 'static>(answered: AppOutcome<B>) -> Response<BoxBody> {
    match answered {
        Ok(Ok(response)) => Response::from(response.into_parts().1.map_into_boxed_body()),
        Ok(Err(error)) => Response::from(HttpResponse::from_error(error)),
        // The panic hook has logged where and why.
        Err(_) => Response::with_body(
            StatusCode::INTERNAL_SERVER_ERROR,
            BoxBody::new(Bytes::from_static(b"Something failed.\n")),
        ),
    }
}
