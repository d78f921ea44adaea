//! Resolves paths to the files that define what they name.

use std::collections::BTreeSet;

use super::modules::{Crate, FileId, ModuleId};
use super::paths::Import;

/// Most re-exports that one name is followed through. Also ends the search where two modules re-export each other.
const CHAIN_MAX: usize = 8;

/// Where a path leads, and the files with code whose imports or re-exports it is followed through.
struct Reached<T> {
    target: T,
    through: Vec<FileId>,
}

impl<T> Reached<T> {
    fn directly(target: T) -> Self {
        Self { target, through: Vec::new() }
    }

    fn after(mut self, through: impl IntoIterator<Item = FileId>) -> Self {
        self.through.extend(through);
        self
    }
}

impl Reached<FileId> {
    fn into_files(mut self) -> Vec<FileId> {
        self.through.push(self.target);
        self.through
    }
}

impl Crate {
    /// Returns the file that defines what `segments` names in `from`: an item, through all re-exports, else a module.
    /// It stands last, after the files with code that pass the name on: a `mod.rs` is none of them.
    /// An item that is not found, such as one that a macro makes, is taken to be in the deepest module's own file.
    /// Empty if the path leads out of the crate, or begins with an item in scope, for which its `use` counts.
    pub(crate) fn files_of(&self, from: ModuleId, segments: &[String]) -> Vec<FileId> {
        let module = || {
            let reached = self.module_within(from, segments, CHAIN_MAX)?;
            Some(Reached { target: self.modules[reached.target].file, through: reached.through })
        };
        self.item_at(from, segments, CHAIN_MAX).or_else(module).map(Reached::into_files).unwrap_or_default()
    }

    /// Returns the module that `segments` names in `from`, if it is one.
    pub(crate) fn module_at(&self, from: ModuleId, segments: &[String]) -> Option<ModuleId> {
        self.module_within(from, segments, CHAIN_MAX).map(|reached| reached.target)
    }

    /// Like `files_of`, for the item `name` of `module`.
    pub(crate) fn files_of_item(&self, module: ModuleId, name: &str) -> Vec<FileId> {
        self.item_named(module, name, CHAIN_MAX).map(Reached::into_files).unwrap_or_default()
    }

    /// Returns every name that `module` defines or imports, other than by a glob.
    pub(crate) fn names_in(&self, module: ModuleId) -> BTreeSet<&str> {
        let module = &self.modules[module];
        let imported =
            module.imports.iter().filter(|import| !import.is_glob).map(|import| import.name.as_str());
        module.items.iter().map(String::as_str).chain(imported).collect()
    }

    /// Walks `crate`, `self` and `super` at the start of a path. Returns where they lead and their number.
    /// `None` if a `super` leads out of the crate.
    fn anchor(&self, from: ModuleId, segments: &[String]) -> Option<(ModuleId, usize)> {
        let (mut module, mut length) = match segments.first().map(String::as_str) {
            Some("crate") => (0, 1),
            Some("self") => (from, 1),
            _ => (from, 0),
        };
        while segments.get(length).is_some_and(|segment| segment == "super") {
            module = self.modules[module].parent?;
            length += 1;
        }
        Some((module, length))
    }

    fn module_within(&self, from: ModuleId, segments: &[String], fuel: usize) -> Option<Reached<ModuleId>> {
        let (module, anchor) = self.anchor(from, segments)?;
        let mut reached = Reached::directly(module);
        for name in &segments[anchor..] {
            reached = self.module_named(reached.target, name, fuel)?.after(reached.through);
        }
        Some(reached)
    }

    fn item_at(&self, from: ModuleId, segments: &[String], fuel: usize) -> Option<Reached<FileId>> {
        let (module, anchor) = self.anchor(from, segments)?;
        let names = &segments[anchor..];
        let mut reached = Reached::directly(module);
        for (index, name) in names.iter().enumerate() {
            let is_last = index + 1 == names.len();
            let item = is_last.then(|| self.item_named(reached.target, name, fuel)).flatten();
            if let Some(item) = item {
                return Some(item.after(reached.through));
            }
            let Some(deeper) = self.module_named(reached.target, name, fuel) else {
                // A bare name that is no module: of another crate, or an item in scope.
                if anchor == 0 && index == 0 {
                    return None;
                }
                let own = || Reached::directly(self.modules[reached.target].file);
                return Some(
                    self.item_named(reached.target, name, fuel).unwrap_or_else(own).after(reached.through),
                );
            };
            reached = deeper.after(reached.through);
        }
        None
    }

