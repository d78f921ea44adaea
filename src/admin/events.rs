//! `/events`: event stream (WHATWG HTML §9.2) for the dashboard.

use std::convert::Infallible;
use std::future::ready;
use std::pin::pin;
use std::rc::Rc;

use actix_web::http::StatusCode;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};
use futures_util::future::{Either, select};
use futures_util::stream::{self, StreamExt};

use super::respond::{retry_later, uncached};
use super::sampler::{Sampler, Subscriber};
use crate::lifecycle::phase::{Lifecycle, Phase};

/// Sends events until the `listener` closes.
pub(super) async fn events((sampler, listener): (Rc<Sampler>, Lifecycle), _: HttpRequest) -> HttpResponse {
    let Some(subscriber) = sampler.subscribe() else {
        return retry_later(StatusCode::SERVICE_UNAVAILABLE, "Too many dashboards are open.\n", 5);
    };
    let events = stream::unfold(Some((subscriber, listener)), |state| async move {
        let (mut subscriber, listener) = state?;
        Some(match next(&mut subscriber, &listener).await {
            Some(event) => (Ok::<_, Infallible>(event), Some((subscriber, listener))),
            None => (Ok(Bytes::from_static(END)), None),
        })
    });
    let first = stream::once(ready(Ok(Bytes::from_static(RETRY))));
    uncached(StatusCode::OK)
        // Keeps a proxy (nginx) from buffering events.
        .insert_header(("x-accel-buffering", "no"))
        .content_type("text/event-stream")
        .streaming(Box::pin(first.chain(events)))
}

/// Returns the next event, or a keep-alive comment. `None` once the listener closes.
async fn next(subscriber: &mut Subscriber, listener: &Lifecycle) -> Option<Bytes> {
    let (closing, event) = (pin!(listener.reached(Phase::Closing)), pin!(subscriber.next()));
    match select(closing, event).await {
        Either::Left(_) => None,
        Either::Right((event, _)) => Some(event.unwrap_or(Bytes::from_static(KEEP_ALIVE))),
    }
}

/// Time after which a page reconnects, in milliseconds.
const RETRY: &[u8] = b"retry: 1000\n\n";

/// A comment, which keeps the connection alive.
const KEEP_ALIVE: &[u8] = b":\n\n";

/// The last event.
const END: &[u8] = b"event: end\ndata: {}\n\n";
