//! Origins that may read across origins.

use std::fmt;
use std::str::FromStr;

use super::setting::{SettingValue, TomlForms, ValueError, deserialize_by_text};
use crate::config::duration_setting::DurationSetting;
use crate::http::cors::{AllowedOrigins, OriginPattern};

/// `*`, or a comma list of origins; in the file also a list of strings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginList(AllowedOrigins);

impl OriginList {
    /// The origins.
    pub fn origins(&self) -> &AllowedOrigins {
        &self.0
    }
}

impl FromStr for OriginList {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "" => return Err(ValueError::EMPTY),
            "*" => return Ok(Self(AllowedOrigins::Any)),
            _ => {}
        }
        let mut patterns = Vec::new();
        for part in text.split(',').map(str::trim) {
            match part {
                "" => return Err(ValueError::new("has an empty place in its list")),
                "*" => return Err(ValueError::new("has * beside other origins, which it includes")),
                _ => {}
            }
            let pattern = OriginPattern::parse(part).map_err(|reason| {
                ValueError::new(format!("has `{}` in it, which {reason}", part.escape_debug()))
            })?;
            if patterns.contains(&pattern) {
                return Err(ValueError::new(format!("has {part} in it twice")));
            }
            patterns.push(pattern);
        }
        Ok(Self(AllowedOrigins::These(patterns)))
    }
}

impl fmt::Display for OriginList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            AllowedOrigins::Any => f.write_str("*"),
            AllowedOrigins::These(patterns) => {
                let texts: Vec<String> = patterns.iter().map(ToString::to_string).collect();
                f.write_str(&texts.join(","))
            }
        }
    }
}

impl SettingValue for OriginList {
    type Bounds = ();
    const FORMS: TomlForms = TomlForms::LIST;
    const METAVAR: &'static str = "ORIGINS";

    fn accepted((): &()) -> String {
        "*, or a list of origins such as https://example.com, http://localhost:3000, https://*.example.com or null"
            .to_owned()
    }

    fn check(&self, (): &()) -> Result<(), ValueError> {
        Ok(())
    }
}

deserialize_by_text!(OriginList);

/// The time for which the answer to a preflight is remembered, unless something else is said.
pub(crate) const CORS_MAX_AGE: DurationSetting = DurationSetting::minutes(10);

/// No browser remembers for longer than a day.
pub(crate) const CORS_MAX_AGE_BOUNDS: std::ops::RangeInclusive<DurationSetting> =
    DurationSetting::ZERO..=DurationSetting::hours(24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read_and_written() {
        for (text, written) in [
            ("*", "*"),
            ("https://a", "https://a"),
            ("https://a, https://*.b:8443,null", "https://a,https://*.b:8443,null"),
        ] {
            assert_eq!(text.parse::<OriginList>().expect(text).to_string(), written);
        }
        for (text, reason) in [
            ("", "is empty"),
            ("https://a,", "has an empty place in its list"),
            ("*,https://a", "has * beside other origins, which it includes"),
            ("https://a,https://a", "has https://a in it twice"),
            ("https://a/", "has `https://a/` in it, which ends with a slash, which browsers do not send"),
        ] {
            assert_eq!(text.parse::<OriginList>(), Err(ValueError::new(reason)), "{text}");
        }
    }
}
