//! Circles of files: each needs the other, directly or through further files.

use std::collections::{BTreeMap, BTreeSet};

use super::modules::{Crate, FileId, Module, ModuleId};
use super::paths::{Import, WrittenPath};

/// For each file, the files it needs, each with the first path that leads there.
pub(crate) struct FileGraph<'a> {
    parsed: &'a Crate,
    edges: BTreeMap<FileId, BTreeMap<FileId, &'a WrittenPath>>,
}

impl<'a> FileGraph<'a> {
    /// Draws an edge for every path of every module. A re-export is none, unless its own file uses the name.
    pub(crate) fn new(parsed: &'a Crate) -> Self {
        let mut graph = Self { parsed, edges: BTreeMap::new() };
        for (id, module) in parsed.modules.iter().enumerate() {
            for import in &module.imports {
                graph.add_import(id, module, import);
            }
            for path in &module.paths {
                graph.add(module.file, parsed.files_of(id, &path.segments), path);
            }
        }
        graph
    }

    /// Returns the sets of two or more files that all reach each other.
    pub(crate) fn circles(&self) -> Vec<BTreeSet<FileId>> {
        let reached: BTreeMap<_, _> =
            self.edges.keys().map(|&file| (file, self.reached_from(file))).collect();
        let reaches = |from: FileId, to: FileId| reached.get(&from).is_some_and(|files| files.contains(&to));
        let mut circles = BTreeSet::new();
        for (&file, others) in &reached {
            let circle: BTreeSet<_> = others.iter().copied().filter(|&other| reaches(other, file)).collect();
            if circle.len() > 1 {
                circles.insert(circle);
            }
        }
        circles.into_iter().collect()
    }

    /// Describes a circle: its files, and for each edge within it a path.
    pub(crate) fn describe(&self, circle: &BTreeSet<FileId>) -> String {
        let name = |file: FileId| self.parsed.files[file].name.as_str();
        let mut text = format!("a circle of {} files:", circle.len());
        for &from in circle {
            for (&to, path) in self.edges[&from].iter().filter(|(to, _)| circle.contains(to)) {
                let place = self.parsed.place(from, path.line);
                text.push_str(&format!("\n    {} -> {}: {place}: {path}", name(from), name(to)));
            }
        }
        text
    }

    fn add_import(&mut self, id: ModuleId, module: &Module, import: &'a Import) {
        let is_passed_on = import.is_reexport && (import.is_glob || !module.words.contains(&import.name));
        if is_passed_on {
            return;
        }
        let segments = &import.path.segments;
        let target = import.is_glob.then(|| self.parsed.module_at(id, segments)).flatten();
        let Some(target) = target else {
            return self.add(module.file, self.parsed.files_of(id, segments), &import.path);
        };
        self.add(module.file, vec![self.parsed.modules[target].file], &import.path);
        for name in self.parsed.names_in(target) {
            if module.words.contains(name) {
                self.add(module.file, self.parsed.files_of_item(target, name), &import.path);
            }
        }
    }

    fn add(&mut self, from: FileId, needed: Vec<FileId>, path: &'a WrittenPath) {
        for to in needed.into_iter().filter(|&to| to != from) {
            self.edges.entry(from).or_default().entry(to).or_insert(path);
        }
    }

    /// Returns the files that `start` reaches by one edge or more.
    fn reached_from(&self, start: FileId) -> BTreeSet<FileId> {
        let mut reached = BTreeSet::new();
        let mut open = vec![start];
        while let Some(file) = open.pop() {
            for &next in self.edges.get(&file).into_iter().flat_map(BTreeMap::keys) {
                if reached.insert(next) {
                    open.push(next);
                }
            }
        }
        reached
    }
}

mod tests {
    use super::super::modules::crate_of;
    use super::FileGraph;

    #[track_caller]
    fn check(files: &[(&str, &str)], expected: &[&str]) {
        let parsed = crate_of(files);
        let circles = FileGraph::new(&parsed).circles();
        let named: Vec<_> = circles
            .iter()
            .map(|circle| {
                let mut names: Vec<_> = circle.iter().map(|&file| parsed.files[file].name.as_str()).collect();
                names.sort_unstable();
                names.join(" ")
            })
            .collect();
        assert_eq!(named, expected);
    }

    #[test]
    fn two_files_that_import_each_other_are_a_circle() {
        check(
            &[
                ("lib.rs", "mod a; mod b; mod c;"),
                ("a.rs", "use crate::b::B; pub struct A;"),
                ("b.rs", "fn f() { crate::c::g() } pub struct B;"),
                ("c.rs", "use super::a; pub fn g() { a::A }"),
            ],
            &["a.rs b.rs c.rs"],
        );
    }

    #[test]
    fn a_mod_file_that_only_reexports_is_in_no_circle() {
        check(
            &[
                ("lib.rs", "mod a;"),
                ("a/mod.rs", "mod b; mod c; pub(crate) use b::B; pub use self::c::*;"),
                ("a/b.rs", "use super::C; pub struct B;"),
                ("a/c.rs", "pub struct C;"),
            ],
            &[],
        );
        check(
            &[
                ("lib.rs", "mod a;"),
                ("a/mod.rs", "mod b; mod c; pub(crate) use b::B; pub use self::c::*;"),
                ("a/b.rs", "use super::C; pub struct B;"),
                ("a/c.rs", "use super::*; pub struct C(B);"),
            ],
            &["a/b.rs a/c.rs"],
        );
    }

    #[test]
    fn a_parent_that_uses_what_it_reexports_needs_it() {
        let child = ("a/b.rs", "use super::A; pub struct B;");
        check(&[("lib.rs", "mod a;"), ("a.rs", "mod b; pub use b::B; pub struct A;"), child], &[]);
        check(
            &[("lib.rs", "mod a;"), ("a.rs", "mod b; pub use b::B; pub struct A(B);"), child],
            &["a.rs a/b.rs"],
        );
        check(&[("lib.rs", "mod a;"), ("a.rs", "mod b; pub struct A(b::B);"), child], &["a.rs a/b.rs"]);
    }

    #[test]
    fn tests_make_no_circle() {
        check(
            &[
                ("lib.rs", "mod a; mod b;"),
                ("a.rs", "use crate::b::B; pub struct A;"),
                ("b.rs", "pub struct B; #[cfg(test)] mod tests { use super::*; use crate::a::A; }"),
            ],
            &[],
        );
    }
}
