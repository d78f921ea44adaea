//! Hosts that a redirect may name.

use std::fmt;
use std::str::FromStr;

use super::setting::{SettingValue, TomlForms, ValueError, deserialize_by_text};
use crate::http::host_pattern::HostPattern;

/// A comma list of hosts, in the file also a list of strings; or `any`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostList(Vec<HostPattern>);

impl HostList {
    /// Every host.
    pub const fn any() -> Self {
        Self(Vec::new())
    }

    /// The hosts; empty for any.
    pub fn as_slice(&self) -> &[HostPattern] {
        &self.0
    }
}

impl FromStr for HostList {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "" => return Err(ValueError::EMPTY),
            ANY => return Ok(Self::any()),
            _ => {}
        }
        let mut hosts = Vec::new();
        for part in text.split(',').map(str::trim) {
            if part == ANY {
                return Err(ValueError::new("has any beside other hosts, which it includes"));
            }
            let host = HostPattern::parse(part).map_err(|reason| {
                ValueError::new(format!("has `{}` in it, which {reason}", part.escape_debug()))
            })?;
            if hosts.contains(&host) {
                return Err(ValueError::new(format!("has {host} in it twice")));
            }
            hosts.push(host);
        }
        Ok(Self(hosts))
    }
}

impl fmt::Display for HostList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(if texts.is_empty() { ANY.to_owned() } else { texts.join(",") }.as_str())
    }
}

impl SettingValue for HostList {
    type Bounds = ();
    const FORMS: TomlForms = TomlForms::LIST;
    const METAVAR: &'static str = "HOSTS";

    fn accepted((): &()) -> String {
        "a list of hosts without ports such as example.com or *.example.com, or any".to_owned()
    }

    fn check(&self, (): &()) -> Result<(), ValueError> {
        Ok(())
    }
}

deserialize_by_text!(HostList);

const ANY: &str = "any";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_and_written() {
        for (text, written) in
            [("any", "any"), ("a.example", "a.example"), ("A.example, *.b", "a.example,*.b")]
        {
            assert_eq!(text.parse::<HostList>().expect(text).to_string(), written);
        }
        for (text, reason) in [
            ("", "is empty"),
            ("a,", "has `` in it, which is not the name of a host"),
            ("a,A", "has a in it twice"),
            ("a,any", "has any beside other hosts, which it includes"),
            ("a:80", "has `a:80` in it, which has a port, and a host has none"),
        ] {
            assert_eq!(text.parse::<HostList>(), Err(ValueError::new(reason)), "{text}");
        }
    }
}
