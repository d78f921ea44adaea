//! Byte ranges (RFC 9110 §14) of a file on the heap, a mapped one and one sent by `sendfile`.

use std::ops::Range;

use crate::client::{Client, patterned};
use crate::site::{Reply, Server, Site};

/// Expected result of a Range header.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Expected {
    Whole,
    Part(Range<usize>),
    Parts(Vec<Range<usize>>),
    NotSatisfiable,
}
use Expected::{NotSatisfiable, Part, Parts, Whole};

const FILES: [(&str, usize); 3] =
    [("/small.bin", 100), ("/middle.bin", 40 * 1024), ("/large.bin", 3 * 1024 * 1024)];

fn site() -> Server {
    FILES.iter().fold(Site::new(), |site, (name, length)| site.file(&name[1..], &patterned(*length))).serve()
}

#[test]
fn every_form_of_one_range_selects_the_bytes_it_names() {
    check_all(|n| {
        vec![
            ("bytes=0-0".into(), Part(0..1)),
            ("bytes=0-9".into(), Part(0..10)),
            ("bytes=10-19".into(), Part(10..20)),
            ("bytes=5-".into(), Part(5..n)),
            ("bytes=0-".into(), Part(0..n)),
            (format!("bytes={}-", n - 1), Part(n - 1..n)),
            (format!("bytes={0}-{0}", n - 1), Part(n - 1..n)),
            (format!("bytes=0-{}", n - 1), Part(0..n)),
            (format!("bytes=1-{}", n - 2), Part(1..n - 1)),
            ("bytes=-1".into(), Part(n - 1..n)),
            ("bytes=-7".into(), Part(n - 7..n)),
            (format!("bytes=-{n}"), Part(0..n)),
            ("bytes=000000000000000000000000000010-0019".into(), Part(10..20)),
            ("BYTES=0-4".into(), Part(0..5)),
            ("bytes= 0-4".into(), Part(0..5)),
            ("bytes=0-4 ".into(), Part(0..5)),
        ]
    });
}

#[test]
fn a_range_past_the_end_stops_at_the_end() {
    check_all(|n| {
        vec![
            (format!("bytes=0-{n}"), Part(0..n)),
            (format!("bytes={}-{}", n - 1, n + 100), Part(n - 1..n)),
            (format!("bytes=-{}", n + 1), Part(0..n)),
            ("bytes=3-18446744073709551615".into(), Part(3..n)),
            ("bytes=3-18446744073709551616".into(), Part(3..n)),
            (format!("bytes=3-{}", "9".repeat(60)), Part(3..n)),
            (format!("bytes=-{}", "9".repeat(60)), Part(0..n)),
        ]
    });
}

#[test]
fn an_unsatisfiable_range_gets_416_with_the_length() {
    check_all(|n| {
        vec![
            (format!("bytes={n}-"), NotSatisfiable),
            (format!("bytes={n}-{}", n + 5), NotSatisfiable),
            (format!("bytes={}-", n + 1), NotSatisfiable),
            ("bytes=-0".into(), NotSatisfiable),
            ("bytes=18446744073709551615-".into(), NotSatisfiable),
            ("bytes=18446744073709551615-18446744073709551615".into(), NotSatisfiable),
            ("bytes=18446744073709551616-".into(), NotSatisfiable),
            (format!("bytes={}-", "9".repeat(60)), NotSatisfiable),
            (format!("bytes={n}-,{}-", n + 7), NotSatisfiable),
            (format!("bytes={n}-, -0"), NotSatisfiable),
        ]
    });
}

#[test]
fn a_malformed_header_or_an_unknown_unit_is_ignored() {
    check_all(|_| {
        [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=5",
            "bytes=5-4",
            "bytes=a-b",
            "bytes=0x0-4",
            "bytes=+0-4",
            "bytes=0--4",
            "bytes=0-4-8",
            "bytes=0-4;",
            "bytes=0 - 4",
            "bytes=0-4 5-6",
            "bytes=0-4,x",
            "bytes=x,0-4",
            "bytes=0-4,5-4",
            "bytes =0-4",
            "bytes:0-4",
            "bytes 0-4",
            "byte=0-4",
            "lines=0-4",
            "none",
        ]
        .map(|field| (field.to_owned(), Whole))
        .into()
    });
}

