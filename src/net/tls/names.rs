//! Chooses the certificate for a server name (RFC 6066 §3, RFC 9525 §6.3).

use std::collections::HashMap;

/// Indices of certificates by their DNS names in lower case, wildcards such as `*.example.com` among them.
#[derive(Debug, Default)]
pub(super) struct CertificateNames(HashMap<String, usize>);

impl CertificateNames {
    /// Adds `name` for the certificate at `index`, unless an earlier one has it.
    pub(super) fn add(&mut self, name: &str, index: usize) {
        self.0.entry(name.to_ascii_lowercase()).or_insert(index);
    }

    /// The index of the certificate for `name`: one with exactly that name, else one with a matching wildcard, else the
    /// first.
    pub(super) fn find(&self, name: Option<&str>) -> usize {
        let Some(name) = name else { return 0 };
        let name = name.to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        let wildcard = || self.0.get(&format!("*.{}", name.split_once('.')?.1));
        self.0.get(name).or_else(wildcard).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_matches_exactly_else_a_wildcard_of_one_label_else_the_first_certificate() {
        let mut names = CertificateNames::default();
        let lists: [&[&str]; 4] =
            [&["first.test"], &["*.example.com", "example.com"], &["www.Example.com"], &["example.com"]];
        for (index, list) in lists.into_iter().enumerate() {
            list.iter().for_each(|name| names.add(name, index));
        }
        for (name, index) in [
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
            assert_eq!(names.find(name), index, "{name:?}");
        }
    }
}
