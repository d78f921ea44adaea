//! Preconditions (RFC 9110 §13) in the order of §13.2.2.

use super::date::HttpDate;
use super::entity_tag::{EntityTag, if_match_names, if_none_match_names};

/// The conditional headers of a request. Several lines of one header are joined with `, ` by the caller.
#[derive(Clone, Copy, Debug, Default)]
pub struct Preconditions<'a> {
    /// If-Match (§13.1.1).
    pub if_match: Option<&'a [u8]>,
    /// If-Unmodified-Since (§13.1.4).
    pub if_unmodified_since: Option<&'a [u8]>,
    /// If-None-Match (§13.1.2).
    pub if_none_match: Option<&'a [u8]>,
    /// If-Modified-Since (§13.1.3).
    pub if_modified_since: Option<&'a [u8]>,
    /// If-Range (§13.1.5).
    pub if_range: Option<&'a [u8]>,
}

/// The validators of a representation (RFC 9110 §8.8).
#[derive(Clone, Copy, Debug)]
pub struct Validators<'a> {
    /// The ETag.
    pub etag: &'a EntityTag<'a>,
    /// The Last-Modified; `None` if an HTTP date cannot express it.
    pub last_modified: Option<HttpDate>,
}

/// The result of the preconditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreconditionResult {
    /// Perform the method.
    Proceed,
    /// The client has this version (304).
    NotModified,
    /// The client expects another version, or none (412).
    Failed,
}

impl Preconditions<'_> {
    /// Evaluates all but If-Range for a GET or HEAD of a representation that exists.
    ///
    /// An invalid date counts as absent, and so does any date when the representation has none. Each date counts only without
    /// its entity-tag header.
    pub fn evaluate(&self, validators: &Validators<'_>) -> PreconditionResult {
        let is_expected = match self.if_match {
            Some(list) => if_match_names(list, validators.etag),
            None => modified_after(self.if_unmodified_since, validators) != Some(true),
        };
        let is_known = || match self.if_none_match {
            Some(list) => if_none_match_names(list, validators.etag),
            None => modified_after(self.if_modified_since, validators) == Some(false),
        };
        match is_expected {
            false => PreconditionResult::Failed,
            true if is_known() => PreconditionResult::NotModified,
            true => PreconditionResult::Proceed,
        }
    }

    /// Whether a Range header counts: there is no If-Range, or it names this version.
    ///
    /// A tag is compared strongly. A date must equal the Last-Modified (§13.1.5).
    pub fn permit_range(&self, validators: &Validators<'_>) -> bool {
        let Some(if_range) = self.if_range else { return true };
        match EntityTag::parse(if_range) {
            Some(tag) => tag.strong_eq(validators.etag),
            None => HttpDate::parse(if_range).is_some_and(|date| validators.last_modified == Some(date)),
        }
    }
}

