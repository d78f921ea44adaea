//! Who may have a part of the site.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::setting::{SettingValue, TomlForms, ValueError, deserialize_by_text};

/// What opens a path: any one of the ways, and for names those of the users, where they are named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessRule {
    /// The ways, at least one.
    pub ways: AuthMethods,
    /// Names that are let in by token or password; none: all that the files have.
    pub users: Option<Arc<[String]>>,
}

/// Ways to a path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AuthMethods {
    /// `public`: it is for everybody.
    pub public: bool,
    /// `link`: a signed link.
    pub link: bool,
    /// `bearer`: a token (RFC 6750).
    pub bearer: bool,
    /// `basic`: a name and a password (RFC 7617).
    pub basic: bool,
}

impl AccessRule {
    /// Whether `name` is among the users.
    pub fn admits(&self, name: &str) -> bool {
        self.users.as_ref().is_none_or(|users| users.iter().any(|user| user == name))
    }
}

impl AuthMethods {
    /// Each of them with its word.
    fn words(self) -> [(&'static str, bool); 4] {
        [("public", self.public), ("link", self.link), ("bearer", self.bearer), ("basic", self.basic)]
    }
}

impl FromStr for AuthMethods {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() {
            return Err(ValueError::EMPTY);
        }
        let mut ways = Self::default();
        for word in text.split(',').map(str::trim) {
            let way = match word {
                "public" => &mut ways.public,
                "link" => &mut ways.link,
                "bearer" => &mut ways.bearer,
                "basic" => &mut ways.basic,
                other => {
                    return Err(ValueError::new(format!("has the unknown way `{}`", other.escape_debug())));
                }
            };
            if std::mem::replace(way, true) {
                return Err(ValueError::new(format!("has {word} in it twice")));
            }
        }
        if ways.public && ways != (Self { public: true, ..Self::default() }) {
            return Err(ValueError::new("has public beside others, which would be of no use"));
        }
        Ok(ways)
    }
}

impl fmt::Display for AuthMethods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> =
            self.words().into_iter().filter_map(|(word, is_open)| is_open.then_some(word)).collect();
        f.write_str(&words.join(","))
    }
}

impl SettingValue for AuthMethods {
    type Bounds = ();
    const FORMS: TomlForms = TomlForms::LIST;
    const METAVAR: &'static str = "WAYS";

    fn accepted((): &()) -> String {
        "public, or one or a list of link, bearer and basic".to_owned()
    }

    fn check(&self, (): &()) -> Result<(), ValueError> {
        Ok(())
    }
}

deserialize_by_text!(AuthMethods);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_are_read_and_written() {
        for (text, written) in [
            ("public", "public"),
            ("link", "link"),
            ("basic, link", "link,basic"),
            ("link,bearer,basic", "link,bearer,basic"),
        ] {
            assert_eq!(text.parse::<AuthMethods>().expect(text).to_string(), written);
        }
        for (text, reason) in [
            ("", "is empty"),
            ("private", "has the unknown way `private`"),
            ("Basic", "has the unknown way `Basic`"),
            ("link,link", "has link in it twice"),
            ("link,", "has the unknown way ``"),
            ("public,link", "has public beside others, which would be of no use"),
        ] {
            assert_eq!(text.parse::<AuthMethods>(), Err(ValueError::new(reason)), "{text}");
        }
    }

    #[test]
    fn users_narrow_who_is_admitted() {
        let choice = |users: Option<&[&str]>| AccessRule {
            ways: AuthMethods::default(),
            users: users.map(|users| users.iter().map(|&user| user.to_owned()).collect()),
        };
        assert!(choice(None).admits("anybody"));
        assert!(choice(Some(&["alice", "bob"])).admits("bob"));
        assert!(!choice(Some(&["alice", "bob"])).admits("Bob"));
    }
}
