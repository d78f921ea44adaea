//! Properties of every input. The property tests and the fuzz targets run the same checks.

use pagecast::config::RequestRate;
use pagecast::http::multipart::{Boundary, Multipart};
use pagecast::http::range::{ByteRange, GAP_MAX, PARTS_MAX, Selection, select};
use pagecast::http::redirects::{Redirect, Redirects};
use pagecast::http::target::{SitePath, is_valid_origin};
use pagecast::net::head::read_target;

/// The path of a request target stays inside the root, whatever its bytes are.
pub(crate) fn target(bytes: &[u8]) {
    path(bytes);
    let Ok(uri) = read_target(&head_of(bytes)) else { return };
    let (raw_path, query) = (uri.path(), uri.query());
    assert!(!raw_path.contains('?'));
    path(raw_path.as_bytes());
    if let Some(query) = query {
        location(raw_path.as_bytes(), query.as_bytes());
    }
    if let Some(authority) =
        uri.authority().filter(|host| is_valid_origin(uri.scheme_str(), Some(host.as_str())))
    {
        assert!(!authority.as_str().contains(['@', ',']));
    }
}

fn head_of(target: &[u8]) -> Vec<u8> {
    [b"GET ", target, b" HTTP/1.1\r\nHost: x\r\n\r\n"].concat()
}

/// Longer targets are not valid URIs.
const TARGET_MAX: usize = 65_000;

fn path(raw: &[u8]) {
    let Ok(parsed) = SitePath::parse(raw) else { return };
    let path = &parsed.path;
    assert_inside(path.as_bytes());
    assert_eq!(path.segments().collect::<Vec<_>>().join(&b'/'), path.as_bytes());
    assert!(path.as_bytes().len() < raw.len());

    let index = path.index("index.html");
    assert_inside(index.as_bytes());
    assert_eq!(index.segments().next_back(), Some(b"index.html".as_slice()));
    assert_inside(path.index("../../../x").as_bytes());

    let found_again = path.to_location(None);
    let again = SitePath::parse(found_again.as_bytes()).expect("a location is a target");
    assert_eq!(again.path, *path);
    assert!(again.wants_directory);
    assert_eq!(again.path.to_location(None), found_again);
}

fn location(raw_path: &[u8], query: &[u8]) {
    let Ok(parsed) = SitePath::parse(raw_path) else { return };
    let location = parsed.path.to_location(Some(query));
    assert!(!location.starts_with("//"));
    if location.len() > TARGET_MAX {
        return;
    }
    let uri = read_target(&head_of(location.as_bytes())).expect("a location is a target");
    let again = SitePath::parse(uri.path().as_bytes()).expect("a location is a target");
    assert_eq!(again.path, parsed.path);
    assert!(uri.query().is_some());
}

/// A parsed rate is formatted so that it parses to the same rate, and has a period.
pub(crate) fn request_rate(bytes: &[u8]) {
    let Some(rate) = str::from_utf8(bytes).ok().and_then(|text| text.parse::<RequestRate>().ok()) else {
        return;
    };
    assert!(!rate.span.is_zero());
    assert_eq!(rate.to_string().parse(), Ok(rate));
}

/// A redirect stays on the host of its line and within its header, for every `_redirects` file and path.
pub(crate) fn redirects(file: &[u8], path: &[u8], query: Option<&[u8]>) {
    let redirects = match Redirects::parse(file) {
        Ok(redirects) => redirects,
        Err(bad) => {
            assert!(!bad.is_empty() && bad.is_sorted_by_key(|bad| bad.number));
            return;
        }
    };
    for forced_only in [false, true] {
        match redirects.find(path, query, forced_only) {
            None => {}
            Some(Redirect::Rewrite { path, status }) => {
                assert!(matches!(status, 200 | 404));
                assert_inside(path.as_bytes());
            }
            Some(Redirect::To { status, location }) => {
                assert!((300..400).contains(&status));
                assert!(location.bytes().all(|byte| byte.is_ascii_graphic()), "{location:?}");
                let is_elsewhere = location.starts_with("https://h") || location.starts_with("http://h");
                let is_here = location.starts_with('/') && !location.starts_with("//");
                assert!(is_elsewhere || is_here, "{location:?}");
                if is_here {
                    let end = location.find(['?', '#']).unwrap_or(location.len());
                    let parsed = SitePath::parse(&location.as_bytes()[..end]).expect("a location is a path");
                    assert_ne!([b"/", parsed.path.as_bytes()].concat(), path);
                }
            }
        }
    }
}

