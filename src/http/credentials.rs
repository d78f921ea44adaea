//! `Authorization` (RFC 9110 §11.6.2): a bearer token (RFC 6750 §2.1), or a name and a password (RFC 7617).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The credentials in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials<'a> {
    /// There is no Authorization header, or its scheme is not supported.
    None,
    /// The value is not valid for its scheme, or there are several headers.
    Malformed(AuthScheme),
    /// A token.
    Bearer(Token<'a>),
    /// A name and a password.
    Basic(Login),
}

/// A supported authentication scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthScheme {
    /// RFC 6750
    Bearer,
    /// RFC 7617
    Basic,
}

/// A token. `Debug` does not print it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token<'a>(pub &'a [u8]);

/// A name and a password. `Debug` does not print the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// Without a colon or a control character.
    pub name: Vec<u8>,
    /// Without a control character.
    pub password: Vec<u8>,
}

impl<'a> Credentials<'a> {
    /// Parses the lines of the header.
    pub fn read(mut lines: impl Iterator<Item = &'a [u8]>) -> Self {
        let Some(line) = lines.next() else { return Self::None };
        let end = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
        let (scheme, rest) = line.split_at(end);
        let scheme = match scheme {
            name if name.eq_ignore_ascii_case(b"bearer") => AuthScheme::Bearer,
            name if name.eq_ignore_ascii_case(b"basic") => AuthScheme::Basic,
            _ => return Self::None,
        };
        let value = rest.trim_ascii();
        if lines.next().is_some() || !is_token68(value) || value.len() > VALUE_MAX {
            return Self::Malformed(scheme);
        }
        match scheme {
            AuthScheme::Bearer => Self::Bearer(Token(value)),
            AuthScheme::Basic => login(value).map_or(Self::Malformed(scheme), Self::Basic),
        }
    }
}

fn login(value: &[u8]) -> Option<Login> {
    let decoded = STANDARD.decode(value).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    // A NUL ends the password for some hashes, so several passwords would match.
    if decoded.iter().any(u8::is_ascii_control) {
        return None;
    }
    let (name, rest) = decoded.split_at(colon);
    Some(Login { name: name.to_vec(), password: rest.get(1..)?.to_vec() })
}

/// RFC 9110 §11.2.
fn is_token68(text: &[u8]) -> bool {
    let end = text.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
    let is_usual = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte);
    end > 0 && text.iter().take(end).all(is_usual)
}

impl fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("name", &self.name.escape_ascii().to_string()).finish_non_exhaustive()
    }
}

/// Longer values are malformed. A name and a password of 512 bytes each fit.
const VALUE_MAX: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'a>(lines: &[&'a str]) -> Credentials<'a> {
        Credentials::read(lines.iter().map(|line| line.as_bytes()))
    }

    fn basic(name: &str, password: &str) -> Credentials<'static> {
        Credentials::Basic(Login { name: name.into(), password: password.into() })
    }

    #[test]
    fn schemes_are_case_insensitive() {
        for (line, expected) in [
            ("Bearer abc", Credentials::Bearer(Token(b"abc"))),
            ("bEARER   a-b._~+/c==", Credentials::Bearer(Token(b"a-b._~+/c=="))),
            ("Basic YWxpY2U6b3BlbiBzZXNhbWU=", basic("alice", "open sesame")),
            ("basic YTpiOmM=", basic("a", "b:c")),
            ("BASIC Og==", basic("", "")),
            ("Digest username=x", Credentials::None),
            ("Negotiate abc", Credentials::None),
            ("", Credentials::None),
            ("abc", Credentials::None),
            ("Bearerabc", Credentials::None),
        ] {
            assert_eq!(read(&[line]), expected, "{line}");
        }
        assert_eq!(read(&[]), Credentials::None);
    }

    #[test]
    fn a_value_that_its_scheme_does_not_allow_is_malformed() {
        let long = format!("Bearer {}", "a".repeat(4097));
        for line in ["Bearer", "Bearer ", "Bearer a b", "Bearer =", "Bearer a=b", "Bearer a\u{e9}", &long] {
            assert_eq!(read(&[line]), Credentials::Malformed(AuthScheme::Bearer), "{line}");
        }
        for line in [
            "Basic",
            "Basic !",
            "Basic YWxpY2U6eA",       // no padding
            "Basic YWxpY2U=",         // no colon
            "Basic YWxpY2U6b3Blbgo=", // a line break
            "Basic YToAYg==",         // a NUL
            "Basic YTpi YTpi",
            "Basic YTpj,YTpi",
        ] {
            assert_eq!(read(&[line]), Credentials::Malformed(AuthScheme::Basic), "{line}");
        }
        assert_eq!(read(&["Bearer a", "Bearer a"]), Credentials::Malformed(AuthScheme::Bearer));
        assert_eq!(read(&["Basic YTpi", "Bearer a"]), Credentials::Malformed(AuthScheme::Basic));
    }

    #[test]
    fn no_debug_output_has_a_secret() {
        let shown = format!("{:?} {:?}", read(&["Basic YWxpY2U6b3BlbiBzZXNhbWU="]), read(&["Bearer secret"]));
        assert!(shown.contains("alice") && !shown.contains("sesame") && !shown.contains("secret"), "{shown}");
    }
}
