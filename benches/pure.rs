//! Cost of the pure decisions for one request. Each result is asserted before it is measured.

#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::expect_used, reason = "a benchmark with a wrong result must not run")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use pagecast::http::date::HttpDate;
use pagecast::http::decide::{Answer, Representation, RequestFacts, decide};
use pagecast::http::entity_tag::EntityTag;
use pagecast::http::precondition::Preconditions;
use pagecast::http::range::{Selection, select};
use pagecast::http::target::{SitePath, TargetError};
use pagecast::net::head::read_target;

fn target(criterion: &mut Criterion) {
    let plain = b"/assets/app.3f2a91c0.js?v=1".as_slice();
    let long = [b"/".as_slice(), &b"a-directory-with-a-name/".repeat(80), b"file.tar.zst"].concat();
    let encoded = b"/caf%C3%A9/menu%20of%20today.html".as_slice();
    let hostile = [b"/".as_slice(), &b"a%2e/./%2e%2E//..".repeat(200), b"/..%2e/x"].concat();

    let head = |target: &[u8]| [b"GET ", target, b" HTTP/1.1\r\nHost: localhost\r\n\r\n"].concat();
    let long_path = long[1..].to_vec();
    let [plain, long, encoded, hostile] = [plain, &long, encoded, &hostile].map(head);

    assert_eq!(path_of(&plain).expect("a path").as_bytes(), b"assets/app.3f2a91c0.js");
    assert_eq!(path_of(&long).expect("a path").as_bytes(), long_path);
    assert_eq!(path_of(&encoded).expect("a path").as_bytes(), "café/menu of today.html".as_bytes());
    assert_eq!(path_of(&hostile), Err(TargetError::Climbs));

    let mut group = criterion.benchmark_group("target");
    group.bench_function("plain", |bencher| bencher.iter(|| has_path(black_box(&plain))));
    group.bench_function("long_2_kib", |bencher| bencher.iter(|| has_path(black_box(&long))));
    group.bench_function("encoded", |bencher| bencher.iter(|| has_path(black_box(&encoded))));
    group.bench_function("hostile_3_kib", |bencher| bencher.iter(|| has_path(black_box(&hostile))));
    group.finish();
}

/// The path of a request, as a connection and then the site read it.
fn path_of(head: &[u8]) -> Result<SitePath<'static>, TargetError> {
    let uri = read_target(head).expect("a head");
    SitePath::parse(uri.path().as_bytes()).map(|target| target.path.into_owned())
}

fn has_path(head: &[u8]) -> bool {
    read_target(head).is_ok_and(|uri| SitePath::parse(uri.path().as_bytes()).is_ok())
}

fn range(criterion: &mut Criterion) {
    let length = 100 << 20;
    let single = b"bytes=65536-131071".as_slice();
    let ten: Vec<_> = (0..10).map(|n| format!("{}-{}", n * 10_000, n * 10_000 + 99)).collect();
    let ten = format!("bytes={}", ten.join(", ")).into_bytes();
    let apart = hostile_header(|n| format!("{}-,", (n * 7_919 % 10_007) * 10_007));
    let scattered = hostile_header(|n| {
        let start = (n * 7_919 % 10_007) * 10_007;
        format!("{start}-{start},")
    });

    assert!(matches!(select(single, length), Selection::One(range) if range.len() == 65_536));
    assert!(matches!(select(&ten, length), Selection::Many(ranges) if ranges.len() == 10));
    assert!(matches!(select(&apart, length), Selection::One(range) if range.end() == length));
    assert_eq!(select(&scattered, length), Selection::Ignore);

    let mut group = criterion.benchmark_group("range");
    group.bench_function("single", |bencher| bencher.iter(|| select(black_box(single), length)));
    group.bench_function("ten", |bencher| bencher.iter(|| select(black_box(&ten), length)));
    group.bench_function("hostile_16_kib_overlapping", |bencher| {
        bencher.iter(|| select(black_box(&apart), length))
    });
    group.bench_function("hostile_16_kib_scattered", |bencher| {
        bencher.iter(|| select(black_box(&scattered), length))
    });
    group.finish();
}

/// As many unordered ranges as a header of 16 KiB holds.
fn hostile_header(spec: impl Fn(u64) -> String) -> Vec<u8> {
    let mut header = b"bytes=".to_vec();
    for n in 0.. {
        let spec = spec(n);
        if header.len() + spec.len() > 16 << 10 {
            break;
        }
        header.extend_from_slice(spec.as_bytes());
    }
    header
}

fn decisions(criterion: &mut Criterion) {
    let etag = EntityTag::parse(b"\"1a2b3c-400-17f0a1b2c3d4e5f6\"").expect("a tag");
    let last_modified = HttpDate::from_unix_seconds(784_111_777);
    let has = Representation {
        length: 1024,
        etag: &etag,
        last_modified,
        dates_are_strong: true,
        media_type: b"text/css; charset=utf-8",
    };
    let plain = RequestFacts::default();
    let same_tag = Preconditions { if_none_match: Some(etag.as_bytes()), ..Preconditions::default() };
    let same_tag = RequestFacts { preconditions: same_tag, ..plain };
    let date = b"Sun, 06 Nov 1994 08:49:37 GMT".as_slice();
    let same_date = Preconditions { if_modified_since: Some(date), ..Preconditions::default() };
    let same_date = RequestFacts { preconditions: same_date, ..plain };
    let part = RequestFacts { range: Some(b"bytes=0-99"), ..plain };

    assert_eq!(decide(&plain, &has), Answer::Whole);
    assert_eq!(decide(&same_tag, &has), Answer::NotModified);
    assert_eq!(decide(&same_date, &has), Answer::NotModified);
    assert!(matches!(decide(&part, &has), Answer::Part(range) if range.len() == 100));

    let mut group = criterion.benchmark_group("decide");
    group.bench_function("plain_get", |bencher| bencher.iter(|| decide(black_box(&plain), black_box(&has))));
    group.bench_function("if_none_match_hit", |bencher| {
        bencher.iter(|| decide(black_box(&same_tag), black_box(&has)))
    });
    group.bench_function("if_modified_since_hit", |bencher| {
        bencher.iter(|| decide(black_box(&same_date), black_box(&has)))
    });
    group.bench_function("one_range", |bencher| bencher.iter(|| decide(black_box(&part), black_box(&has))));
    group.finish();
}

criterion_group!(pure, target, range, decisions);
criterion_main!(pure);
