//! Properties of the parsers and of the framing: for every input, not for chosen ones.

#![allow(clippy::expect_used, reason = "a check that fails has to say so")]

mod access;
mod checks;
mod headers;
mod proxies;

use std::os::unix::ffi::OsStrExt;

use actix_files::{HttpRange, PathBufWrap};
use pagecast::http::decide::{Answer, Representation, RequestFacts, decide};
use pagecast::http::entity_tag::EntityTag;
use pagecast::http::multipart::body_length;
use pagecast::http::range::{Selection, select};
use pagecast::http::target::SitePath;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select as one_of;

/// Arbitrary bytes.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..200)
}

/// Paths made of pieces of attacks.
fn hostile_path() -> impl Strategy<Value = String> {
    let pieces = [
        "/", "/", "//", ".", "..", "/../", "%2e", "%2E%2e", "%2f", "%00", "%25", "%252e", "%", "%4", "%zz",
        "\\", "a", "b.txt", ".git", "é", "%C3%A9", "%FF", "?", "*", ":", " ", "~", "http://h", "x#y",
    ];
    vec(one_of(pieces.to_vec()), 0..14).prop_map(|pieces| format!("/{}", pieces.concat()))
}

/// Numbers near each other, near the largest ones, and above 64 bits.
fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => (0..2_000u64).prop_map(|number| number.to_string()),
        1 => any::<u64>().prop_map(|number| number.to_string()),
        1 => Just("18446744073709551615".to_owned()),
        1 => "[0-9]{1,40}",
    ]
}

fn range_spec() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => (0..200_000u64, 0..300u64).prop_map(|(first, more)| format!("{first}-{}", first + more)),
        2 => number().prop_map(|first| format!("{first}-")),
        2 => number().prop_map(|suffix| format!("-{suffix}")),
        1 => (number(), number()).prop_map(|(first, last)| format!("{first}-{last}")),
        1 => Just(String::new()),
    ]
}

fn range_header() -> impl Strategy<Value = String> {
    let separator = one_of(vec![",", ", ", " ,\t", ",,"]);
    let well_formed =
        (vec(range_spec(), 1..100), separator).prop_map(|(specs, by)| format!("bytes={}", specs.join(by)));
    prop_oneof![8 => well_formed, 1 => "(?i)bytes=[-0-9, \t]{0,20}", 1 => "[a-z]{0,6}=?[-0-9,]{0,9}"]
}

/// Single bytes near the largest gap that is merged, and near the largest number of ranges.
fn evenly_spaced_header() -> impl Strategy<Value = String> {
    (1..70u64, 98..103u64).prop_map(|(count, gap)| {
        let specs: Vec<_> = (0..count).map(|n| n * (gap + 1)).map(|at| format!("{at}-{at}")).collect();
        format!("bytes={}", specs.join(","))
    })
}

/// Lists of names with weights, valid and invalid.
fn weighted_list(names: &'static [&'static str]) -> impl Strategy<Value = String> {
    let weight = prop_oneof![
        3 => Just(String::new()),
        3 => "[;] ?q=(0|1|0[.][0-9]{1,3})",
        1 => "[;,q=0-9.\" ]{0,8}",
    ];
    let element = (one_of(names), weight).prop_map(|(name, weight)| format!("{name}{weight}"));
    vec(element, 0..8).prop_map(|elements| elements.join(", "))
}

fn dictionary() -> impl Strategy<Value = String> {
    let pieces = vec![
        "sha-256=",
        "sha-512=",
        "md5=1",
        "5",
        "10",
        "11",
        "0",
        ", ",
        ", ",
        ",",
        ";a",
        "=\"x\"",
        " ",
        "sha-256=3",
    ];
    vec(one_of(pieces), 0..10).prop_map(|pieces| pieces.concat())
}

/// Queries made of pieces of injections.
fn injection() -> impl Strategy<Value = String> {
    let pieces = vec![
        "'",
        "\"",
        " ",
        " ",
        "or",
        "and",
        "1",
        "1",
        "=",
        "union",
        "select",
        "<",
        "script",
        "img",
        "onerror",
        ">",
        "--",
        "/*",
        "*/",
        "/*!5",
        ";",
        "drop table",
        "javascript",
        ":",
        "(",
        ")",
        "%27",
        "+",
        "&",
        "\t",
        "\0",
        "sleep",
        "é",
    ];
    vec(one_of(pieces), 0..12).prop_map(|pieces| pieces.concat())
}

fn query() -> impl Strategy<Value = String> {
    let pieces =
        vec!["download", "archive", "sort", "=", "=", "&", "&", "%64", "+", "%", "%26", "tar", "name", "é"];
    vec(one_of(pieces), 0..12).prop_map(|pieces| pieces.concat())
}