#[test]
fn ranges_that_meet_or_nearly_meet_become_one() {
    check_all(|n| {
        vec![
            ("bytes=0-4,5-9".into(), Part(0..10)),
            ("bytes=5-9,0-4".into(), Part(0..10)),
            ("bytes=0-4,0-4".into(), Part(0..5)),
            ("bytes=0-20,10-30".into(), Part(0..31)),
            ("bytes=0-50,10-20".into(), Part(0..51)),
            ("bytes=10-20,0-50".into(), Part(0..51)),
            ("bytes=0-4,60-70".into(), Part(0..71)),
            ("bytes=-5,-10".into(), Part(n - 10..n)),
            ("bytes=0-,3-4".into(), Part(0..n)),
            ("bytes=0-4,".into(), Part(0..5)),
            ("bytes=,,0-4, ,\t".into(), Part(0..5)),
            (format!("bytes=0-4,{n}-"), Part(0..5)),
            (format!("bytes={n}-,-0,1-2"), Part(1..3)),
            (format!("bytes={}0-4", "0-4,".repeat(200)), Part(0..5)),
        ]
    });
}

#[test]
fn several_ranges_are_parts_in_the_clients_order() {
    check_in(&FILES[1..], |n| {
        vec![
            ("bytes=0-9,1000-1009".into(), Parts(vec![0..10, 1000..1010])),
            ("bytes=1000-1009,0-9".into(), Parts(vec![1000..1010, 0..10])),
            ("bytes=-10 , 0-9".into(), Parts(vec![n - 10..n, 0..10])),
            ("bytes=20000-,0-9".into(), Parts(vec![20_000..n, 0..10])),
            (format!("bytes=0-0,{0}-{0},500-599", n - 1), Parts(vec![0..1, n - 1..n, 500..600])),
            ("bytes=1000-1999,0-9,1500-2500".into(), Parts(vec![1000..2501, 0..10])),
            (
                "bytes=9000-9001,1000-1001,5000-5001,1002-1003".into(),
                Parts(vec![9000..9002, 1000..1004, 5000..5002]),
            ),
            (format!("bytes=0-9,{n}-,1000-1009"), Parts(vec![0..10, 1000..1010])),
            // A gap of 100 bytes is included, one of 101 is not.
            ("bytes=0-9,110-119".into(), Part(0..120)),
            ("bytes=0-9,111-119".into(), Parts(vec![0..10, 111..120])),
        ]
    });
}

#[test]
fn long_parts_are_sent_in_full() {
    check_in(&FILES[2..], |n| {
        vec![
            ("bytes=0-999999,2000000-2999999".into(), Parts(vec![0..1_000_000, 2_000_000..3_000_000])),
            (
                "bytes=2000000-2999999,5-5,100000-1000000".into(),
                Parts(vec![2_000_000..3_000_000, 5..6, 100_000..1_000_001]),
            ),
            (format!("bytes=1-{}", n - 1), Part(1..n)),
        ]
    });
}

#[test]
fn up_to_64_parts_are_sent_and_beyond_that_the_whole_file() {
    let ranges = |count: usize| (0..count).map(|index| index * 600..index * 600 + 7).collect::<Vec<_>>();
    let field = |ranges: &[Range<usize>]| {
        let specs: Vec<_> = ranges.iter().map(|range| format!("{}-{}", range.start, range.end - 1)).collect();
        format!("bytes={}", specs.join(","))
    };
    check_in(&FILES[1..], |_| {
        vec![
            (field(&ranges(64)), Parts(ranges(64))),
            (field(&ranges(65)), Whole),
            // They count as they are sent, not as they are requested.
            (format!("{},0-3,601-602", field(&ranges(64))), Parts(ranges(64))),
        ]
    });
}

