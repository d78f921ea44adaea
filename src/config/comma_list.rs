//! Lists of values, written with commas between them; in the file also as a list of strings.

use std::fmt::{self, Display};
use std::str::FromStr;

use super::paths::OwnPath;
use super::setting::{SettingValue, TomlForms, ValueError};
use crate::http::cors::{AllowedOrigins, OriginPattern};
use crate::http::host_pattern::HostPattern;

/// Item of a [`CommaList`]. Its parse error continues "which …".
pub trait ListItem: Clone + PartialEq + Display + FromStr<Err: Display> {
    /// Placeholder of the list in `--help`.
    const METAVAR: &'static str;

    /// The accepted lists, as a noun phrase.
    const ACCEPTED: &'static str;

    /// Word for a list without items, such as `any` or `none`. `None`: a list has at least one item.
    const EMPTY_LIST: Option<&'static str> = None;

    /// True if the list can contain the item more than once.
    fn can_repeat(&self) -> bool {
        false
    }
}

/// Items in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommaList<T>(Vec<T>);

impl<T> CommaList<T> {
    /// A list without items, for types that have a word for it.
    pub const fn empty() -> Self {
        Self(Vec::new())
    }

    /// A list of one item.
    pub fn one(item: T) -> Self {
        Self(vec![item])
    }

    /// The items.
    pub fn as_slice(&self) -> &[T] {
        &self.0
    }
}

impl<T: ListItem> FromStr for CommaList<T> {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() {
            return Err(ValueError::EMPTY);
        }
        if T::EMPTY_LIST == Some(text) {
            return Ok(Self::empty());
        }
        let mut items = Vec::new();
        for part in text.split(',').map(str::trim) {
            if part.is_empty() {
                return Err(ValueError::new("has an empty item in its list"));
            }
            if T::EMPTY_LIST == Some(part) {
                return Err(ValueError::new(format!("has {part} besides other items")));
            }
            let item = part.parse::<T>().map_err(|reason| match part == text {
                true => ValueError::new(reason.to_string()),
                false => ValueError::new(format!("contains `{}`, which {reason}", part.escape_debug())),
            })?;
            if items.contains(&item) && !item.can_repeat() {
                return Err(ValueError::new(format!("contains {part} twice")));
            }
            items.push(item);
        }
        Ok(Self(items))
    }
}

impl<T: ListItem> Display for CommaList<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items: Vec<String> = self.0.iter().map(T::to_string).collect();
        f.write_str(&if items.is_empty() {
            T::EMPTY_LIST.unwrap_or_default().to_owned()
        } else {
            items.join(",")
        })
    }
}

impl<T: ListItem> SettingValue for CommaList<T> {
    type Bounds = ();
    const FORMS: TomlForms = TomlForms::LIST;
    const METAVAR: &'static str = T::METAVAR;

    fn accepted((): &()) -> String {
        T::ACCEPTED.to_owned()
    }
}

/// Paths of files, at least one. Relative paths start at the working directory.
pub type PathList = CommaList<OwnPath>;

impl ListItem for OwnPath {
    const METAVAR: &'static str = "PATHS";
    const ACCEPTED: &'static str = "a comma list of paths";
    fn can_repeat(&self) -> bool {
        true
    }
}

/// Hosts without ports; no item: any host.
pub type HostList = CommaList<HostPattern>;

impl ListItem for HostPattern {
    const METAVAR: &'static str = "HOSTS";
    const ACCEPTED: &'static str =
        "a list of hosts without ports such as example.com or *.example.com, or any";
    const EMPTY_LIST: Option<&'static str> = Some("any");
}

/// Origins that may read responses in other pages (CORS); no item: all of them, written `*`.
pub type OriginList = CommaList<OriginPattern>;

impl ListItem for OriginPattern {
    const METAVAR: &'static str = "ORIGINS";
    const ACCEPTED: &'static str = "*, or a list of origins such as https://example.com, http://localhost:3000, \
                                    https://*.example.com or null";
    const EMPTY_LIST: Option<&'static str> = Some("*");
}

impl OriginList {
    /// The origins, for a CORS policy.
    pub fn origins(&self) -> AllowedOrigins {
        if self.0.is_empty() { AllowedOrigins::Any } else { AllowedOrigins::These(self.0.clone()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_paths_are_read_and_written() {
        for (text, written) in [("/a.pem", "/a.pem"), ("a.pem, /b c.pem", "a.pem,/b c.pem")] {
            assert_eq!(text.parse::<PathList>().unwrap().to_string(), written);
        }
        for text in ["", "a,,b", ",", "a\0"] {
            assert!(text.parse::<PathList>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn hosts_are_read_and_written() {
        for (text, written) in
            [("any", "any"), ("a.example", "a.example"), ("A.example, *.b", "a.example,*.b")]
        {
            assert_eq!(text.parse::<HostList>().expect(text).to_string(), written);
        }
        for (text, reason) in [
            ("", "is empty"),
            ("a,", "has an empty item in its list"),
            ("a,A", "contains A twice"),
            ("a,any", "has any besides other items"),
            ("a:80", "has a port, and a host has none"),
        ] {
            assert_eq!(text.parse::<HostList>(), Err(ValueError::new(reason)), "{text}");
        }
    }

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
            ("https://a,", "has an empty item in its list"),
            ("*,https://a", "has * besides other items"),
            ("https://a,https://a", "contains https://a twice"),
            ("https://a/", "ends with a slash, which browsers do not send"),
        ] {
            assert_eq!(text.parse::<OriginList>(), Err(ValueError::new(reason)), "{text}");
        }
    }
}
