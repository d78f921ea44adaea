//! Authentication methods that a rule accepts.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::comma_list::{read_flags, write_flags};
use super::setting::{TomlForms, ValueError, setting_value};

/// Access rule of a path: any one of the methods gives access, to the named users if there are any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessRule {
    /// Accepted methods, at least one.
    pub methods: AuthMethods,
    /// Names that tokens and passwords must belong to. `None`: every name in the files.
    pub users: Option<Arc<[String]>>,
}

/// Set of authentication methods.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AuthMethods {
    /// `public`: no authentication.
    pub public: bool,
    /// `link`: a signed URL.
    pub link: bool,
    /// `bearer`: a token (RFC 6750).
    pub bearer: bool,
    /// `basic`: a name and a password (RFC 7617).
    pub basic: bool,
}

impl AccessRule {
    /// True if the rule accepts the user `name`.
    pub fn admits(&self, name: &str) -> bool {
        self.users.as_ref().is_none_or(|users| users.iter().any(|user| user == name))
    }
}

impl FromStr for AuthMethods {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let mut methods = Self::default();
        let Self { public, link, bearer, basic } = &mut methods;
        read_flags(text, [("public", public), ("link", link), ("bearer", bearer), ("basic", basic)])?;
        if methods.public && methods != (Self { public: true, ..Self::default() }) {
            return Err(ValueError::new("has public besides others, which would have no effect"));
        }
        Ok(methods)
    }
}

impl fmt::Display for AuthMethods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { public, link, bearer, basic } = *self;
        write_flags(f, &[("public", public), ("link", link), ("bearer", bearer), ("basic", basic)])
    }
}

setting_value!(
    AuthMethods: "METHODS", TomlForms::LIST, "public, or one or a list of link, bearer and basic"
);

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
            ("private", "contains the unknown word `private`"),
            ("Basic", "contains the unknown word `Basic`"),
            ("link,link", "contains link twice"),
            ("link,", "contains the unknown word ``"),
            ("public,link", "has public besides others, which would have no effect"),
        ] {
            assert_eq!(text.parse::<AuthMethods>(), Err(ValueError::new(reason)), "{text}");
        }
    }

    #[test]
    fn users_narrow_who_is_admitted() {
        let choice = |users: Option<&[&str]>| AccessRule {
            methods: AuthMethods::default(),
            users: users.map(|users| users.iter().map(|&user| user.to_owned()).collect()),
        };
        assert!(choice(None).admits("anybody"));
        assert!(choice(Some(&["alice", "bob"])).admits("bob"));
        assert!(!choice(Some(&["alice", "bob"])).admits("Bob"));
    }
}
