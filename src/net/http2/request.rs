//! Makes a request for the App from one of HTTP/2 (RFC 9113 §8.3).
//!
//! Checks what `h2` lets through: a malformed request (§8.1.1) costs its stream, and what HTTP/1.1 refuses with a
//! status is refused with the same status.

use actix_http::header::{HeaderName, HeaderValue};
use actix_http::{Method, Request, Uri, Version};
use bytes::{BufMut, BytesMut};
use http1::header::{COOKIE, HOST};
use http1::request::Parts;

use crate::http::canned_response::{self as canned, CannedResponse};
use crate::net::{FramingHeaders, HeadLimits, LastHost, method_of};

/// Why the App is not called.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RequestError {
    /// Resets the stream (RFC 9113 §8.1.1).
    Malformed,
    /// Answers with this response.
    Rejected(CannedResponse),
}

/// Makes a request from `parts`, and notes the headers that describe its body.
///
/// # Errors
/// If it is malformed, ambiguous or over a limit.
pub(super) fn build(
    parts: Parts,
    limits: HeadLimits,
    last_host: &LastHost,
) -> Result<(Request, FramingHeaders), RequestError> {
    let size = checked_size(&parts, limits)?;
    let mut room = BytesMut::with_capacity(size + JOINTS);
    let mut request = Request::new();
    let uri = uri_of(&parts, &mut room)?;
    let host = host_of(&parts, last_host)?;
    let head = request.head_mut();
    // Both types accept the same tokens; one that was not accepted would be an unknown method.
    head.method = method_of(parts.method.as_str()).unwrap_or(Method::TRACE);
    head.version = Version::HTTP_2;
    head.uri = uri;
    let value = |room: &mut BytesMut, bytes: &[u8]| {
        room.put_slice(bytes);
        HeaderValue::from_maybe_shared(room.split().freeze()).map_err(|_| canned::BAD_REQUEST)
    };
    head.headers.append(actix_http::header::HOST, value(&mut room, host)?);
    let mut facts = FramingHeaders::default();
    for (name, bytes) in &parts.headers {
        if *name == HOST || *name == COOKIE {
            continue;
        }
        let name = HeaderName::from_bytes(name.as_str().as_bytes()).map_err(|_| canned::BAD_REQUEST)?;
        facts.add(&name, bytes.as_bytes(), last_host).map_err(|_| RequestError::Malformed)?;
        head.headers.append(name, value(&mut room, bytes.as_bytes())?);
    }
    if facts.lengths > 1 {
        return Err(RequestError::Malformed);
    }
    if parts.headers.contains_key(COOKIE) {
        // RFC 9113 §8.2.3: split for compression, joined for the App.
        for (index, crumb) in parts.headers.get_all(COOKIE).iter().enumerate() {
            room.put_slice(if index == 0 { b"" } else { b"; " });
            room.put_slice(crumb.as_bytes());
        }
        head.headers.append(actix_http::header::COOKIE, value(&mut room, b"")?);
    }
    if facts.has_unknown_expectation {
        return Err(canned::EXPECTATION_FAILED.into());
    }
    Ok((request, facts))
}

impl From<CannedResponse> for RequestError {
    fn from(response: CannedResponse) -> Self {
        Self::Rejected(response)
    }
}

/// The size of the head.
///
/// # Errors
/// If it is over a limit.
fn checked_size(parts: &Parts, limits: HeadLimits) -> Result<usize, CannedResponse> {
    let size = size_of(parts);
    if parts.uri.path().len() > limits.bytes {
        Err(canned::TARGET_TOO_LONG)
    } else if size > limits.bytes {
        Err(canned::HEADERS_TOO_LARGE)
    } else if parts.headers.len() > limits.headers {
        Err(canned::TOO_MANY_HEADERS)
    } else {
        Ok(size)
    }
}

/// Approximate size of the same head in HTTP/1.1.
fn size_of(parts: &Parts) -> usize {
    let headers =
        parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + HEADER_FRAMING);
    let authority = parts.uri.authority().map_or(0, |authority| authority.as_str().len());
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    parts.method.as_str().len() + target + authority + LINE_FRAMING + headers.sum::<usize>()
}

/// The target in the form that it has in HTTP/1.1: a path, an asterisk, or for CONNECT an authority.
fn uri_of(parts: &Parts, room: &mut BytesMut) -> Result<Uri, RequestError> {
    let authority = parts.uri.authority().map(http1::uri::Authority::as_str);
    let target = match parts.uri.path_and_query().map(http1::uri::PathAndQuery::as_str) {
        _ if parts.method == http1::Method::CONNECT => authority.ok_or(RequestError::Malformed)?,
        Some("*") if parts.method == http1::Method::OPTIONS => "*",
        Some(path) if path.starts_with('/') => path,
        // RFC 9113 §8.3.1: neither empty nor absent.
        _ => return Err(RequestError::Malformed),
    };
    room.put_slice(target.as_bytes());
    Ok(Uri::from_maybe_shared(room.split().freeze()).map_err(|_| canned::BAD_TARGET)?)
}

