//! `WWW-Authenticate` (RFC 9110 §11.6.1).

/// The authentication schemes that a client may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    /// Basic, with a name and a password (RFC 7617).
    pub basic: bool,
    /// Bearer, with a token (RFC 6750); `None`: not offered.
    pub bearer: Option<BearerError>,
}

/// Errors of a bearer token (RFC 6750 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BearerError {
    /// The request has no token.
    None,
    /// The token is unknown.
    InvalidToken,
    /// The token is known but does not allow this.
    InsufficientScope,
}

impl Challenge {
    /// The header lines, each with its CRLF.
    pub fn lines(self) -> String {
        let mut lines = String::new();
        if let Some(error) = self.bearer {
            let error = match error {
                BearerError::None => "",
                BearerError::InvalidToken => ", error=\"invalid_token\"",
                BearerError::InsufficientScope => ", error=\"insufficient_scope\"",
            };
            lines.push_str(&format!("www-authenticate: Bearer realm=\"{REALM}\"{error}\r\n"));
        }
        if self.basic {
            lines.push_str(&format!("www-authenticate: Basic realm=\"{REALM}\", charset=\"UTF-8\"\r\n"));
        }
        lines
    }
}

/// One for the whole server, since names and tokens hold for all of it.
const REALM: &str = "pagecast";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scheme_has_a_line_of_its_own() {
        let bearer = "www-authenticate: Bearer realm=\"pagecast\"";
        let basic = "www-authenticate: Basic realm=\"pagecast\", charset=\"UTF-8\"\r\n";
        for (challenge, expected) in [
            (Challenge::default(), String::new()),
            (Challenge { basic: true, bearer: None }, basic.to_owned()),
            (Challenge { basic: true, bearer: Some(BearerError::None) }, format!("{bearer}\r\n{basic}")),
            (
                Challenge { basic: false, bearer: Some(BearerError::InvalidToken) },
                format!("{bearer}, error=\"invalid_token\"\r\n"),
            ),
            (
                Challenge { basic: false, bearer: Some(BearerError::InsufficientScope) },
                format!("{bearer}, error=\"insufficient_scope\"\r\n"),
            ),
        ] {
            assert_eq!(challenge.lines(), expected);
        }
    }
}
