//! The answer to a GET or HEAD: the whole representation, ranges of it, or a status (RFC 9110 §13.2.2, §14.2).

use super::date::HttpDate;
use super::entity_tag::EntityTag;
use super::multipart::body_length;
use super::precondition::{PreconditionResult, Preconditions, Validators};
use super::range::{ByteRange, Selection, select};

/// The headers of a GET or HEAD that decide its answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestFacts<'a> {
    /// Whether the method is HEAD.
    pub head_only: bool,
    /// The Range header.
    pub range: Option<&'a [u8]>,
    /// The conditional headers.
    pub preconditions: Preconditions<'a>,
}

/// The selected representation.
#[derive(Clone, Copy, Debug)]
pub struct Representation<'a> {
    /// Length in bytes.
    pub length: u64,
    /// The ETag.
    pub etag: &'a EntityTag<'a>,
    /// The Last-Modified; `None` if an HTTP date cannot express it.
    pub last_modified: Option<HttpDate>,
    /// Whether the date is a strong validator. It is not if another encoding with the same date may be sent for the same
    /// request (§8.8.2.2); then If-Range with a date selects the whole.
    pub dates_are_strong: bool,
    /// The Content-Type, which the parts of a multipart body repeat.
    pub media_type: &'a [u8],
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 200 with the whole representation.
    Whole,
    /// 206 with one range.
    Part(ByteRange),
    /// 206 with several ranges as `multipart/byteranges`, in a body that is no longer than the representation.
    Parts(Vec<ByteRange>),
    /// 304.
    NotModified,
    /// 412.
    PreconditionFailed,
    /// 416.
    NotSatisfiable,
}

/// Decides the answer to a GET or HEAD for a representation that exists.
///
/// Preconditions come first, in their order. Range counts only for GET, and only if If-Range permits it. If several ranges
/// with their heads are longer than the representation, the whole is sent.
pub fn decide(request: &RequestFacts<'_>, has: &Representation<'_>) -> Answer {
    let validators = Validators { etag: has.etag, last_modified: has.last_modified };
    match request.preconditions.evaluate(&validators) {
        PreconditionResult::NotModified => Answer::NotModified,
        PreconditionResult::Failed => Answer::PreconditionFailed,
        PreconditionResult::Proceed => match request.range {
            Some(range) if !request.head_only && permits_range(request, has) => answer_range(range, has),
            _ => Answer::Whole,
        },
    }
}

fn permits_range(request: &RequestFacts<'_>, has: &Representation<'_>) -> bool {
    let last_modified = has.last_modified.filter(|_| has.dates_are_strong);
    request.preconditions.permit_range(&Validators { etag: has.etag, last_modified })
}

fn answer_range(range_header: &[u8], has: &Representation<'_>) -> Answer {
    match select(range_header, has.length) {
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

    fn decide_for(length: u64, request: RequestFacts<'_>) -> Answer {
        let etag = EntityTag::parse(b"\"a\"").unwrap();
        let last_modified = HttpDate::parse(MODIFIED);
        decide(
            &request,
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
        for (header, expected) in [
            ("bytes=0-4", Answer::Part(range(0, 5))),
            ("bytes=0-", Answer::Part(range(0, 1000))),
            ("bytes=900-909,0-9", Answer::Parts(vec![range(900, 910), range(0, 10)])),
            ("bytes=1000-", Answer::NotSatisfiable),
            ("bytes=4-2", Answer::Whole),
            ("lines=0-4", Answer::Whole),
        ] {
            let request = RequestFacts { range: Some(header.as_bytes()), ..get() };
            assert_eq!(decide_for(1000, request), expected, "{header}");
        }
    }

    #[test]
    fn a_head_request_has_no_ranges() {
        for header in [b"bytes=0-4".as_slice(), b"bytes=1000-"] {
            let request = RequestFacts { head_only: true, range: Some(header), ..get() };
            assert_eq!(decide_for(1000, request), Answer::Whole);
        }
    }

    #[test]
    fn ranges_whose_body_would_be_longer_than_the_whole_give_the_whole() {
        let header = b"bytes=0-9,150-159".as_slice();
        let exact = body_length(&[range(0, 10), range(150, 160)], b"text/plain".len(), 300);
        let request = RequestFacts { range: Some(header), ..get() };
        assert_eq!(decide_for(exact, request), Answer::Parts(vec![range(0, 10), range(150, 160)]));
        assert_eq!(decide_for(exact - 1, request), Answer::Whole);
    }

    #[test]
    fn preconditions_come_before_ranges() {
        let preconditions = Preconditions { if_none_match: Some(b"\"a\""), ..Default::default() };
        let request = RequestFacts { range: Some(b"bytes=1000-"), preconditions, ..get() };
        assert_eq!(decide_for(1000, request), Answer::NotModified);
        let preconditions = Preconditions { if_match: Some(b"\"b\""), ..Default::default() };
        let request = RequestFacts { range: Some(b"bytes=0-4"), preconditions, ..get() };
        assert_eq!(decide_for(1000, request), Answer::PreconditionFailed);
    }

    #[test]
    fn if_range_of_another_version_gives_the_whole() {
        for (if_range, header, expected) in [
            ("\"a\"", "bytes=0-4", Answer::Part(range(0, 5))),
            ("Sun, 06 Nov 1994 08:49:37 GMT", "bytes=0-4", Answer::Part(range(0, 5))),
            ("\"a\"", "bytes=1000-", Answer::NotSatisfiable),
            ("\"b\"", "bytes=0-4", Answer::Whole),
            ("\"b\"", "bytes=1000-", Answer::Whole),
            ("Sun, 06 Nov 1994 08:49:38 GMT", "bytes=0-4", Answer::Whole),
        ] {
            let preconditions = Preconditions { if_range: Some(if_range.as_bytes()), ..Default::default() };
            let request = RequestFacts { range: Some(header.as_bytes()), preconditions, ..get() };
            assert_eq!(decide_for(1000, request), expected, "{if_range} {header}");
        }
    }

    #[test]
    fn if_range_without_a_range_changes_nothing() {
        let preconditions = Preconditions { if_range: Some(b"\"b\""), ..Default::default() };
        assert_eq!(decide_for(1000, RequestFacts { preconditions, ..get() }), Answer::Whole);
    }
}
