//! The crate as a tree of modules, without what is compiled for tests only.

use std::collections::{BTreeMap, BTreeSet};

use super::cfg_test::without_tests;
use super::lexer::{Token, group_end, lex};
use super::paths::{Import, WrittenPath, read_path, read_use};

/// Index in `Crate::modules`.
pub(crate) type ModuleId = usize;
/// Index in `Crate::files`.
pub(crate) type FileId = usize;

/// The files and modules that `lib.rs` reaches through `mod` declarations, and `main.rs`.
pub(crate) struct Crate {
    pub(crate) files: Vec<SourceFile>,
    /// The first is the root, `lib.rs`. The modules of `main.rs` are not in here.
    pub(crate) modules: Vec<Module>,
}

/// A source file that is not for tests only.
pub(crate) struct SourceFile {
    /// Path below `src/`, with slashes.
    pub(crate) name: String,
    /// Its tokens without tests.
    pub(crate) tokens: Vec<Token>,
}

/// A module: a file, or a `mod name { … }` within one.
pub(crate) struct Module {
    /// Names from the root down; empty for the root.
    pub(crate) path: Vec<String>,
    pub(crate) file: FileId,
    pub(crate) parent: Option<ModuleId>,
    pub(crate) children: BTreeMap<String, ModuleId>,
    /// Names of what it defines itself.
    pub(crate) items: BTreeSet<String>,
    /// Types that it defines with a visibility.
    pub(crate) visible_types: Vec<TypeDefinition>,
    /// What its `use` declarations bring in, those in function bodies included.
    pub(crate) imports: Vec<Import>,
    /// Paths in its code, `use` declarations excepted.
    pub(crate) paths: Vec<WrittenPath>,
    /// Words of its code, `use` declarations excepted.
    pub(crate) words: BTreeSet<String>,
}

/// Where a struct, enum, union, trait or type alias is defined.
#[derive(Clone, Debug)]
pub(crate) struct TypeDefinition {
    pub(crate) name: String,
    pub(crate) line: usize,
}

impl Crate {
    /// Reads the crate from the texts of its files, by their paths below `src/`.
    pub(crate) fn parse(sources: &BTreeMap<String, String>) -> Self {
        let mut parsed = Self { files: Vec::new(), modules: Vec::new() };
        parsed.add_file("lib.rs", Vec::new(), None, sources);
        if let Some(text) = sources.get("main.rs") {
            parsed.files.push(SourceFile { name: "main.rs".to_owned(), tokens: without_tests(&lex(text)) });
        }
        parsed
    }

    /// Returns the path from the root of the repository, and the line: `src/net/tls.rs:12`.
    pub(crate) fn place(&self, file: FileId, line: usize) -> String {
        format!("src/{}:{line}", self.files[file].name)
    }

    fn add_file(
        &mut self,
        name: &str,
        path: Vec<String>,
        parent: Option<ModuleId>,
        sources: &BTreeMap<String, String>,
    ) -> Option<ModuleId> {
        let tokens = without_tests(&lex(sources.get(name)?));
        let file = self.files.len();
        self.files.push(SourceFile { name: name.to_owned(), tokens: tokens.clone() });
        Some(self.add_module(Module::new(path, file, parent), &tokens, sources))
    }

    fn add_module(
        &mut self,
        module: Module,
        tokens: &[Token],
        sources: &BTreeMap<String, String>,
    ) -> ModuleId {
        let id = self.modules.len();
        let (file, path) = (module.file, module.path.clone());
        self.modules.push(module);
        let contents = ModuleReader::read(tokens);
        for child in &contents.children {
            let path: Vec<_> = path.iter().cloned().chain([child.name.clone()]).collect();
            let base = path.join("/");
            let added = match child.body.clone() {
                Some(body) => {
                    Some(self.add_module(Module::new(path, file, Some(id)), &tokens[body], sources))
                }
                None => self
                    .add_file(&format!("{base}.rs"), path.clone(), Some(id), sources)
                    .or_else(|| self.add_file(&format!("{base}/mod.rs"), path, Some(id), sources)),
            };
            if let Some(added) = added {
                self.modules[id].children.insert(child.name.clone(), added);
            }
        }
        let module = &mut self.modules[id];
        module.items = contents.items;
        module.visible_types = contents.visible_types;
        module.imports = contents.imports;
        module.paths = contents.paths;
        module.words = contents.words;
        id
    }
}

impl Module {
    fn new(path: Vec<String>, file: FileId, parent: Option<ModuleId>) -> Self {
        Self {
            path,
            file,
            parent,
            children: BTreeMap::new(),
            items: BTreeSet::new(),
            visible_types: Vec::new(),
            imports: Vec::new(),
            paths: Vec::new(),
            words: BTreeSet::new(),
        }
    }

    /// Every path in the module, `use` declarations included; for a glob, what it is of.
    pub(crate) fn all_paths(&self) -> impl Iterator<Item = &WrittenPath> {
        self.imports.iter().map(|import| &import.path).chain(&self.paths)
    }
}

/// A `mod` declaration; `body` is the range of the tokens between its braces, if it has some.
struct Declaration {
    name: String,
    body: Option<std::ops::Range<usize>>,
}

/// Reads what one module contains.
#[derive(Default)]
struct ModuleReader {
    children: Vec<Declaration>,
    items: BTreeSet<String>,
    visible_types: Vec<TypeDefinition>,
    imports: Vec<Import>,
    paths: Vec<WrittenPath>,
    words: BTreeSet<String>,
    /// For each bracket that is open, whether it hides the items in it. Those of a macro call do not.
    brackets: Vec<bool>,
}