/// The host of the request. `Host` may only repeat `:authority` (RFC 9113 §8.3.1).
fn host_of<'a>(parts: &'a Parts, last_host: &LastHost) -> Result<&'a [u8], RequestError> {
    let mut fields = parts.headers.get_all(HOST).iter();
    let field = fields.next().map(http1::HeaderValue::as_bytes);
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    if fields.next().is_some() {
        return Err(canned::HOST_TWICE.into());
    }
    if authority.is_some_and(|authority| {
        authority.contains(&b'@') || field.is_some_and(|field| !authority.eq_ignore_ascii_case(field))
    }) {
        return Err(RequestError::Malformed);
    }
    let host = authority.or(field).ok_or(canned::HOST_MISSING)?;
    if last_host.is_valid(host) { Ok(host) } else { Err(canned::HOST_INVALID.into()) }
}

/// Bytes between a name and a value, and after it.
const HEADER_FRAMING: usize = 4;

/// Bytes around a method and a target.
const LINE_FRAMING: usize = 12;

/// Room for the separators of cookies.
const JOINTS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 1024, headers: 6 };

    fn built(method: &str, uri: &str, fields: &[(&str, &str)]) -> Result<Request, RequestError> {
        let mut request = http1::Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let parts = request.body(()).unwrap().into_parts().0;
        build(parts, LIMITS, &LastHost::default()).map(|(request, _)| request)
    }

    fn status(built: Result<Request, RequestError>) -> u16 {
        match built {
            Ok(_) => 200,
            Err(RequestError::Malformed) => 0,
            Err(RequestError::Rejected(response)) => response.status,
        }
    }

    #[test]
    fn a_request_becomes_what_http1_would_bring() {
        let built =
            built("GET", "https://x:8443/a%2Fb?c=%20d", &[("accept", "*/*")]).unwrap_or_else(|_| panic!());
        let head = built.head();
        assert_eq!(head.uri.to_string(), "/a%2Fb?c=%20d");
        assert_eq!(head.headers.get("host").unwrap(), "x:8443");
        assert_eq!(head.headers.get("accept").unwrap(), "*/*");
        assert_eq!((head.version, head.headers.len()), (Version::HTTP_2, 2));
    }

    #[test]
    fn cookies_are_joined() {
        let fields = [("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")];
        let built = built("GET", "https://x/", &fields).unwrap_or_else(|_| panic!());
        let cookies: Vec<_> = built.head().headers.get_all("cookie").collect();
        assert_eq!(cookies, ["a=1; b=2"]);
    }

    #[test]
    fn malformed_requests_cost_their_stream_and_refused_ones_are_answered() {
        let long = format!("https://x/{}", "a".repeat(2000));
        let field = "a".repeat(2000);
        for (method, uri, fields, expected) in [
            ("GET", "https://x/", &[][..], 200),
            ("OPTIONS", "https://x/*", &[], 200),
            ("CONNECT", "x:80", &[], 200),
            ("GET", "/", &[("host", "x")], 200),
            ("GET", "https://x/", &[("host", "X")], 200),
            ("GET", "https://x/", &[("host", "y")], 0),
            ("GET", "https://a@x/", &[], 0),
            ("GET", "/", &[], 400),
            ("GET", "/", &[("host", "x y")], 400),
            ("GET", "/", &[("host", "x"), ("host", "x")], 400),
            ("GET", "https://x/", &[("content-length", "3")], 200),
            ("GET", "https://x/", &[("content-length", "x")], 0),
            ("GET", "https://x/", &[("content-length", "3"), ("content-length", "3")], 0),
            ("GET", "https://x/", &[("expect", "100-continue")], 200),
            ("GET", "https://x/", &[("expect", "magic")], 417),
            ("GET", &long, &[], 414),
            ("GET", "https://x/", &[("a", &field)], 431),
            ("GET", "https://x/", &[("a", "b"); 7], 431),
            ("PROPFIND", "https://x/", &[], 200),
        ] {
            assert_eq!(status(built(method, uri, fields)), expected, "{method} {uri:.40} {fields:.2?}");
        }
    }

    #[test]
    fn the_values_of_one_request_share_memory() {
        let built = built("GET", "https://x/", &[("a", "1"), ("b", "2")]).unwrap_or_else(|_| panic!());
        let at = |name: &str| built.head().headers.get(name).unwrap().as_bytes().as_ptr() as usize;
        assert_eq!(at("b"), at("a") + 1);
    }
}