fn assert_inside(path: &[u8]) {
    assert!(!path.contains(&0));
    if path.is_empty() {
        return;
    }
    for segment in path.split(|&byte| byte == b'/') {
        assert!(!matches!(segment, b"" | b"." | b".."), "{}", path.escape_ascii());
    }
}

/// A header and a length from arbitrary bytes.
pub(crate) fn range_from_bytes(data: &[u8]) {
    let Some((length, rest)) = data.split_first_chunk::<8>() else { return };
    let Some((shift, header)) = rest.split_first() else { return };
    range(header, u64::from_le_bytes(*length) >> (shift & 63));
}

/// Selected ranges are the requested ones, exist, and lie apart, for every Range header.
pub(crate) fn range(header: &[u8], length: u64) {
    let selection = select(header, length);
    let Some(requested) = requested_ranges(header, length) else {
        assert_eq!(selection, Selection::Ignore);
        return;
    };
    match &selection {
        Selection::Ignore => assert!(requested.suffix_of_nothing || groups(&requested.ranges) > PARTS_MAX),
        Selection::NotSatisfiable => assert!(requested.ranges.is_empty() && !requested.suffix_of_nothing),
        Selection::One(range) => assert_selected(&[*range], &requested.ranges, length),
        Selection::Many(ranges) => {
            assert!(ranges.len() > 1);
            assert_selected(ranges, &requested.ranges, length);
        }
    }
}

fn assert_selected(selected: &[ByteRange], requested: &[(u64, u64)], length: u64) {
    assert_eq!(selected.len(), groups(requested));
    assert!(selected.len() <= PARTS_MAX);
    assert!(selected.iter().map(|range| u128::from(range.len())).sum::<u128>() <= u128::from(length));
    for (index, range) in selected.iter().enumerate() {
        assert!(range.start() < range.end() && range.end() <= length);
        assert_eq!(range.len(), range.end() - range.start());
        assert!(requested.iter().any(|&(start, _)| start == range.start()));
        assert!(requested.iter().any(|&(_, end)| end == range.end()));
        for other in selected.iter().skip(index + 1) {
            let (left, right) = if range.start() < other.start() { (range, other) } else { (other, range) };
            assert!(right.start() - left.end() > GAP_MAX);
        }
    }
    let mut in_order = Vec::new();
    for &(start, end) in requested {
        let covering = selected.iter().position(|range| range.start() <= start && end <= range.end());
        let covering = covering.expect("every requested byte is selected");
        if !in_order.contains(&covering) {
            in_order.push(covering);
        }
    }
    assert!(in_order.is_sorted(), "{in_order:?}");
}

/// The number of groups of ranges within reach of each other. Each group has one leftmost range.
fn groups(requested: &[(u64, u64)]) -> usize {
    let reaches = |(start, end): (u64, u64), to: u64| start < to && to <= end.saturating_add(GAP_MAX);
    let mut starts: Vec<_> = requested.iter().map(|&(start, _)| start).collect();
    starts.sort_unstable();
    starts.dedup();
    starts.iter().filter(|&&start| !requested.iter().any(|&range| reaches(range, start))).count()
}

struct Requested {
    /// Half-open, limited to existing bytes, in the order of the header.
    ranges: Vec<(u64, u64)>,
    suffix_of_nothing: bool,
}

/// A second, slower parser of RFC 9110 §14.1.2. `None` for a malformed header.
fn requested_ranges(header: &[u8], length: u64) -> Option<Requested> {
    let text = str::from_utf8(header).ok()?;
    let (unit, set) = text.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let specs: Vec<_> = set.split(',').map(|spec| spec.trim_matches([' ', '\t'])).collect();
    let mut requested = Requested { ranges: Vec::new(), suffix_of_nothing: false };
    let mut any = false;
    for spec in specs.into_iter().filter(|spec| !spec.is_empty()) {
        any = true;
        let (first, last) = spec.split_once('-')?;
        let (start, end) = match (first, last) {
            ("", suffix) => {
                let suffix = number(suffix)?;
                requested.suffix_of_nothing |= suffix > 0 && length == 0;
                (length - suffix.min(length), length)
            }
            (first, "") => (number(first)?, length),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                if last < first {
                    return None;
                }
                (first, last.saturating_add(1).min(length))
            }
        };
        if start < end {
            requested.ranges.push((start, end));
        }
    }
    requested.suffix_of_nothing &= requested.ranges.is_empty();
    any.then_some(requested)
}

