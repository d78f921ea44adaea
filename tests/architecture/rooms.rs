//! The rooms of `src/` and the direction in which they may import each other.

use std::collections::BTreeSet;

use super::cfg_test::{after_visibility, body_end, inner_attribute_end, outer_attribute_end, without_tests};
use super::lexer::{Token, lex};
use super::modules::{Crate, Module};
use super::paths::{WrittenPath, read_use};

/// The rooms by rank: each may import those of later ranks only. Rooms of one rank may not import each other.
const RANKS: [&[&str]; 12] = [
    &["server"],
    &["cli", "admin"],
    &["lifecycle"],
    &["site"],
    &["net"],
    &["auth"],
    &["limits"],
    &["files"],
    &["telemetry"],
    &["config"],
    &["sys"],
    &["http"],
];

/// Compares the entries of `src/`, directories with a slash, with `main.rs`, `lib.rs` and the rooms, and looks for the
/// `mod.rs` of each room.
pub(crate) fn check_top_floor(entries: &BTreeSet<String>, is_file: impl Fn(&str) -> bool) -> Vec<String> {
    let rooms: BTreeSet<_> =
        RANKS.iter().flat_map(|rank| rank.iter()).map(|room| format!("{room}/")).collect();
    let mut expected = rooms.clone();
    expected.extend(["main.rs".to_owned(), "lib.rs".to_owned()]);
    let surplus = entries.difference(&expected).map(|entry| format!("src/{entry}: does not belong there"));
    let missing = expected.difference(entries).map(|entry| format!("src/{entry}: is missing"));
    let mod_files = rooms.intersection(entries).map(|room| format!("{room}mod.rs"));
    let no_mod_file = mod_files.filter(|name| !is_file(name)).map(|name| format!("src/{name}: is missing"));
    surplus.chain(missing).chain(no_mod_file).collect()
}

/// Checks that a `mod.rs` begins with a `//!` doc and holds nothing but attributes, `mod name;` and `use`.
pub(crate) fn check_mod_file(name: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    if !text.trim_start().starts_with("//!") {
        findings.push(format!("src/{name}:1: does not begin with a //! doc"));
    }
    let tokens = without_tests(&lex(text));
    let mut at = 0;
    while at < tokens.len() {
        match declaration_end(&tokens, at) {
            Some(end) => at = end,
            None => {
                let first: Vec<_> = tokens[at..].iter().take(5).map(|token| token.text.as_str()).collect();
                findings.push(format!("src/{name}:{}: code: {} …", tokens[at].line, first.join(" ")));
                at = body_end(&tokens, at);
            }
        }
    }
    findings
}

/// Returns the index after the attribute, `mod name;` or `use …;` at `at`, if it is one of them.
fn declaration_end(tokens: &[Token], at: usize) -> Option<usize> {
    if let Some(end) = inner_attribute_end(tokens, at).or_else(|| outer_attribute_end(tokens, at)) {
        return Some(end);
    }
    let keyword = after_visibility(tokens, at);
    if tokens.get(keyword)?.is("use") {
        return Some(read_use(tokens, keyword).1);
    }
    let is_module = tokens[keyword].is("mod") && tokens.get(keyword + 2)?.is(";");
    is_module.then_some(keyword + 3)
}

/// Lists every path that leads to a room on the left, to one of the same rank, or to no room.
pub(crate) fn check_arrows(parsed: &Crate) -> Vec<String> {
    check_paths(parsed, |module, path| {
        let target = match path.segments.as_slice() {
            [root, target, ..] if root == "crate" => target,
            [root] if root == "crate" => return Some("names the whole crate".to_owned()),
            _ => return None,
        };
        let room = module.path.first()?;
        if room == target {
            return None;
        }
        match (rank(room), rank(target)) {
            (_, None) => Some(format!("{target} is no room")),
            (None, _) => Some(format!("{room} is no room")),
            (Some(own), Some(other)) if own < other => None,
            (Some(own), Some(other)) if own == other => {
                Some(format!("{room} and {target} may not know each other"))
            }
            _ => Some(format!("{target} stands left of {room}")),
        }
    })
}

/// Lists every path whose `super`s lead out of the room it stands in.
pub(crate) fn check_supers(parsed: &Crate) -> Vec<String> {
    check_paths(parsed, |module, path| {
        let leading = path.segments.iter().take_while(|segment| matches!(segment.as_str(), "self" | "super"));
        let supers = leading.filter(|segment| *segment == "super").count();
        let leaves = supers > 0 && supers >= module.path.len();
        leaves.then(|| format!("leaves {}", module.path.first().map_or("the crate", String::as_str)))
    })
}