    /// Finds the module `name` among the children, imports and globs of `module`.
    fn module_named(&self, module: ModuleId, name: &str, fuel: usize) -> Option<Reached<ModuleId>> {
        if let Some(&child) = self.modules[module].children.get(name) {
            return Some(Reached::directly(child));
        }
        let fuel = fuel.checked_sub(1)?;
        let by_name = self
            .imports_of(module, name)
            .find_map(|import| self.module_within(module, &import.path.segments, fuel));
        by_name
            .or_else(|| self.globs_of(module, fuel).find_map(|target| self.module_named(target, name, fuel)))
            .map(|reached| reached.after(self.file_with_code(module)))
    }

    /// Finds the item `name` among the definitions, imports and globs of `module`.
    fn item_named(&self, module: ModuleId, name: &str, fuel: usize) -> Option<Reached<FileId>> {
        if self.modules[module].items.contains(name) {
            return Some(Reached::directly(self.modules[module].file));
        }
        let fuel = fuel.checked_sub(1)?;
        let by_name = self
            .imports_of(module, name)
            .find_map(|import| self.item_at(module, &import.path.segments, fuel));
        by_name
            .or_else(|| self.globs_of(module, fuel).find_map(|target| self.item_named(target, name, fuel)))
            .map(|reached| reached.after(self.file_with_code(module)))
    }

    /// The file of `module`, unless it is one that only declares and re-exports.
    fn file_with_code(&self, module: ModuleId) -> Option<FileId> {
        let file = self.modules[module].file;
        let name = &self.files[file].name;
        (!name.ends_with("/mod.rs") && name != "lib.rs").then_some(file)
    }

    /// Imports under `name`, without `pub(crate) use name;`, by which a macro becomes a path.
    fn imports_of<'a>(&'a self, module: ModuleId, name: &'a str) -> impl Iterator<Item = &'a Import> {
        let imports = self.modules[module].imports.iter();
        imports.filter(move |import| !import.is_glob && import.name == name && import.path.segments != [name])
    }

    fn globs_of(&self, module: ModuleId, fuel: usize) -> impl Iterator<Item = ModuleId> {
        let globs = self.modules[module].imports.iter().filter(|import| import.is_glob);
        let targets = globs.filter_map(move |import| self.module_within(module, &import.path.segments, fuel));
        targets.map(|reached| reached.target).filter(move |target| *target != module)
    }
}

mod tests {
    use super::super::modules::{Crate, crate_of};

    fn example() -> Crate {
        crate_of(&[
            ("lib.rs", "pub mod net; pub mod site; mod sys;"),
            (
                "net/mod.rs",
                "mod tls; mod send; pub mod sort; pub use self::tls::{Tls, Made as Renamed}; pub use self::send::*; \
                pub(crate) use crate::sys::clock; pub use self::sort::sort; pub use std::io::Error;",
            ),
            ("net/tls.rs", "pub struct Tls; words! { Made }"),
            ("net/send.rs", "pub fn send() {} pub use self::queue::Queue; mod queue; use super::Tls;"),
            ("net/send/queue.rs", "pub enum Queue { A } mod inner { pub struct Deep; }"),
            ("net/sort.rs", "pub fn sort() {} pub struct Key;"),
            ("site/mod.rs", "pub use crate::net::{Queue, send}; pub mod page;"),
            ("site/page.rs", "use crate::net; use crate::net::clock as watch; use crate::net::sort;"),
            (
                "sys/mod.rs",
                "pub mod clock; pub use self::clock::{Clock, round}; pub use crate::sys::round as again;",
            ),
            ("sys/clock.rs", "pub struct Clock; macro_rules! round { () => {} } pub(crate) use round;"),
        ])
    }