fn number(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    // Only a number of more than 64 bits can still fail.
    Some(digits.parse().unwrap_or(u64::MAX))
}

/// A representation and ranges of it from arbitrary bytes.
pub(crate) fn multipart_from_bytes(data: &[u8]) {
    let Some((boundary, rest)) = data.split_first_chunk::<16>() else { return };
    let Some((total, rest)) = rest.split_first_chunk::<2>() else { return };
    let spans = rest.as_chunks::<4>().0.iter().map(|&[a, b, c, d]| (u16::from_le_bytes([a, b]), [c, d]));
    let spans: Vec<_> = spans.map(|(start, length)| (start, u16::from_le_bytes(length))).collect();
    let media_type = ["text/plain", "application/octet-stream", ""][usize::from(boundary[0] % 3)];
    multipart(u16::from_le_bytes(*total), &spans, media_type, u128::from_le_bytes(*boundary));
}

/// A framed body can be parsed, and has the announced length.
pub(crate) fn multipart(total: u16, spans: &[(u16, u16)], media_type: &str, random: u128) {
    let total = u64::from(total);
    let ranges: Vec<_> = spans
        .iter()
        .take(PARTS_MAX)
        .filter_map(|&(start, length)| {
            ByteRange::new(start.into(), u64::from(start) + u64::from(length), total)
        })
        .collect();
    let boundary = Boundary::new(random);
    let multipart = Multipart { ranges: &ranges, media_type: media_type.as_bytes(), total, boundary };

    let mut body = Vec::new();
    for (head, range) in multipart.parts() {
        body.extend(head);
        body.extend((range.start()..range.end()).map(byte_at));
    }
    body.extend(multipart.closing());

    assert_eq!(body.len() as u64, multipart.content_length());
    assert_eq!(
        multipart.content_type(),
        format!("multipart/byteranges; boundary={random:032x}").into_bytes()
    );
    assert_eq!(read_back(&body, media_type, total, &format!("\r\n--{random:032x}")), ranges);
}

/// Content in which neighbouring bytes differ.
fn byte_at(position: u64) -> u8 {
    (position.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
}

/// Parses a body by its delimiters, without trusting lengths in it.
fn read_back(body: &[u8], media_type: &str, total: u64, delimiter: &str) -> Vec<ByteRange> {
    let mut pieces = split(body, delimiter.as_bytes()).into_iter();
    assert_eq!(pieces.next(), Some(b"".as_slice()), "there is no preamble");
    assert_eq!(pieces.next_back(), Some(b"--\r\n".as_slice()), "the last delimiter closes");
    pieces.map(|part| read_part(part, media_type, total)).collect()
}

fn read_part(part: &[u8], media_type: &str, total: u64) -> ByteRange {
    let (head, bytes) = {
        let end = part.windows(4).position(|window| window == b"\r\n\r\n").expect("a head ends");
        (str::from_utf8(&part[..end]).expect("a head is text"), &part[end + 4..])
    };
    let lines: Vec<_> = head.split("\r\n").collect();
    let ["", content_type, content_range] = lines[..] else { panic!("{head:?}") };
    assert_eq!(content_type, format!("Content-Type: {media_type}"));
    let range = content_range.strip_prefix("Content-Range: bytes ").expect("a unit");
    let (range, of) = range.split_once('/').expect("a total");
    assert_eq!(of.parse(), Ok(total));
    let (first, last) = range.split_once('-').expect("two positions");
    let (first, last): (u64, u64) = (first.parse().expect("a number"), last.parse().expect("a number"));
    assert!(bytes.iter().copied().eq((first..=last).map(byte_at)));
    ByteRange::new(first, last + 1, total).expect("a range of the representation")
}

fn split<'a>(mut text: &'a [u8], delimiter: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    while let Some(at) = text.windows(delimiter.len()).position(|window| window == delimiter) {
        pieces.push(&text[..at]);
        text = &text[at + delimiter.len()..];
    }
    pieces.push(text);
    pieces
}
