//! Sets of words, written with commas between them.

use std::fmt;
use std::mem;
use std::str::FromStr;

use super::setting::{TomlForms, ValueError, setting_value};
use super::toggle::OFF;

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

/// Algorithms of the digests in responses (RFC 9530); neither: off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DigestChoice {
    /// `sha-256`, also written `true`.
    pub sha256: bool,
    /// `sha-512`
    pub sha512: bool,
}

impl FromStr for DigestChoice {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let mut choice = Self::default();
        match text {
            "false" | OFF => {}
            "true" | "on" => choice.sha256 = true,
            _ => read_flags(text, [("sha-256", &mut choice.sha256), ("sha-512", &mut choice.sha512)])?,
        }
        Ok(choice)
    }
}

impl fmt::Display for DigestChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { sha256: false, sha512: false } => f.write_str(OFF),
            _ => write_flags(f, &[("sha-256", self.sha256), ("sha-512", self.sha512)]),
        }
    }
}

setting_value!(
    DigestChoice: "ALGORITHMS", TomlForms { boolean: true, ..TomlForms::LIST },
    "true, sha-256, sha-512, a list of them, or off"
);

/// Sets the flag of each word of a comma list.
fn read_flags<const N: usize>(text: &str, mut flags: [(&str, &mut bool); N]) -> Result<(), ValueError> {
    if text.is_empty() {
        return Err(ValueError::EMPTY);
    }
    for word in text.split(',').map(str::trim) {
        let Some((_, flag)) = flags.iter_mut().find(|(name, _)| *name == word) else {
            return Err(ValueError::new(format!("contains the unknown word `{}`", word.escape_debug())));
        };
        if mem::replace(*flag, true) {
            return Err(ValueError::new(format!("contains {word} twice")));
        }
    }
    Ok(())
}

/// Writes the words whose flags are set, with commas between them.
fn write_flags(f: &mut fmt::Formatter<'_>, flags: &[(&str, bool)]) -> fmt::Result {
    let words: Vec<&str> = flags.iter().filter_map(|(word, is_set)| is_set.then_some(*word)).collect();
    f.write_str(&words.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_read_and_written() {
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
    fn algorithms_are_read_and_written() {
        for (text, written) in [
            ("true", "sha-256"),
            ("sha-256", "sha-256"),
            ("sha-512", "sha-512"),
            ("sha-512, sha-256", "sha-256,sha-512"),
            ("false", "off"),
            ("off", "off"),
        ] {
            assert_eq!(text.parse::<DigestChoice>().expect(text).to_string(), written);
        }
        for (text, reason) in [
            ("", "is empty"),
            ("md5", "contains the unknown word `md5`"),
            ("sha-256,sha-256", "contains sha-256 twice"),
            ("sha-256,", "contains the unknown word ``"),
        ] {
            assert_eq!(text.parse::<DigestChoice>(), Err(ValueError::new(reason)), "{text}");
        }
    }
}