/// Whether the representation was modified after the date in a header; `None` if a date is missing or invalid.
fn modified_after(header: Option<&[u8]>, validators: &Validators<'_>) -> Option<bool> {
    let date = HttpDate::parse(header?)?;
    Some(validators.last_modified? > date)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &[u8] = b"Sun, 06 Nov 1994 08:49:36 GMT";
    const MODIFIED: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";
    const AFTER: &[u8] = b"Sun, 06 Nov 1994 08:49:38 GMT";

    fn check(preconditions: Preconditions<'_>, expected: PreconditionResult) {
        let etag = EntityTag::parse(b"\"a\"").unwrap();
        let validators = Validators { etag: &etag, last_modified: HttpDate::parse(MODIFIED) };
        assert_eq!(preconditions.evaluate(&validators), expected, "{preconditions:?}");
    }

    fn none<'a>() -> Preconditions<'a> {
        Preconditions::default()
    }

    #[test]
    fn without_a_condition_the_method_proceeds() {
        check(none(), PreconditionResult::Proceed);
    }

    #[test]
    fn if_match_fails_unless_it_names_the_version_strongly() {
        for (list, expected) in [
            ("\"a\"", PreconditionResult::Proceed),
            ("*", PreconditionResult::Proceed),
            ("\"b\", \"a\"", PreconditionResult::Proceed),
            ("\"b\"", PreconditionResult::Failed),
            ("W/\"a\"", PreconditionResult::Failed),
            ("garbage", PreconditionResult::Failed),
            ("", PreconditionResult::Failed),
        ] {
            check(Preconditions { if_match: Some(list.as_bytes()), ..none() }, expected);
        }
    }

    #[test]
    fn if_unmodified_since_fails_for_a_later_version() {
        for (date, expected) in [
            (BEFORE, PreconditionResult::Failed),
            (MODIFIED, PreconditionResult::Proceed),
            (AFTER, PreconditionResult::Proceed),
            (b"yesterday", PreconditionResult::Proceed),
        ] {
            check(Preconditions { if_unmodified_since: Some(date), ..none() }, expected);
        }
    }

    #[test]
    fn if_none_match_gives_304_for_a_version_the_client_has() {
        for (list, expected) in [
            ("\"a\"", PreconditionResult::NotModified),
            ("W/\"a\"", PreconditionResult::NotModified),
            ("*", PreconditionResult::NotModified),
            ("\"b\"", PreconditionResult::Proceed),
            ("garbage", PreconditionResult::Proceed),
        ] {
            check(Preconditions { if_none_match: Some(list.as_bytes()), ..none() }, expected);
        }
    }

    #[test]
    fn if_modified_since_gives_304_unless_the_version_is_later() {
        for (date, expected) in [
            (BEFORE, PreconditionResult::Proceed),
            (MODIFIED, PreconditionResult::NotModified),
            (AFTER, PreconditionResult::NotModified),
            (b"Sun Nov  6 08:49:37 1994", PreconditionResult::NotModified),
            (b"yesterday", PreconditionResult::Proceed),
            (b"", PreconditionResult::Proceed),
        ] {
            check(Preconditions { if_modified_since: Some(date), ..none() }, expected);
        }
    }

    #[test]
    fn an_entity_tag_header_overrides_its_date() {
        check(
            Preconditions { if_match: Some(b"\"a\""), if_unmodified_since: Some(BEFORE), ..none() },
            PreconditionResult::Proceed,
        );
        check(
            Preconditions { if_none_match: Some(b"\"b\""), if_modified_since: Some(AFTER), ..none() },
            PreconditionResult::Proceed,
        );
        check(
            Preconditions { if_none_match: Some(b"garbage"), if_modified_since: Some(AFTER), ..none() },
            PreconditionResult::Proceed,
        );
    }

    #[test]
    fn a_failed_precondition_comes_before_not_modified() {
        check(
            Preconditions { if_match: Some(b"\"b\""), if_none_match: Some(b"\"a\""), ..none() },
            PreconditionResult::Failed,
        );
        check(
            Preconditions { if_unmodified_since: Some(BEFORE), if_modified_since: Some(AFTER), ..none() },
            PreconditionResult::Failed,
        );
    }

    #[test]
    fn without_a_modification_date_dates_are_ignored() {
        let etag = EntityTag::parse(b"\"a\"").unwrap();
        let validators = Validators { etag: &etag, last_modified: None };
        for preconditions in [
            Preconditions { if_unmodified_since: Some(BEFORE), ..none() },
            Preconditions { if_modified_since: Some(AFTER), ..none() },
        ] {
            assert_eq!(preconditions.evaluate(&validators), PreconditionResult::Proceed);
        }
    }

    #[test]
    fn if_range_permits_only_the_very_version() {
        let etag = EntityTag::parse(b"\"a\"").unwrap();
        let validators = Validators { etag: &etag, last_modified: HttpDate::parse(MODIFIED) };
        for (header, expected) in [
            (None, true),
            (Some(b"\"a\"".as_slice()), true),
            (Some(b"W/\"a\""), false),
            (Some(b"\"b\""), false),
            (Some(b"\"a\", \"a\""), false),
            (Some(b"*"), false),
            (Some(MODIFIED), true),
            (Some(b"Sunday, 06-Nov-94 08:49:37 GMT"), true),
            (Some(BEFORE), false),
            (Some(AFTER), false),
            (Some(b"garbage"), false),
            (Some(b""), false),
        ] {
            let preconditions = Preconditions { if_range: header, ..none() };
            assert_eq!(preconditions.permit_range(&validators), expected, "{preconditions:?}");
        }
    }
}
