//! How much of a representation a request is answered with (RFC 9110 §13.2.2, §14.2).

use super::date::HttpDate;
use super::entity_tag::EntityTag;
use super::method::Method;
use super::multipart::body_length;
use super::precondition::{PreconditionResult, Preconditions, Validators};
use super::range::{ByteRange, Selection, select};

/// What a GET or HEAD asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestFacts<'a> {
    /// Whether only the head is asked for (HEAD).
    pub head_only: bool,
    /// The Range field.
    pub range: Option<&'a [u8]>,
    /// The conditional fields.
    pub preconditions: Preconditions<'a>,
}

/// What there is to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Representation<'a> {
    /// Length in bytes.
    pub length: u64,
    /// The ETag.
    pub etag: &'a EntityTag<'a>,
    /// The Last-Modified, unless no date can say it.
    pub last_modified: Option<HttpDate>,
    /// Whether the date stands for these very bytes: not where another coding of the same date may be sent for the same
    /// request (§8.8.2.2). If-Range by a date then gives the whole.
    pub dates_are_strong: bool,
    /// The Content-Type, which the parts of a multipart body repeat.
    pub media_type: &'a [u8],
}

/// How a request is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 200 and all of it.
    Whole,
    /// 206 and one range.
    Part(ByteRange),
    /// 206 and several ranges as `multipart/byteranges`, in a body that is no longer than the whole.
    Parts(Vec<ByteRange>),
    /// 304.
    NotModified,
    /// 412.
    PreconditionFailed,
    /// 416.
    NotSatisfiable,
}

/// Decides how a GET or HEAD is answered from a representation that exists.
///
/// Preconditions come first, in their order. Range counts for GET alone, and only if If-Range permits it.
/// Ranges that would make a longer body than the whole representation, their heads included, give the whole.
pub fn decide(asked: &RequestFacts<'_>, has: &Representation<'_>) -> Answer {
    let validators = Validators { etag: has.etag, last_modified: has.last_modified };
    let method = if asked.head_only { Method::Head } else { Method::Get };
    match asked.preconditions.evaluate(method, &validators) {
        PreconditionResult::NotModified => Answer::NotModified,
        PreconditionResult::Failed => Answer::PreconditionFailed,
        PreconditionResult::Proceed => match asked.range {
            Some(range) if !asked.head_only && permits_range(asked, has) => answer_range(range, has),
            _ => Answer::Whole,
        },
    }
}

fn permits_range(asked: &RequestFacts<'_>, has: &Representation<'_>) -> bool {
    let last_modified = has.last_modified.filter(|_| has.dates_are_strong);
    asked.preconditions.permit_range(&Validators { etag: has.etag, last_modified })
}

fn answer_range(range_field: &[u8], has: &Representation<'_>) -> Answer {
    match select(range_field, has.length) {
        Selection::Ignore => Answer::Whole,
        Selection::NotSatisfiable => Answer::NotSatisfiable,
        Selection::One(range) => Answer::Part(range),
        Selection::Many(ranges) if body_length(&ranges, has.media_type.len(), has.length) > has.length => {
            Answer::Whole
        }
        Selection::Many(ranges) => Answer::Parts(ranges),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODIFIED: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";

    fn decide_for(length: u64, asked: RequestFacts<'_>) -> Answer {
        let etag = EntityTag::parse(b"\"a\"").unwrap();
        let last_modified = HttpDate::parse(MODIFIED);
        decide(
            &asked,
            &Representation {
                length,
                etag: &etag,
                last_modified,
                dates_are_strong: true,
                media_type: b"text/plain",
            },
        )
    }

    fn range(start: u64, end: u64) -> ByteRange {
        ByteRange::new(start, end, u64::MAX).unwrap()
    }

    fn get<'a>() -> RequestFacts<'a> {
        RequestFacts::default()
    }

    #[test]
    fn a_plain_request_is_answered_with_the_whole() {
        assert_eq!(decide_for(1000, get()), Answer::Whole);
        assert_eq!(decide_for(1000, RequestFacts { head_only: true, ..get() }), Answer::Whole);
        assert_eq!(decide_for(0, get()), Answer::Whole);
    }

    #[test]
    fn a_range_is_answered_with_what_it_selects() {
        for (field, expected) in [
            ("bytes=0-4", Answer::Part(range(0, 5))),
            ("bytes=0-", Answer::Part(range(0, 1000))),
            ("bytes=900-909,0-9", Answer::Parts(vec![range(900, 910), range(0, 10)])),
            ("bytes=1000-", Answer::NotSatisfiable),
            ("bytes=4-2", Answer::Whole),
            ("lines=0-4", Answer::Whole),
        ] {
            let asked = RequestFacts { range: Some(field.as_bytes()), ..get() };
            assert_eq!(decide_for(1000, asked), expected, "{field}");
        }
    }

    #[test]
    fn a_head_request_has_no_ranges() {
        for field in [b"bytes=0-4".as_slice(), b"bytes=1000-"] {
            let asked = RequestFacts { head_only: true, range: Some(field), ..get() };
            assert_eq!(decide_for(1000, asked), Answer::Whole);
        }
    }

    #[test]
    fn ranges_whose_body_would_be_longer_than_the_whole_give_the_whole() {
        let field = b"bytes=0-9,150-159".as_slice();
        let exact = body_length(&[range(0, 10), range(150, 160)], b"text/plain".len(), 300);
        let asked = RequestFacts { range: Some(field), ..get() };
        assert_eq!(decide_for(exact, asked), Answer::Parts(vec![range(0, 10), range(150, 160)]));
        assert_eq!(decide_for(exact - 1, asked), Answer::Whole);
    }

    #[test]
    fn preconditions_come_before_ranges() {
        let preconditions = Preconditions { if_none_match: Some(b"\"a\""), ..Default::default() };
        let asked = RequestFacts { range: Some(b"bytes=1000-"), preconditions, ..get() };
        assert_eq!(decide_for(1000, asked), Answer::NotModified);
        let preconditions = Preconditions { if_match: Some(b"\"b\""), ..Default::default() };
        let asked = RequestFacts { range: Some(b"bytes=0-4"), preconditions, ..get() };
        assert_eq!(decide_for(1000, asked), Answer::PreconditionFailed);
    }

    #[test]
    fn if_range_of_another_version_gives_the_whole() {
        for (if_range, field, expected) in [
            ("\"a\"", "bytes=0-4", Answer::Part(range(0, 5))),
            ("Sun, 06 Nov 1994 08:49:37 GMT", "bytes=0-4", Answer::Part(range(0, 5))),
            ("\"a\"", "bytes=1000-", Answer::NotSatisfiable),
            ("\"b\"", "bytes=0-4", Answer::Whole),
            ("\"b\"", "bytes=1000-", Answer::Whole),
            ("Sun, 06 Nov 1994 08:49:38 GMT", "bytes=0-4", Answer::Whole),
        ] {
            let preconditions = Preconditions { if_range: Some(if_range.as_bytes()), ..Default::default() };
            let asked = RequestFacts { range: Some(field.as_bytes()), preconditions, ..get() };
            assert_eq!(decide_for(1000, asked), expected, "{if_range} {field}");
        }
    }

    #[test]
    fn if_range_without_a_range_changes_nothing() {
        let preconditions = Preconditions { if_range: Some(b"\"b\""), ..Default::default() };
        assert_eq!(decide_for(1000, RequestFacts { preconditions, ..get() }), Answer::Whole);
    }
}
