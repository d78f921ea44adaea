//! What a client is told that has to say who it is: `WWW-Authenticate` (RFC 9110 §11.6.1).

/// The ways in which a client may say who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    /// By a name and a password (RFC 7617).
    pub basic: bool,
    /// By a token (RFC 6750).
    pub bearer: Option<BearerError>,
}

/// What is wrong with a token (RFC 6750 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BearerError {
    /// None was shown.
    None,
    /// The one that was shown is not known.
    InvalidToken,
    /// It is known, and may not do this.
    InsufficientScope,
}

impl Challenge {
    /// The field lines, each with its end.
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