/// Names made of pieces with a special meaning.
fn file_name() -> impl Strategy<Value = String> {
    let pieces = vec![
        ".",
        "..",
        "-",
        "_",
        "/",
        "\\",
        "\"",
        "%",
        "%2e",
        "\r\n",
        "\0",
        "é",
        "\u{202E}",
        "app",
        "3f9a1c0b",
        "BkQz9d2x",
        "js",
        "min",
        "a b",
        "550e8400-e29b-41d4-a716-446655440000",
        "\u{85}",
        "\u{FFFD}",
    ];
    vec(one_of(pieces), 0..10).prop_map(|pieces| pieces.concat())
}

fn length() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..300_000u64, 1 => 0..3u64, 1 => any::<u64>(), 1 => Just(u64::MAX)]
}

/// Lines made of valid and invalid pieces of redirects.
fn redirects_file() -> impl Strategy<Value = Vec<u8>> {
    let pieces = [
        "/",
        "/",
        "/a",
        "/:a",
        "/:b",
        "/*",
        ":splat",
        ":a",
        "..",
        ".",
        "%2e",
        "%2F",
        "%FF",
        "%",
        "\\",
        "?x=:a",
        "#f",
        " ",
        " ",
        " ",
        "\t",
        "301",
        "302!",
        "200",
        "404!",
        "https://h",
        "http://h:1",
        "//e",
        "é",
        "\r",
        "\n",
        "\n",
        "\u{feff}",
    ];
    let line = (
        one_of(vec!["/*", "/a/*", "/:a", "/:a/*", "/a", "/", "/a/:b"]),
        one_of(vec![
            "/:splat",
            "/:a/:splat",
            "/b",
            "/b/:splat?x=:splat",
            "https://h/:splat",
            "https://h",
            "/.:splat",
            "/a/:b",
        ]),
        one_of(vec!["", "302", "200", "404!", "301!"]),
    );
    let line = line.prop_map(|(from, to, status)| format!("{from} {to} {status}"));
    prop_oneof![
        4 => vec(line, 1..4).prop_map(|lines| lines.join("\n").into_bytes()),
        4 => vec(one_of(pieces.to_vec()), 0..30).prop_map(|pieces| pieces.concat().into_bytes()),
        1 => any_bytes(),
    ]
}

/// PROXY protocol headers, most of them invalid.
fn proxy_header() -> impl Strategy<Value = Vec<u8>> {
    let word =
        one_of(vec!["TCP4", "TCP6", "UNKNOWN", "192.0.2.7", "::1", "80", "0", "65536", "", " ", "\r", "\n"]);
    let line = (vec(word, 0..8), one_of(vec!["\r\n", "\n", "", "\r\nGET / HTTP/1.1\r\n"]))
        .prop_map(|(words, end)| format!("PROXY {}{end}", words.join(" ")).into_bytes());
    let signature = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    let families = one_of(vec![0, 0x11, 0x12, 0x21, 0x31, 0x32, 0x41]);
    let commands = prop_oneof![4 => Just(0x21), 1 => Just(0x20), 1 => any::<u8>()];
    let binary = (commands, families, 0..300u16, vec(any::<u8>(), 0..300)).prop_map(
        move |(command, family, length, payload)| {
            [&signature[..], &[command, family], &length.to_be_bytes(), &payload].concat()
        },
    );
    prop_oneof![3 => line, 3 => binary, 1 => any_bytes()]
}

/// Request rates, most of them invalid.
fn request_rate() -> impl Strategy<Value = String> {
    let pieces =
        vec!["0", "1", "10", "600", "18446744073709551615", "/", "/", "s", "m", "min", "H", " ", "-", "off"];
    vec(one_of(pieces), 0..5).prop_map(|pieces| pieces.concat())
}

