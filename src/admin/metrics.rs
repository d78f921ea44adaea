//! `/metrics`: every counter and gauge, for Prometheus.

mod page;
mod text_format;

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT, VARY};
use actix_web::{HttpRequest, HttpResponse};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use self::page::MetricsPage;
use super::context::ServerContext;
use super::readings::Readings;
use super::respond::uncached;

pub(super) async fn metrics(server: Arc<ServerContext>, request: HttpRequest) -> HttpResponse {
    let accept = request.headers().get(ACCEPT).map_or(&b""[..], |accept| accept.as_bytes());
    let format = Format::of(accept);
    let Some(text) = open_metrics(Readings::new(&server)) else {
        return HttpResponse::InternalServerError().finish();
    };
    let text = if format == Format::Plain { text_format::of(&text) } else { text };
    uncached(StatusCode::OK).insert_header((VARY, "Accept")).content_type(format.media_type()).body(text)
}

/// Writes the metrics as OpenMetrics.
fn open_metrics(readings: Readings) -> Option<String> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(MetricsPage(readings)));
    let mut text = String::with_capacity(USUAL_LENGTH);
    encode(&mut text, &registry).ok()?;
    // Both formats write infinity so.
    Some(text.replace(" inf\n", " +Inf\n"))
}

/// Text format of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    OpenMetrics,
    Plain,
}

impl Format {
    /// Selects the format by the Accept header: OpenMetrics if it is named and not refused.
    fn of(accept: &[u8]) -> Self {
        let accept = String::from_utf8_lossy(accept).to_ascii_lowercase();
        let accepts = |range: &str| {
            let mut parts = range.split(';').map(str::trim);
            parts.next() == Some("application/openmetrics-text")
                && !parts.any(|part| part.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0)))
        };
        if accept.split(',').any(accepts) { Self::OpenMetrics } else { Self::Plain }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Usual length of the text in bytes.
const USUAL_LENGTH: usize = 48 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_sent_to_clients_that_accept_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, expected) in [
            (prometheus, Format::OpenMetrics),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("text/plain, Application/OpenMetrics-Text; version=1.0.0", Format::OpenMetrics),
            ("application/openmetrics-text;q=0, text/plain", Format::Plain),
            ("application/openmetrics-text; q=0.000, text/plain", Format::Plain),
            ("text/plain;version=0.0.4", Format::Plain),
            ("application/openmetrics-textual", Format::Plain),
            ("*/*", Format::Plain),
            ("", Format::Plain),
        ] {
            assert_eq!(Format::of(accept.as_bytes()), expected, "{accept}");
        }
    }
}
