//! Header fields that tell browsers what to deny, checked as far as a slip would turn them off in silence.

use std::fmt;
use std::str::FromStr;

use super::setting::{SettingValue, TomlForms, ValueError, deserialize_by_text};
use crate::config::header_value::ConfigHeaderValue;

/// The value of Strict-Transport-Security (RFC 6797 §6.1): directives of which `max-age` is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportSecurity(ConfigHeaderValue);

impl TransportSecurity {
    /// The value of the field.
    pub fn value(&self) -> &ConfigHeaderValue {
        &self.0
    }
}

impl FromStr for TransportSecurity {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let value: ConfigHeaderValue = text.parse()?;
        let mut names: Vec<String> = Vec::new();
        for directive in text.split(';').map(|directive| directive.trim_matches([' ', '\t'])) {
            let (name, argument) = directive.split_once('=').unwrap_or((directive, ""));
            let name = name.trim_end_matches([' ', '\t']).to_ascii_lowercase();
            let argument = argument.trim_start_matches([' ', '\t']).trim_matches('"');
            let is_seconds = !argument.is_empty() && argument.bytes().all(|byte| byte.is_ascii_digit());
            if name == MAX_AGE && !is_seconds {
                return Err(ValueError::new("has a max-age that is not a number of seconds"));
            }
            if !name.is_empty() && names.contains(&name) {
                return Err(ValueError::new(format!("has the directive {name} twice")));
            }
            names.push(name);
        }
        if !names.iter().any(|name| name == MAX_AGE) {
            return Err(ValueError::new("has no max-age, without which browsers ignore it"));
        }
        Ok(Self(value))
    }
}

/// The value of Referrer-Policy: one known policy, or several of which browsers take the last that they know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferrerPolicy(ConfigHeaderValue);

impl ReferrerPolicy {
    /// The value of the field.
    pub fn value(&self) -> &ConfigHeaderValue {
        &self.0
    }
}

impl FromStr for ReferrerPolicy {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let value: ConfigHeaderValue = text.parse()?;
        let unknown = text.split(',').map(str::trim).find(|word| !REFERRER_POLICIES.contains(word));
        match unknown {
            Some(word) => Err(ValueError::new(format!("has the unknown policy `{}`", word.escape_debug()))),
            None => Ok(Self(value)),
        }
    }
}

/// Both are written as they were read.
macro_rules! written_as_read {
    ($($name:ident, $metavar:literal, $accepted:expr;)+) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl SettingValue for $name {
            type Bounds = ();
            const FORMS: TomlForms = TomlForms::TEXT;
            const METAVAR: &'static str = $metavar;

            fn accepted((): &()) -> String {
                $accepted
            }

            fn check(&self, (): &()) -> Result<(), ValueError> {
                Ok(())
            }
        }

        deserialize_by_text!($name);
    )+};
}

written_as_read! {
    TransportSecurity, "VALUE", "directives such as max-age=31536000; includeSubDomains".to_owned();
    ReferrerPolicy, "POLICY", format!("one of {}, or several with commas", REFERRER_POLICIES.join(", "));
}

const MAX_AGE: &str = "max-age";

/// Those of the W3C's Referrer Policy, §3.
const REFERRER_POLICIES: &[&str] = &[
    "no-referrer",
    "no-referrer-when-downgrade",
    "same-origin",
    "origin",
    "strict-origin",
    "origin-when-cross-origin",
    "strict-origin-when-cross-origin",
    "unsafe-url",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transport_security_has_a_max_age() {
        for text in [
            "max-age=0",
            "max-age=31536000; includeSubDomains; preload",
            "includeSubDomains;Max-Age=\"5\"",
            "max-age=1;",
        ] {
            assert_eq!(text.parse::<TransportSecurity>().expect(text).to_string(), text);
        }
        for (text, reason) in [
            ("", "is empty"),
            ("includeSubDomains", "has no max-age, without which browsers ignore it"),
            ("max-age", "has a max-age that is not a number of seconds"),
            ("max-age=1y", "has a max-age that is not a number of seconds"),
            ("max-age=1; max-age=2", "has the directive max-age twice"),
            ("max-age=1\n", "has a line break in it"),
        ] {
            assert_eq!(text.parse::<TransportSecurity>(), Err(ValueError::new(reason)), "{text:?}");
        }
    }

    #[test]
    fn a_referrer_policy_is_of_known_words() {
        for text in ["no-referrer", "no-referrer, strict-origin-when-cross-origin"] {
            assert_eq!(text.parse::<ReferrerPolicy>().expect(text).to_string(), text);
        }
        for (text, reason) in [
            ("", "is empty"),
            ("none", "has the unknown policy `none`"),
            ("origin,", "has the unknown policy ``"),
            ("Origin", "has the unknown policy `Origin`"),
        ] {
            assert_eq!(text.parse::<ReferrerPolicy>(), Err(ValueError::new(reason)), "{text}");
        }
    }
}
