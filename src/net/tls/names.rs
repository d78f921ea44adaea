//! Which certificate a client asks for (RFC 6066 §3, RFC 9525 §6.3).

use std::collections::HashMap;

/// Certificates by the names that they are for, each by its place in a list.
#[derive(Debug, Default)]
pub(super) struct CertificateNames {
    exact: HashMap<String, usize>,
    /// What follows the first label of names like `*.example.com`.
    wild: HashMap<String, usize>,
}

impl CertificateNames {
    /// The certificate at `place` is for `name`, unless one before it is.
    pub(super) fn add(&mut self, name: &str, place: usize) {
        let name = name.to_ascii_lowercase();
        match name.strip_prefix("*.") {
            Some(parent) => self.wild.entry(parent.to_owned()).or_insert(place),
            None => self.exact.entry(name).or_insert(place),
        };
    }

    /// The place of the certificate for `asked`: one of exactly that name, else one of all names beside it, else the first.
    pub(super) fn find(&self, asked: Option<&str>) -> usize {
        let Some(asked) = asked else { return 0 };
        let asked = asked.to_ascii_lowercase();
        let asked = asked.strip_suffix('.').unwrap_or(&asked);
        let beside = || asked.split_once('.').and_then(|(_, parent)| self.wild.get(parent));
        self.exact.get(asked).or_else(beside).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_exactly_else_by_a_wildcard_of_one_label_else_the_first_is_taken() {
        let mut names = CertificateNames::default();
        let lists: [&[&str]; 4] =
            [&["first.test"], &["*.example.com", "example.com"], &["www.Example.com"], &["example.com"]];
        for (place, list) in lists.into_iter().enumerate() {
            list.iter().for_each(|name| names.add(name, place));
        }
        for (asked, place) in [
            (None, 0),
            (Some("first.test"), 0),
            (Some("unknown.test"), 0),
            (Some("example.com"), 1),
            (Some("a.example.com"), 1),
            (Some("A.EXAMPLE.com"), 1),
            (Some("www.example.com"), 2),
            (Some("WWW.example.COM."), 2),
            (Some("a.b.example.com"), 0),
            (Some("com"), 0),
            (Some(""), 0),
            (Some("."), 0),
        ] {
            assert_eq!(names.find(asked), place, "{asked:?}");
        }
    }
}