impl ModuleReader {
    fn read(tokens: &[Token]) -> Self {
        let mut reader = Self::default();
        let mut at = 0;
        while at < tokens.len() {
            at = reader.read_at(tokens, at);
        }
        reader
    }

    /// Reads what stands at `at` and returns where to go on.
    fn read_at(&mut self, tokens: &[Token], at: usize) -> usize {
        let token = &tokens[at];
        let next_is = |text| tokens.get(at + 1).is_some_and(|next| next.is(text));
        if token.is("use") && !next_is("<") {
            let (imports, end) = read_use(tokens, at);
            self.imports.extend(imports);
            return end;
        }
        if token.opens() {
            let is_macro_call = at > 0 && tokens[at - 1].is("!");
            self.brackets.push(!is_macro_call);
        } else if token.closes() {
            self.brackets.pop();
        } else if token.is_word() {
            let is_own = !self.brackets.contains(&true);
            if is_own && let Some(end) = self.read_declaration(tokens, at) {
                return end;
            }
            self.read_item(tokens, at, is_own);
        }
        if token.is_word() {
            self.words.insert(token.text.clone());
        }
        let Some((path, end)) = read_path(tokens, at) else { return at + 1 };
        self.words.extend(path.segments.iter().cloned());
        self.paths.push(path);
        end
    }

    fn read_declaration(&mut self, tokens: &[Token], at: usize) -> Option<usize> {
        let [keyword, name, after] = tokens.get(at..at + 3)? else { return None };
        if !keyword.is("mod") || !name.is_word() {
            return None;
        }
        let end = if after.is("{") { group_end(tokens, at + 2) } else { at + 3 };
        let body = after.is("{").then(|| at + 3..end - 1);
        self.children.push(Declaration { name: name.text.clone(), body });
        Some(end)
    }

    /// Notes the item whose keyword stands at `at`, if one does: its name if it is the module's own, not within another
    /// item; its definition if it is a type with a visibility, wherever it stands, so that macros hide none.
    fn read_item(&mut self, tokens: &[Token], at: usize, is_own: bool) {
        let token = &tokens[at];
        let name_at = match token.text.as_str() {
            "macro_rules" => at + 2,
            "static" if tokens.get(at + 1).is_some_and(|next| next.is("mut")) => at + 2,
            "fn" | "const" | "static" | "struct" | "enum" | "union" | "trait" | "type" => at + 1,
            _ => return,
        };
        let Some(name) = tokens.get(name_at).filter(|name| name.is_word()) else { return };
        if is_own {
            self.items.insert(name.text.clone());
        }
        let is_type = ["struct", "enum", "union", "trait", "type"].iter().any(|keyword| token.is(keyword));
        let is_visible = at > 0 && (tokens[at - 1].is("pub") || tokens[at - 1].is(")"));
        if is_type && is_visible {
            self.visible_types.push(TypeDefinition { name: name.text.clone(), line: name.line });
        }
    }
}

/// Reads a crate for a test from names and texts of files.
pub(crate) fn crate_of(files: &[(&str, &str)]) -> Crate {
    Crate::parse(&files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect())
}

mod tests {
    use super::crate_of;

    #[test]
    fn the_tree_follows_the_declarations() {
        let parsed = crate_of(&[
            ("lib.rs", "mod a; #[cfg(test)] mod b; mod c { mod d; } mod e;"),
            ("a.rs", "mod f;"),
            ("a/f.rs", ""),
            ("b.rs", ""),
            ("c/d.rs", ""),
            ("e/mod.rs", "#[cfg(any(test, feature = \"x\"))] mod g;"),
            ("e/g.rs", ""),
            ("main.rs", ""),
        ]);
        let mut paths: Vec<_> = parsed.modules.iter().map(|module| module.path.join("::")).collect();
        paths.sort();
        assert_eq!(paths, ["", "a", "a::f", "c", "c::d", "e"]);
        let mut files: Vec<_> = parsed.files.iter().map(|file| file.name.as_str()).collect();
        files.sort_unstable();
        assert_eq!(files, ["a.rs", "a/f.rs", "c/d.rs", "e/mod.rs", "lib.rs", "main.rs"]);
    }

    #[test]
    fn items_are_those_of_the_module_itself() {
        let text = "pub(crate) fn a() { struct B; } impl C { fn d() {} } const E: u8 = 1; const fn f() {} \
            words! { pub enum G {} } macro_rules! h { () => {} } static mut I: u8 = 1; fn j(k: fn(u8)) {}";
        let parsed = crate_of(&[("lib.rs", text)]);
        let mut items: Vec<_> = parsed.modules[0].items.iter().map(String::as_str).collect();
        items.retain(|name| *name != "fn");
        assert_eq!(items, ["E", "G", "I", "a", "f", "h", "j"]);
    }

    #[test]
    fn types_with_a_visibility_are_noted() {
        let text = "pub struct A; enum B {} pub(crate) trait C {} pub(in crate::x) type D = u8; pub fn e() {} \
            macro_rules! f { () => { pub struct F {} } } impl G for H { type I = u8; }";
        let parsed = crate_of(&[("lib.rs", text)]);
        let names: Vec<_> =
            parsed.modules[0].visible_types.iter().map(|definition| &definition.name).collect();
        assert_eq!(names, ["A", "C", "D", "F"]);
    }
}