#[test]
fn parts_that_would_take_more_than_the_file_are_the_whole_file() {
    check_in(&FILES[1..], |_| {
        vec![("bytes=0-20000,20102-".into(), Whole), ("bytes=20102-,0-20000".into(), Whole)]
    });
    let server = Site::with([("quarter.bin", &patterned(250))]).serve();
    let mut client = Client::of(&server);
    for (field, expected) in
        [("bytes=0-9,240-249", Whole), ("bytes=0-0,200-200", Whole), ("bytes=0-9,110-119", Part(0..120))]
    {
        check(&mut client, "/quarter.bin", 250, field, &expected);
    }
}

#[test]
fn a_head_has_no_ranges() {
    let server = site();
    let mut client = Client::of(&server);
    for (target, length) in FILES {
        for field in ["bytes=0-4", "bytes=-1", "bytes=99999999-", "bytes=0-4,1000-1004", "x"] {
            let reply = client.ask("HEAD", target, &format!("Range: {field}\r\n"));
            assert_eq!(reply.status, 200, "{target} {field}");
            assert_eq!(reply.content_length(), Some(length as u64), "{target} {field}");
            assert_eq!(reply.field("content-range"), None, "{target} {field}");
        }
    }
}

#[test]
fn an_empty_file_has_no_ranges() {
    let server = Site::with([("empty.bin", b"")]).serve();
    let mut client = Client::of(&server);
    for (field, expected) in [
        ("bytes=0-0", NotSatisfiable),
        ("bytes=0-", NotSatisfiable),
        ("bytes=1-5", NotSatisfiable),
        ("bytes=-0", NotSatisfiable),
        ("bytes=0-,1-", NotSatisfiable),
        // The whole empty file is satisfiable, and no Content-Range can express it.
        ("bytes=-5", Whole),
        ("bytes=0-,-5", Whole),
        ("lines=0-", Whole),
    ] {
        check(&mut client, "/empty.bin", 0, field, &expected);
    }
}

#[test]
fn a_range_header_in_two_lines_is_one_malformed_list() {
    let server = site();
    let reply = server.get_with("/small.bin", "Range: bytes=0-4\r\nRange: bytes=50-54\r\n");
    assert_eq!((reply.status, reply.body), (200, patterned(100)));
    let reply = server.get_with("/small.bin", "Range: bytes=0-4\r\nRange: 5-9\r\n");
    assert_eq!((reply.status, reply.body), (206, patterned(10)));
}

#[test]
fn a_range_counts_even_as_the_only_header() {
    let server = site();
    let reply = server.send("GET /small.bin HTTP/1.0\r\nRange: bytes=3-5\r\n\r\n");
    assert_eq!((reply.status, reply.body.as_slice()), (206, &patterned(100)[3..6]));
}

#[test]
fn nothing_that_is_missing_has_a_range() {
    let server = site();
    let reply = server.get_with("/none.bin", "Range: bytes=0-4\r\n");
    assert_eq!((reply.status, reply.field("content-range")), (404, None));
}

fn check_all(table: impl Fn(usize) -> Vec<(String, Expected)>) {
    check_in(&FILES, table);
}

fn check_in(files: &[(&str, usize)], table: impl Fn(usize) -> Vec<(String, Expected)>) {
    let server = site();
    let mut client = Client::of(&server);
    for &(target, length) in files {
        for (field, expected) in table(length) {
            check(&mut client, target, length, &field, &expected);
        }
    }
}

