//! `/events`: the pulse of the server as an event stream (WHATWG HTML §9.2), for the dashboard.

use std::convert::Infallible;
use std::pin::pin;

use actix_web::http::Method;
use actix_web::http::header::{ALLOW, CACHE_CONTROL, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use actix_web::web::{self, Bytes, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::future::{Either, select};
use futures_util::stream;

use crate::admin::sampler::{Sampler, Subscriber};
use crate::lifecycle::phase::{Lifecycle, Phase};

/// Adds the route to an App. Streams end when the `listener` does.
pub(super) fn configure(pulse: &Sampler, listener: &Lifecycle, app: &mut ServiceConfig) {
    let (pulse, listener) = (pulse.clone(), listener.clone());
    app.service(web::resource("/events").to(move |request: HttpRequest| {
        let answer = answer(&request, &pulse, &listener);
        async move { answer }
    }));
}

fn answer(request: &HttpRequest, pulse: &Sampler, listener: &Lifecycle) -> HttpResponse {
    if request.method() != Method::GET {
        return HttpResponse::MethodNotAllowed().insert_header((ALLOW, "GET")).finish();
    }
    let Some(seat) = pulse.seat() else {
        return HttpResponse::ServiceUnavailable()
            .insert_header((RETRY_AFTER, "5"))
            .content_type("text/plain; charset=utf-8")
            .body("Too many dashboards are open.\n");
    };
    let begin = Bytes::from_static(RETRY);
    let told = stream::unfold((Some(seat), Some(begin)), {
        let listener = listener.clone();
        move |(seat, begin)| {
            let listener = listener.clone();
            async move {
                let mut seat = seat?;
                if let Some(begin) = begin {
                    return Some((Ok::<_, Infallible>(begin), (Some(seat), None)));
                }
                match next(&mut seat, &listener).await {
                    Some(event) => Some((Ok(event), (Some(seat), None))),
                    None => Some((Ok(Bytes::from_static(END)), (None, None))),
                }
            }
        }
    });
    HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        // For a proxy that would hold events back (nginx).
        .insert_header(("x-accel-buffering", "no"))
        .content_type("text/event-stream")
        .streaming(Box::pin(told))
}

/// The next event, or a sign of life; none once the listener closes.
async fn next(seat: &mut Subscriber, listener: &Lifecycle) -> Option<Bytes> {
    let (closing, event) = (pin!(listener.reached(Phase::Closing)), pin!(seat.next()));
    match select(closing, event).await {
        Either::Left(_) => None,
        Either::Right((event, _)) => Some(event.unwrap_or(Bytes::from_static(ALIVE))),
    }
}

/// How long a page waits before it comes back, in milliseconds.
const RETRY: &[u8] = b"retry: 1000\n\n";

/// A comment.
const ALIVE: &[u8] = b":\n\n";

/// Nothing more comes.
const END: &[u8] = b"event: end\ndata: {}\n\n";
