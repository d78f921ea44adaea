//! Request methods (RFC 9110 §9, RFC 5789).

use super::named_enum::named_enum;

named_enum! {
    /// A method that reads a file.
    pub enum ReadMethod {
        /// GET
        Get => "GET",
        /// HEAD
        Head => "HEAD",
    }
}

/// The support for a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET: answered with a representation.
    Get,
    /// HEAD: answered with the headers of a GET.
    Head,
    /// OPTIONS: answered with [`ALLOW`].
    Options,
    /// A known method that no file allows: 405 with [`ALLOW`].
    NotAllowed,
    /// An unknown method: 501.
    NotImplemented,
}

/// The value of the Allow header, the same for every target.
pub const ALLOW: &str = "GET, HEAD, OPTIONS";

impl Method {
    /// Classifies a method token. Tokens are case-sensitive.
    pub fn classify(token: &[u8]) -> Method {
        match token {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"OPTIONS" => Method::Options,
            b"POST" | b"PUT" | b"DELETE" | b"CONNECT" | b"TRACE" | b"PATCH" => Method::NotAllowed,
            _ => Method::NotImplemented,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_case_sensitive() {
        for (token, expected) in [
            ("GET", Method::Get),
            ("HEAD", Method::Head),
            ("OPTIONS", Method::Options),
            ("POST", Method::NotAllowed),
            ("PUT", Method::NotAllowed),
            ("DELETE", Method::NotAllowed),
            ("CONNECT", Method::NotAllowed),
            ("TRACE", Method::NotAllowed),
            ("PATCH", Method::NotAllowed),
            ("get", Method::NotImplemented),
            ("Get", Method::NotImplemented),
            ("GETT", Method::NotImplemented),
            ("PROPFIND", Method::NotImplemented),
            ("", Method::NotImplemented),
        ] {
            assert_eq!(Method::classify(token.as_bytes()), expected, "{token}");
        }
    }
}