/// Claims of clients in Forwarded and X-Forwarded-For.
fn claim() -> impl Strategy<Value = Vec<u8>> {
    let pieces = vec![
        "for=",
        "For=",
        "by=",
        "host=",
        "198.51.100.1",
        "10.0.0.1",
        "[2001:db8::1]",
        ":80",
        "unknown",
        "_hidden",
        "\"",
        "\"",
        "\\",
        ",",
        ", ",
        ";",
        "=",
        "192.0.2.7",
        " ",
    ];
    prop_oneof![4 => vec(one_of(pieces), 0..14).prop_map(|pieces| pieces.concat().into_bytes()), 1 => any_bytes()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_redirect_leads_only_to_the_host_of_its_line(
        file in redirects_file(), path in prop_oneof![hostile_path().prop_map(String::into_bytes), any_bytes()],
        query in proptest::option::of(any_bytes()),
    ) {
        checks::redirects(&file, &path, query.as_deref());
    }

    #[test]
    fn a_proxy_header_does_not_depend_on_how_it_arrives(bytes in proxy_header()) {
        proxies::proxy_header(&bytes);
    }

    #[test]
    fn a_formatted_request_rate_parses_to_the_same_rate(bytes in any_bytes(), rate in request_rate()) {
        checks::request_rate(&bytes);
        checks::request_rate(rate.as_bytes());
    }

    #[test]
    fn no_claim_changes_the_address_of_a_client(claim in claim()) {
        proxies::claim(&claim);
    }

    #[test]
    fn no_bytes_lead_out_of_the_root(bytes in any_bytes()) {
        checks::target(&bytes);
        checks::target(&[b"/".as_slice(), &bytes].concat());
    }

    #[test]
    fn no_hostile_path_leads_out_of_the_root(path in hostile_path()) {
        checks::target(path.as_bytes());
    }

    #[test]
    fn a_path_that_actix_files_accepts_too_is_the_same_path(path in hostile_path()) {
        if let (Ok(ours), Ok(theirs)) = (SitePath::parse(path.as_bytes()), PathBufWrap::parse_path(&path, true)) {
            prop_assert_eq!(ours.path.as_bytes(), theirs.as_ref().as_os_str().as_bytes());
        }
    }

    #[test]
    fn a_path_of_plain_names_is_itself(names in vec("[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,20}", 1..8)) {
        let path = names.join("/");
        let raw = format!("/{path}");
        let theirs = PathBufWrap::parse_path(&raw, false).expect("a valid path");
        prop_assert_eq!(theirs.as_ref().as_os_str().as_bytes(), path.as_bytes());
        let ours = SitePath::parse(raw.as_bytes()).expect("a valid path");
        prop_assert_eq!(ours.path.as_bytes(), path.as_bytes());
        prop_assert!(!ours.wants_directory && !ours.path.is_hidden());
    }

    #[test]
    fn no_bytes_select_other_ranges_than_requested(bytes in any_bytes(), length in length()) {
        checks::range_from_bytes(&bytes);
        checks::range(&[b"bytes=".as_slice(), &bytes].concat(), length);
    }

    #[test]
    fn a_selection_has_the_requested_ranges(header in range_header(), length in length()) {
        checks::range(header.as_bytes(), length);
    }

    #[test]
    fn a_selection_of_evenly_spaced_bytes_has_the_requested_ranges(header in evenly_spaced_header()) {
        checks::range(header.as_bytes(), 1 << 20);
    }

    #[test]
    fn one_range_is_parsed_as_by_actix_files(
        (first, last, form) in (0..400u64, 0..400u64, 0..3), length in 1..400u64,
    ) {
        let header = match form {
            0 => format!("bytes={}-{}", first.min(last), first.max(last)),
            1 => format!("bytes={first}-"),
            _ => format!("bytes=-{last}"),
        };
        let theirs = HttpRange::parse(&header, length).ok().map(|ranges| (ranges[0].start, ranges[0].length));
        let ours = match select(header.as_bytes(), length) {
            Selection::One(range) => Some((range.start(), range.len())),
            Selection::NotSatisfiable => None,
            other => panic!("{header} of {length}: {other:?}"),
        };
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn a_chosen_encoding_is_available(
        bytes in any_bytes(), list in weighted_list(&["br", "zstd", "gzip", "x-gzip", "GZIP", "identity", "*", "deflate"]),
    ) {
        headers::accept_encoding(&bytes);
        headers::accept_encoding(list.as_bytes());
    }

    #[test]
    fn the_first_of_a_name_in_a_query_counts(bytes in any_bytes(), query in query()) {
        headers::query(&bytes);
        headers::query(query.as_bytes());
    }

    #[test]
    fn no_name_makes_a_harmful_disposition(bytes in any_bytes(), name in file_name()) {
        headers::disposition(&bytes);
        headers::disposition(name.as_bytes());
    }

    #[test]
    fn no_name_makes_html_immutable(bytes in any_bytes(), name in file_name()) {
        headers::cache_control(&bytes);
        headers::cache_control(name.as_bytes());
    }

    #[test]
    fn clients_that_name_html_get_html(
        bytes in any_bytes(),
        list in weighted_list(&["text/html", "application/json", "*/*", "text/*", "application/xhtml+xml", "a/b"]),
    ) {
        headers::accept(&bytes);
        headers::accept(list.as_bytes());
    }

    #[test]
    fn the_best_digest_is_an_accepted_one(bytes in any_bytes(), header in dictionary()) {
        headers::want_digest(&bytes);
        headers::want_digest(header.as_bytes());
    }

    #[test]
    fn a_checksum_is_found_by_the_name_of_its_file(
        bytes in any_bytes(), name in file_name(), digest in any::<[u8; 32]>(),
    ) {
        headers::checksum_file(name.as_bytes(), &bytes, digest);
        headers::checksum_file(&bytes, name.as_bytes(), digest);
    }

    #[test]
    fn encoding_hides_no_injection(bytes in any_bytes(), left in injection(), right in injection()) {
        headers::query_filter(&bytes, left.as_bytes());
        headers::query_filter(left.as_bytes(), right.as_bytes());
    }

    #[test]
    fn a_signed_url_with_a_changed_byte_opens_no_other_path(
        segments in vec("[a-z %é&]{1,6}", 1..4), download in any_bytes(), has_client in any::<bool>(),
        at in any::<prop::sample::Index>(), byte in any::<u8>(), piece in url_piece(),
    ) {
        let path = segments.join("/");
        let url = access::signed_url(path.as_bytes(), has_client.then_some("192.0.2.0/24"), Some(&download));
        let target = access::target(&url);
        access::mutated(&url, &target);
        let at = at.index(target.len());
        let (before, after) = target.split_at(at);
        access::mutated(&url, &[before, &[byte], &after[1..]].concat());
        access::mutated(&url, &[before, &[byte], after].concat());
        access::mutated(&url, &[before, &after[1..]].concat());
        access::mutated(&url, &[before, piece.as_bytes(), after].concat());
        access::mutated(&url, &[&target, piece.as_bytes()].concat());
    }

    #[test]
    fn different_signed_urls_have_different_texts(
        paths in [any_bytes(), any_bytes()], names in [proptest::option::of(url_piece()), proptest::option::of(url_piece())],
        clients in [proptest::option::of(url_piece()), proptest::option::of(url_piece())],
    ) {
        let url = |index: usize| {
            access::signed_url(&paths[index], clients[index].as_deref(), names[index].as_deref().map(str::as_bytes))
        };
        access::distinct_texts(&url(0), &url(1));
        access::distinct_texts(&url(0), &url(0));
    }

    #[test]
    fn parsed_credentials_have_no_control_characters(bytes in any_bytes(), token in "[a-zA-Z0-9+/=]{0,40}", scheme in one_of(vec!["Basic ", "bearer ", "BASIC  ", ""])) {
        access::credentials(&bytes);
        access::credentials(&[scheme.as_bytes(), &bytes].concat());
        access::credentials(format!("{scheme}{token}").as_bytes());
    }

    #[test]
    fn no_answer_is_longer_than_the_representation(header in range_header(), length in length()) {
        let etag = EntityTag::parse(b"\"a\"").expect("a tag");
        let has = Representation { length, etag: &etag, last_modified: None, dates_are_strong: true, media_type: b"text/plain" };
        match decide(&RequestFacts { range: Some(header.as_bytes()), ..RequestFacts::default() }, &has) {
            Answer::Part(range) => prop_assert!(range.len() <= length),
            Answer::Parts(ranges) => prop_assert!(body_length(&ranges, has.media_type.len(), length) <= length),
            answer => prop_assert!(matches!(answer, Answer::Whole | Answer::NotSatisfiable)),
        }
    }
}

/// Pieces that may be inserted into a signed URL.
fn url_piece() -> impl Strategy<Value = String> {
    let pieces = [
        "&download=x",
        "&download",
        "&expires=9999999999",
        "&key=k1",
        "&client=127.0.0.1",
        "&sig=",
        "&archive=zip",
        "&",
        "?",
        "/",
        "/..",
        "/.",
        "%2e",
        "%",
        "=",
        "+",
        "#",
        "a",
        ",",
        "13:download=y,",
        "%00",
        "%26download=x",
        "k2",
        "",
    ];
    vec(one_of(pieces.to_vec()), 0..3).prop_map(|pieces| pieces.concat())
}

/// A start and a length, often where the number of digits changes.
fn span() -> impl Strategy<Value = (u16, u16)> {
    let edges = vec![0, 8, 9, 10, 98, 99, 100, 998, 999, 1_000];
    prop_oneof![(0..4_000u16, 0..1_000u16), (one_of(edges), 1..3u16)]
}

proptest! {
    // Whole bodies are built and read.
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_multipart_body_can_be_read_back(
        total in 0..4_000u16, spans in vec(span(), 0..12), random in any::<u128>(),
    ) {
        checks::multipart(total, &spans, "text/html; charset=utf-8", random);
    }

    #[test]
    fn a_multipart_body_of_any_bytes_can_be_read_back(bytes in any_bytes()) {
        checks::multipart_from_bytes(&bytes);
    }
}