    #[track_caller]
    fn check(from: &str, path: &str, expected: Option<&str>) {
        let parsed = example();
        let from_id =
            parsed.modules.iter().position(|module| module.path.join("::") == from).expect("a module");
        let segments: Vec<_> = path.split("::").map(str::to_owned).collect();
        let files = parsed.files_of(from_id, &segments);
        let file = files.last().map(|&file| parsed.files[file].name.as_str());
        assert_eq!(file, expected, "{path} in {from}");
    }

    #[test]
    fn a_path_leads_to_the_file_that_defines_the_item() {
        let cases = [
            ("site::page", "crate::net::tls::Tls", "net/tls.rs"),
            ("net::send::queue", "super::send", "net/send.rs"),
            ("net::send::queue", "super::super::Tls", "net/tls.rs"),
            ("net::send::queue", "self::Queue::A", "net/send/queue.rs"),
            ("net::send::queue::inner", "super::super::send", "net/send.rs"),
            ("net::send", "queue::inner::Deep", "net/send/queue.rs"),
        ];
        for (from, path, file) in cases {
            check(from, path, Some(file));
        }
    }

    #[test]
    fn reexports_are_followed() {
        let cases = [
            ("site::page", "crate::net::Tls", "net/tls.rs"),
            ("site::page", "crate::net::Tls::new", "net/tls.rs"),
            ("site::page", "crate::net::Renamed", "net/tls.rs"),
            ("site::page", "crate::net::Queue", "net/send/queue.rs"),
            ("site::page", "super::Queue::A", "net/send/queue.rs"),
            ("site::page", "super::send", "net/send.rs"),
            ("site::page", "crate::net::clock::Clock", "sys/clock.rs"),
            ("site::page", "crate::sys::round", "sys/clock.rs"),
            ("site::page", "crate::sys::again", "sys/clock.rs"),
            ("net::send::queue", "super::Tls", "net/tls.rs"),
        ];
        for (from, path, file) in cases {
            check(from, path, Some(file));
        }
    }

    #[test]
    fn a_file_with_code_that_passes_a_name_on_is_needed_as_well() {
        let cases: [(&str, &[&str]); 4] = [
            ("crate::net::Tls", &["net/tls.rs"]),
            ("crate::net::Queue", &["net/send.rs", "net/send/queue.rs"]),
            ("crate::net::send::Queue::A", &["net/send.rs", "net/send/queue.rs"]),
            ("crate::net::send::queue::Queue", &["net/send/queue.rs"]),
        ];
        let parsed = example();
        for (path, expected) in cases {
            let segments: Vec<_> = path.split("::").map(str::to_owned).collect();
            let files = parsed.files_of(0, &segments);
            let names: Vec<_> = files.iter().map(|&file| parsed.files[file].name.as_str()).collect();
            assert_eq!(names, expected, "{path}");
        }
    }

    #[test]
    fn a_module_that_was_imported_is_a_start() {
        let cases = [
            ("site::page", "net::Tls", "net/tls.rs"),
            ("site::page", "watch::Clock", "sys/clock.rs"),
            ("site::page", "sort::Key", "net/sort.rs"),
        ];
        for (from, path, file) in cases {
            check(from, path, Some(file));
        }
    }

    #[test]
    fn what_is_not_found_is_in_the_deepest_module() {
        let cases = [
            ("site::page", "crate::net::Unknown", "net/mod.rs"),
            ("site::page", "crate::net::Error", "net/mod.rs"),
            ("site::page", "crate::net::tls::Made", "net/tls.rs"),
            ("site::page", "crate::net::tls", "net/tls.rs"),
            ("site::page", "crate::net", "net/mod.rs"),
            ("site::page", "crate::net::sort", "net/sort.rs"),
        ];
        for (from, path, file) in cases {
            check(from, path, Some(file));
        }
    }

    #[test]
    fn other_crates_and_local_types_are_no_files() {
        for path in ["std::io::Error", "Tls::new", "tls::Tls", "::net::Tls", "super::super::super::a"] {
            check("site::page", path, None);
        }
    }
}
