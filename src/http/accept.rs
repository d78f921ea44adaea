//! `Accept` (RFC 9110 §12.5.1): the choice between HTML and JSON.
//!
//! A malformed element is ignored, and a header without any other counts as absent. Parameters besides the weight are
//! skipped. A media range that is listed twice has the higher weight.

use super::quality::{Quality, highest, parse_weight};
use crate::http::header_grammar::split_outside_quotes;

/// Whether an Accept header prefers JSON to HTML.
///
/// The higher weight decides. Equal weights mean HTML, unless JSON is named and HTML only matched by a wildcard, as in
/// `application/json, */*`: browsers name HTML, and programs do not.
pub fn prefers_json(accept: Option<&[u8]>) -> bool {
    let Accepted { json, html, .. } = Accepted::parse(accept);
    match json.quality == html.quality {
        true => json.named.is_some() && html.named.is_none() && json.quality > Quality::ZERO,
        false => json.quality > html.quality,
    }
}

/// Whether a client accepts HTML: there is no Accept header, or it lists `text/html`, `text/*` or `*/*`, of which the most
/// specific counts.
pub fn accepts_html(accept: Option<&[u8]>) -> bool {
    Accepted::parse(accept).html.quality > Quality::ZERO
}

/// Whether an Accept header lists HTML or XHTML by name, as browsers do when they load a page.
pub fn names_html(accept: Option<&[u8]>) -> bool {
    let accepted = Accepted::parse(accept);
    accepted.html.named.max(accepted.xhtml) > Some(Quality::ZERO)
}

/// The weights of the media types that matter.
struct Accepted {
    html: MediaPreference,
    json: MediaPreference,
    /// `None`: not listed by name.
    xhtml: Option<Quality>,
}

struct MediaPreference {
    quality: Quality,
    /// The weight that is listed by name.
    named: Option<Quality>,
}

impl Accepted {
    fn parse(accept: Option<&[u8]>) -> Self {
        let elements = split_outside_quotes(accept.unwrap_or_default(), b',').filter_map(parse_element);
        let mut elements = elements.peekable();
        let unlisted = if elements.peek().is_some() { Quality::ZERO } else { Quality::ONE };
        let [html, xhtml, any_text, json, any_application, anything] = highest(MEDIA_RANGES, elements);
        let preference = |named: Option<Quality>, of_its_kind: Option<Quality>| MediaPreference {
            quality: named.or(of_its_kind).or(anything).unwrap_or(unlisted),
            named,
        };
        Self { html: preference(html, any_text), json: preference(json, any_application), xhtml }
    }
}

/// One element: a media range and its weight.
fn parse_element(element: &[u8]) -> Option<(&[u8], Quality)> {
    let mut parts = split_outside_quotes(element, b';').map(<[u8]>::trim_ascii);
    let range = parts.next()?;
    let (kind, subtype) = range.split_at_checked(range.iter().position(|&byte| byte == b'/')?)?;
    if kind.is_empty() || subtype.len() < 2 {
        return None;
    }
    let weight = parts.find(|parameter| matches!(parameter, [b'q' | b'Q', b'=', ..]));
    Some((range, weight.map_or(Some(Quality::ONE), parse_weight)?))
}

const MEDIA_RANGES: [&str; 6] =
    ["text/html", "application/xhtml+xml", "text/*", "application/json", "application/*", "*/*"];

#[cfg(test)]
mod tests {
    use super::*;

    const CHROME: &str =
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8";

    fn bytes(header: &str) -> Option<&[u8]> {
        Some(header.as_bytes())
    }

    #[test]
    fn json_is_preferred_by_a_higher_weight_or_by_name() {
        for header in [
            "application/json",
            "APPLICATION/JSON",
            "application/json; charset=utf-8",
            "application/json, text/plain",
            "application/json, text/javascript, */*; q=0.01",
            "application/json, text/plain, */*",
            "application/json, text/html;q=0.9",
            "text/html;q=0.1, application/*;q=0.2",
            "text/html;q=0, */*",
            "application/json;a=\"b,text/html;c\"",
            "text/html;q=0.5;level=1, application/json;version=1;q=0.6",
            "application/json;q=0.1, image/png",
        ] {
            assert!(prefers_json(bytes(header)), "{header}");
        }
    }

    #[test]
    fn html_is_the_default() {
        assert!(!prefers_json(None));
        for header in [
            CHROME,
            "",
            "*/*",
            "text/html",
            "text/html, application/json",
            "application/json, text/html",
            "application/json;q=0.5, */*",
            "application/json;q=0",
            "application/json;q=0, text/html;q=0",
            "application/json;q=2",
            "application/jsonp",
            "json",
            "image/png",
            "text/*, application/*",
            "text/plain;a=\"application/json\"",
            "text/plain;a=\", application/json",
        ] {
            assert!(!prefers_json(bytes(header)), "{header}");
        }
    }

    #[test]
    fn html_is_accepted_if_a_range_covers_it() {
        assert!(accepts_html(None));
        for (header, expected) in [
            (CHROME, true),
            ("", true),
            (" , ", true),
            ("nonsense", true),
            ("*/*", true),
            ("*/*;q=0.001", true),
            ("text/*", true),
            ("Text/HTML;level=1", true),
            ("text/html;q=0, text/html", true),
            ("text/html;q=0", false),
            ("text/html;q=0, */*", false),
            ("text/*;q=0, */*", false),
            ("*/*;q=0", false),
            ("image/avif,image/webp", false),
            ("application/json", false),
            ("application/xhtml+xml", false),
            ("text/css", false),
        ] {
            assert_eq!(accepts_html(bytes(header)), expected, "{header}");
        }
    }

    #[test]
    fn browsers_name_html_when_they_load_a_page() {
        assert!(!names_html(None));
        for (header, expected) in [
            (CHROME, true),
            ("text/html", true),
            ("application/xhtml+xml;q=0.1", true),
            ("text/html;q=0, application/xhtml+xml", true),
            ("text/html;q=0", false),
            ("text/*", false),
            ("*/*", false),
            ("", false),
            ("text/htmlx", false),
            ("x/y;a=\",text/html,\"", false),
            ("x/y;a=\"\\\",text/html\"", false),
            ("x/y;a=\"\\\\\",text/html", true),
        ] {
            assert_eq!(names_html(bytes(header)), expected, "{header}");
        }
    }
}