fn check(client: &mut Client, target: &str, length: usize, field: &str, expected: &Expected) {
    let reply = client.ask("GET", target, &format!("Range: {field}\r\n"));
    let file = patterned(length);
    let case = format!("{field} of {target}");
    assert_eq!(reply.content_length(), Some(reply.body.len() as u64), "{case}");
    assert!(reply.field("date").is_some(), "{case}");
    assert_eq!(reply.field("accept-ranges"), Some("bytes"), "{case}");
    if *expected != NotSatisfiable {
        for name in ["etag", "last-modified", "x-content-type-options"] {
            assert!(reply.field(name).is_some(), "{case}: {name}");
        }
    }
    let content_range = reply.field("content-range");
    match expected {
        Whole => {
            assert_eq!((reply.status, content_range), (200, None), "{case}");
            assert_bytes(&reply.body, &file, &case);
        }
        NotSatisfiable => {
            assert_eq!((reply.status, content_range), (416, Some(&*format!("bytes */{length}"))), "{case}");
        }
        Part(range) => {
            assert_eq!(
                (reply.status, content_range),
                (206, Some(&*content_range_of(range, length))),
                "{case}"
            );
            assert_eq!(reply.field("content-type"), Some(OCTETS), "{case}");
            assert_bytes(&reply.body, &file[range.clone()], &case);
        }
        Parts(ranges) => {
            assert_eq!((reply.status, content_range), (206, None), "{case}");
            assert!(reply.body.len() <= length, "{case}: {} bytes", reply.body.len());
            let parts = parts_of(&reply);
            let message: Vec<_> =
                parts.iter().map(|part| (part.media_type.as_str(), part.content_range.as_str())).collect();
            let lines: Vec<_> = ranges.iter().map(|range| content_range_of(range, length)).collect();
            let wanted: Vec<_> = lines.iter().map(|line| (OCTETS, line.as_str())).collect();
            assert_eq!(message, wanted, "{case}");
            for (part, range) in parts.iter().zip(ranges) {
                assert_bytes(&part.body, &file[range.clone()], &case);
            }
        }
    }
}

fn content_range_of(range: &Range<usize>, length: usize) -> String {
    format!("bytes {}-{}/{length}", range.start, range.end - 1)
}

/// Compares without printing megabytes.
fn assert_bytes(found: &[u8], wanted: &[u8], case: &str) {
    assert_eq!(found.len(), wanted.len(), "{case}");
    let differs = found.iter().zip(wanted).position(|(one, other)| one != other);
    assert_eq!(differs, None, "{case}: the first byte that differs");
}

struct BodyPart {
    media_type: String,
    content_range: String,
    body: Vec<u8>,
}

/// Reads a `multipart/byteranges` body as RFC 2046 §5.1 frames it, by its delimiters alone.
fn parts_of(reply: &Reply) -> Vec<BodyPart> {
    let content_type = reply.field("content-type").unwrap();
    let boundary = content_type.strip_prefix("multipart/byteranges; boundary=").expect(content_type);
    let delimiter = format!("\r\n--{boundary}").into_bytes();
    let mut pieces = split_at_all(&reply.body, &delimiter).into_iter();
    assert_eq!(pieces.next(), Some(&b""[..]), "a preamble");
    let mut pieces: Vec<_> = pieces.collect();
    assert_eq!(pieces.pop(), Some(&b"--\r\n"[..]), "the closing delimiter");
    pieces.into_iter().map(part_of).collect()
}

fn part_of(piece: &[u8]) -> BodyPart {
    let piece = piece.strip_prefix(b"\r\n").expect("a line break behind the delimiter");
    let head_end = piece.windows(4).position(|four| four == b"\r\n\r\n").expect("an empty line");
    let head = std::str::from_utf8(&piece[..head_end]).unwrap();
    let field = |name: &str| {
        let line =
            head.split("\r\n").find_map(|line| line.split_once(": ").filter(|(known, _)| *known == name));
        line.expect(name).1.to_owned()
    };
    BodyPart {
        media_type: field("Content-Type"),
        content_range: field("Content-Range"),
        body: piece[head_end + 4..].to_vec(),
    }
}

fn split_at_all<'a>(mut bytes: &'a [u8], delimiter: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    while let Some(at) = bytes.windows(delimiter.len()).position(|window| window == delimiter) {
        pieces.push(&bytes[..at]);
        bytes = &bytes[at + delimiter.len()..];
    }
    pieces.push(bytes);
    pieces
}

const OCTETS: &str = "application/octet-stream";
