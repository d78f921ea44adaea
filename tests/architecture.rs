//! Architecture of `src/`: thirteen rooms, imports in one direction, no circles, bounded sizes.
//!
//! Reads the source text, so it needs no crate but `std`. Code for tests is not checked.
//! Alone: `CARGO_MANIFEST_DIR=$PWD rustc --edition 2024 --test tests/architecture.rs -o /tmp/architecture`.

#![allow(clippy::expect_used, reason = "a check that fails has to say so")]

mod architecture {
    pub(crate) mod cfg_test;
    pub(crate) mod circles;
    pub(crate) mod lexer;
    pub(crate) mod modules;
    pub(crate) mod paths;
    mod resolver;
    pub(crate) mod rooms;
    pub(crate) mod sizes;
}

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use architecture::circles::FileGraph;
use architecture::lexer::lex;
use architecture::modules::Crate;
use architecture::{rooms, sizes};

/// The only file that may contain `unsafe`.
const UNSAFE_FILE: &str = "sys/kernel.rs";

/// Texts of all source files by their paths below `src/`.
static SOURCES: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    let mut sources = BTreeMap::new();
    read_sources(&root(), "", &mut sources);
    sources
});

static CRATE: LazyLock<Crate> = LazyLock::new(|| Crate::parse(&SOURCES));

#[test]
fn the_top_floor_is_main_lib_and_thirteen_rooms() {
    let mut entries = BTreeSet::new();
    for (name, path) in entries_of(&root()) {
        entries.insert(if path.is_dir() { format!("{name}/") } else { name });
    }
    let findings = rooms::check_top_floor(&entries, |name| SOURCES.contains_key(name));
    assert_none("src/ holds main.rs, lib.rs and the rooms", &findings);
}

#[test]
fn a_mod_file_only_declares_and_reexports() {
    let mod_files = SOURCES.iter().filter(|(name, _)| name.ends_with("/mod.rs"));
    let findings: Vec<_> = mod_files.flat_map(|(name, text)| rooms::check_mod_file(name, text)).collect();
    assert_none("a mod.rs holds a //! doc, attributes, mod and use", &findings);
}

#[test]
fn arrows_run_one_way() {
    assert_none("a room imports only rooms to its right", &rooms::check_arrows(&CRATE));
}

#[test]
fn no_super_leaves_a_room() {
    assert_none("super:: stays in its room", &rooms::check_supers(&CRATE));
}

#[test]
fn no_file_is_in_a_circle_with_another() {
    let graph = FileGraph::new(&CRATE);
    let circles: Vec<_> = graph.circles().iter().map(|circle| graph.describe(circle)).collect();
    assert_none("no file needs one that needs it", &circles);
}

#[test]
fn only_the_kernel_file_contains_unsafe() {
    let has_unsafe = |text: &str| lex(text).iter().any(|token| token.is("unsafe"));
    let files: Vec<_> = SOURCES.iter().filter(|(_, text)| has_unsafe(text)).map(|(name, _)| name).collect();
    assert_eq!(files, [UNSAFE_FILE], "files with unsafe");
}

#[test]
fn no_two_visible_types_have_the_same_name() {
    let mut places: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for module in &CRATE.modules {
        for definition in &module.visible_types {
            places.entry(&definition.name).or_default().push(CRATE.place(module.file, definition.line));
        }
    }
    places.retain(|_, places| places.len() > 1);
    let findings: Vec<_> =
        places.iter().map(|(name, places)| format!("{name}: {}", places.join(", "))).collect();
    assert_none("a name is given to one type", &findings);
}

#[test]
fn every_decision_is_named_from_the_code_that_its_page_and_the_list_name() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/decisions");
    let list = fs::read_to_string(directory.join("README.md")).expect("the list of decisions");
    let outside = ["build.rs", "Cargo.toml"].map(|name| (name.to_owned(), read_at_the_top(name)));
    let inside = SOURCES.iter().map(|(name, text)| (format!("src/{name}"), text.clone()));
    let code: Vec<_> = outside.into_iter().chain(inside).collect();
    let mut findings = Vec::new();
    for (page, path) in entries_of(&directory).filter(|(name, _)| name != "README.md") {
        let text = fs::read_to_string(path).expect("a readable page");
        let title = text.lines().next().unwrap_or_default().trim_start_matches("# ");
        let named = code.iter().filter(|(_, text)| text.contains(&format!("docs/decisions/{page}")));
        let mut files: Vec<_> = named.map(|(name, _)| format!("`{name}`")).collect();
        files.sort();
        let line = text.lines().find_map(|line| line.strip_prefix("Code: ")).unwrap_or_default();
        let mut listed: Vec<_> = line.split(", ").collect();
        listed.sort_unstable();
        if listed != files {
            findings.push(format!("{page}: names {listed:?}, is named from {files:?}"));
        }
        if !list.contains(&format!("| [{title}]({page}) | {line} |")) {
            findings.push(format!("{page}: no such row in the list"));
        }
    }
    assert_none("a page, the list and the code name each other", &findings);
}

#[test]
fn files_are_short() {
    assert_none("lines of code in a file", &sizes::check_files(&CRATE));
}

#[test]
fn functions_are_short_and_take_few_arguments() {
    let rule =
        format!("{} lines of code and {} arguments at most", sizes::FUNCTION_LINES_MAX, sizes::ARGUMENTS_MAX);
    assert_none(&rule, &sizes::check_functions(&CRATE));
}

#[test]
fn the_crate_stays_within_its_lines() {
    let total = sizes::total_lines(&CRATE);
    assert!(
        total <= sizes::TOTAL_LINES_MAX,
        "{total} lines of code in src/, {} at most",
        sizes::TOTAL_LINES_MAX
    );
}

/// Fails with all findings, one a line.
#[track_caller]
fn assert_none(rule: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{rule}; {} findings:\n  {}\n", findings.len(), findings.join("\n  "));
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn read_at_the_top(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect("a readable file")
}

/// Reads every `.rs` file below `directory`, whose path below `src/` is `prefix`.
fn read_sources(directory: &Path, prefix: &str, sources: &mut BTreeMap<String, String>) {
    for (name, path) in entries_of(directory) {
        let name = format!("{prefix}{name}");
        if path.is_dir() {
            read_sources(&path, &format!("{name}/"), sources);
        } else if name.ends_with(".rs") {
            sources.insert(name, fs::read_to_string(path).expect("a readable file"));
        }
    }
}

/// Returns the names and paths of what is in `directory`.
fn entries_of(directory: &Path) -> impl Iterator<Item = (String, PathBuf)> {
    directory.read_dir().expect("a readable directory").map(|entry| {
        let entry = entry.expect("a readable entry");
        (entry.file_name().to_string_lossy().into_owned(), entry.path())
    })
}