/// Applies `rule` to each path outside `lib.rs` and adds its place to what the rule finds.
fn check_paths(parsed: &Crate, rule: impl Fn(&Module, &WrittenPath) -> Option<String>) -> Vec<String> {
    let mut findings = Vec::new();
    for module in parsed.modules.iter().filter(|module| !module.path.is_empty()) {
        for path in module.all_paths() {
            if let Some(finding) = rule(module, path) {
                findings.push(format!("{}: {path}: {finding}", parsed.place(module.file, path.line)));
            }
        }
    }
    findings
}

fn rank(room: &str) -> Option<usize> {
    RANKS.iter().position(|rank| rank.contains(&room))
}

mod tests {
    use std::collections::BTreeSet;

    use super::super::modules::crate_of;
    use super::{RANKS, check_arrows, check_mod_file, check_supers, check_top_floor};

    #[test]
    fn the_top_floor_is_exact() {
        let rooms = RANKS.iter().flat_map(|rank| rank.iter());
        let complete: BTreeSet<_> =
            rooms.map(|room| format!("{room}/")).chain(["main.rs".to_owned(), "lib.rs".to_owned()]).collect();
        let with = |more: &str| complete.iter().cloned().chain([more.to_owned()]).collect();
        let without = |less: &str| complete.iter().filter(|name| *name != less).cloned().collect();
        let check = |entries: &BTreeSet<String>| check_top_floor(entries, |name| name != "net/mod.rs");
        assert!(check_top_floor(&complete, |_| true).is_empty());
        assert_eq!(check(&complete), ["src/net/mod.rs: is missing"]);
        assert_eq!(check(&without("net/")), ["src/net/: is missing"]);
        assert_eq!(check_top_floor(&with("tls.rs"), |_| true), ["src/tls.rs: does not belong there"]);
        assert_eq!(check_top_floor(&with("util/"), |_| true), ["src/util/: does not belong there"]);
        assert_eq!(check_top_floor(&without("lib.rs"), |_| true), ["src/lib.rs: is missing"]);
    }

    #[test]
    fn a_mod_file_declares_and_reexports() {
        let cases = [
            ("//! Doc.\n#![allow(x)]\nmod a;\n#[cfg(unix)]\npub(crate) mod b;\npub use self::a::{A, B};", 0),
            ("//! Doc.\n#[cfg(test)]\nmod tests { fn f() {} }", 0),
            ("mod a;", 1),
            ("//! Doc.\nmod a { }", 1),
            ("//! Doc.\npub(crate) fn f() {}\nconst A: u8 = 1;\nmod b;", 2),
        ];
        for (text, findings) in cases {
            assert_eq!(check_mod_file("a/mod.rs", text).len(), findings, "{text}");
        }
    }

    #[test]
    fn arrows_to_the_left_are_found() {
        let cases = [
            ("net", "use crate::{config, http::Date};", ""),
            ("server", "use crate::admin::A; use crate::cli::B;", ""),
            ("net", "use crate::net::A; use super::B; use std::io;", ""),
            ("net", "fn f() { crate::site::g() }", "src/net.rs:1: crate::site::g: site stands left of net"),
            (
                "net",
                "use crate::{\n    http,\n    site::A,\n};",
                "src/net.rs:3: crate::site::A: site stands left of net",
            ),
            (
                "net",
                "macro_rules! m { () => { $crate::site::A } }",
                "src/net.rs:1: crate::site::A: site stands left of net",
            ),
            ("cli", "use crate::admin;", "src/cli.rs:1: crate::admin: cli and admin may not know each other"),
            ("net", "use crate::*;", "src/net.rs:1: crate: names the whole crate"),
            ("net", "use crate::Thing;", "src/net.rs:1: crate::Thing: Thing is no room"),
            ("net", "#[cfg(test)] mod tests { use crate::site::A; }", ""),
        ];
        for (room, text, finding) in cases {
            let file = format!("{room}.rs");
            let found = check_arrows(&crate_of(&[("lib.rs", &format!("mod {room};")), (&file, text)]));
            assert_eq!(found.join("\n"), finding, "{text}");
        }
    }

    #[test]
    fn supers_that_leave_the_room_are_found() {
        let cases = [
            ("", "use super::A; mod inner { use super::super::B; }", 0),
            ("use self::deep::A;", "", 0),
            ("use super::site::A;", "", 1),
            ("", "use super::super::site::A;", 1),
            ("", "fn f() { self::super::super::site::g() }", 1),
            ("", "mod inner { use super::super::{super::site, B}; }", 1),
            ("pub(super) fn f() {}", "pub(in super::super) fn f() {}", 0),
        ];
        for (room, deep, findings) in cases {
            let room = format!("mod deep; {room}");
            let parsed = crate_of(&[("lib.rs", "mod net;"), ("net/mod.rs", &room), ("net/deep.rs", deep)]);
            assert_eq!(check_supers(&parsed).len(), findings, "{room} {deep}");
        }
    }
}
