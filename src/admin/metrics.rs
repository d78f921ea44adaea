//! `/metrics`: every count and gauge, for Prometheus.
//!
//! | room       | what it knows                                                         |
//! |------------|-----------------------------------------------------------------------|
//! | `families` | which series there are, and what they mean                            |
//! | `page`     | how a series is written                                               |
//! | `plain`    | the older text format, for those who do not ask for OpenMetrics       |

mod families;
mod gates;
mod page;
mod text_format;

use actix_web::http::header::{ACCEPT, CACHE_CONTROL, VARY, X_CONTENT_TYPE_OPTIONS};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, guard};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use self::families::MetricFamilies;
use super::readings::{Gauges, Readings};

impl Gauges {
    /// Adds the route to an App.
    pub(crate) fn configure_metrics(&self, app: &mut ServiceConfig) {
        let gauges = self.clone();
        let read = web::route().guard(guard::Any(guard::Get()).or(guard::Head()));
        let answer = move |request: HttpRequest| {
            let accept = request.headers().get(ACCEPT).map_or(&b""[..], |accept| accept.as_bytes());
            let response = respond(Format::of(accept), gauges.read());
            async move { response }
        };
        app.service(web::resource("/metrics").route(read.to(answer)));
    }
}

fn respond(format: Format, readings: Readings) -> HttpResponse {
    let Some(text) = text(readings) else { return HttpResponse::InternalServerError().finish() };
    let text = if format == Format::Plain { text_format::of(&text) } else { text };
    HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((VARY, "Accept"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .content_type(format.media_type())
        .body(text)
}

/// As OpenMetrics.
fn text(readings: Readings) -> Option<String> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(MetricFamilies(readings)));
    let mut text = String::with_capacity(USUAL_LENGTH);
    encode(&mut text, &registry).ok()?;
    // Both formats write infinity so.
    Some(text.replace(" inf\n", " +Inf\n"))
}

/// In which text format metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    OpenMetrics,
    Plain,
}

impl Format {
    /// The one that the field Accept asks for: whoever names OpenMetrics and does not refuse it has it.
    fn of(accept: &[u8]) -> Self {
        let accept = String::from_utf8_lossy(accept).to_ascii_lowercase();
        let asks = |range: &str| {
            let mut parts = range.split(';').map(str::trim);
            parts.next() == Some("application/openmetrics-text")
                && !parts.any(|part| part.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0)))
        };
        if accept.split(',').any(asks) { Self::OpenMetrics } else { Self::Plain }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// About as long as the text is.
const USUAL_LENGTH: usize = 48 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_for_those_who_ask_for_it() {
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
