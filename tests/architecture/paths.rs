//! Reads paths from tokens: the leaves of `use` trees, and paths in code.

use super::lexer::Token;

/// A path as it is written, with the prefix of its `use` tree in front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WrittenPath {
    /// `["crate", "net", "Listener"]`. A path that starts with `::` has an empty first segment.
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
}

impl std::fmt::Display for WrittenPath {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.segments.join("::"))
    }
}

/// One name that a `use` declaration brings into scope, or all of a module's.
#[derive(Clone, Debug)]
pub(crate) struct Import {
    /// What is imported; for a glob, that of which everything is.
    pub(crate) path: WrittenPath,
    /// The name in scope: after `as`, else the last segment.
    pub(crate) name: String,
    pub(crate) is_glob: bool,
    /// True for `pub use`, `pub(crate) use` and the like.
    pub(crate) is_reexport: bool,
}

/// Reads the `use` declaration whose keyword stands at `at`. Returns its leaves and the index after its `;`.
pub(crate) fn read_use(tokens: &[Token], at: usize) -> (Vec<Import>, usize) {
    let is_reexport = at > 0 && (tokens[at - 1].is("pub") || tokens[at - 1].is(")"));
    let mut reader = UseReader { tokens, at: at + 1, is_reexport, imports: Vec::new() };
    reader.read_tree(Vec::new());
    (reader.imports, reader.at + 1)
}

/// Reads the path in code that starts at `at`: two segments or more. Returns it and the index after it.
/// `None` if no path starts there, or if it is a visibility's (`pub(in crate::net)`) or has a macro's variable first.
pub(crate) fn read_path(tokens: &[Token], at: usize) -> Option<(WrittenPath, usize)> {
    let before = |distance: usize| at.checked_sub(distance).map(|index| &tokens[index]);
    let follows = |distance, text| before(distance).is_some_and(|token: &Token| token.is(text));
    let is_visibility = follows(1, "in") && follows(2, "(") && follows(3, "pub");
    let is_variable = follows(1, "$") && !tokens[at].is("crate");
    if !tokens[at].is_word() || follows(1, "::") || is_visibility || is_variable {
        return None;
    }
    let mut end = at + 1;
    let mut segments = vec![tokens[at].text.clone()];
    while let Some([colons, segment]) = tokens.get(end..end + 2)
        && colons.is("::")
        && segment.is_word()
    {
        segments.push(segment.text.clone());
        end += 2;
    }
    (segments.len() > 1).then(|| (WrittenPath { segments, line: tokens[at].line }, end))
}

struct UseReader<'a> {
    tokens: &'a [Token],
    at: usize,
    is_reexport: bool,
    imports: Vec<Import>,
}

impl UseReader<'_> {
    /// Reads a tree behind `prefix` and stops at the `,`, `}` or `;` after it.
    fn read_tree(&mut self, mut prefix: Vec<String>) {
        while let Some(token) = self.tokens.get(self.at) {
            match token.text.as_str() {
                "{" => return self.read_branches(&prefix),
                "*" => {
                    self.at += 1;
                    return self.push(prefix, None, token.line, true);
                }
                "::" if prefix.is_empty() => prefix.push(String::new()),
                "::" => {}
                _ if token.is_word() => {
                    prefix.push(token.text.clone());
                    if !self.tokens.get(self.at + 1).is_some_and(|next| next.is("::")) {
                        return self.read_leaf(prefix, token.line);
                    }
                }
                _ => return,
            }
            self.at += 1;
        }
    }

    fn read_branches(&mut self, prefix: &[String]) {
        self.at += 1;
        while let Some(token) = self.tokens.get(self.at)
            && !token.is("}")
            && !token.is(";")
        {
            if token.is(",") {
                self.at += 1;
            } else {
                self.read_tree(prefix.to_vec());
            }
        }
        self.at += 1;
    }

    /// Ends a path at its last segment, the current token: plain, or with `as`.
    fn read_leaf(&mut self, segments: Vec<String>, line: usize) {
        self.at += 1;
        let alias = match self.tokens.get(self.at..self.at + 2) {
            Some([keyword, alias]) if keyword.is("as") => {
                self.at += 2;
                Some(alias.text.clone())
            }
            _ => None,
        };
        self.push(segments, alias, line, false);
    }

    fn push(&mut self, mut segments: Vec<String>, alias: Option<String>, line: usize, is_glob: bool) {
        if segments.len() > 1 && segments.last().is_some_and(|last| last == "self") {
            segments.pop();
        }
        let name = alias.or_else(|| segments.last().cloned()).unwrap_or_default();
        let path = WrittenPath { segments, line };
        self.imports.push(Import { path, name, is_glob, is_reexport: self.is_reexport });
    }
}

mod tests {
    use super::super::lexer::lex;
    use super::{read_path, read_use};

    #[test]
    fn use_trees_are_expanded() {
        let cases: [(&str, &[&str]); 9] = [
            ("use crate::a;", &["crate::a = a"]),
            ("use a::B as C;", &["a::B = C"]),
            ("use crate::{a, b::{C, D as E}};", &["crate::a = a", "crate::b::C = C", "crate::b::D = E"]),
            ("use super::a::{self, B};", &["super::a = a", "super::a::B = B"]),
            ("use super::a::{self as b};", &["super::a = b"]),
            ("use a::{b::*, c,};", &["a::b::* = b", "a::c = c"]),
            ("use {a::B, crate::c};", &["a::B = B", "crate::c = c"]),
            ("use ::a::B;", &["::a::B = B"]),
            ("use super::super::a::B as _;", &["super::super::a::B = _"]),
        ];
        for (source, expected) in cases {
            let (imports, end) = read_use(&lex(source), 0);
            let read: Vec<_> = imports
                .iter()
                .map(|import| {
                    format!("{}{} = {}", import.path, if import.is_glob { "::*" } else { "" }, import.name)
                })
                .collect();
            assert_eq!(
                (read.as_slice(), end),
                (expected.map_strings().as_slice(), lex(source).len()),
                "{source}"
            );
        }
    }

    #[test]
    fn a_leaf_has_the_line_it_stands_in() {
        let (imports, _) = read_use(&lex("use a::{\n    B,\n    c::{\n        D,\n    },\n};"), 0);
        assert_eq!(imports.iter().map(|import| import.path.line).collect::<Vec<_>>(), [2, 4]);
    }

    #[test]
    fn a_use_with_a_visibility_is_a_reexport() {
        for (source, at, is_reexport) in
            [("use a::B;", 0, false), ("pub use a::B;", 1, true), ("pub(crate) use a::B;", 4, true)]
        {
            assert_eq!(read_use(&lex(source), at).0[0].is_reexport, is_reexport, "{source}");
        }
    }

    #[test]
    fn paths_in_code_are_read() {
        let cases: [(&str, &[&str]); 8] = [
            ("let a = crate::b::C::new();", &["crate::b::C::new"]),
            ("fn f(a: &super::B, c: Vec<self::D>) {}", &["super::B", "self::D"]),
            ("0..limits::MOST", &["limits::MOST"]),
            ("<A as crate::b::C>::d()", &["crate::b::C"]),
            ("$crate::a::b!(c)", &["crate::a::b"]),
            ("$a::b ::std::c", &[]),
            ("pub(in crate::net) fn f() {}", &[]),
            ("a::<B>::new()", &[]),
        ];
        for (source, expected) in cases {
            let tokens = lex(source);
            let read: Vec<_> = (0..tokens.len())
                .filter_map(|at| read_path(&tokens, at))
                .map(|(path, _)| path.to_string())
                .collect();
            assert_eq!(read, expected.map_strings(), "{source}");
        }
    }

    trait MapStrings {
        fn map_strings(&self) -> Vec<String>;
    }

    impl MapStrings for [&str] {
        fn map_strings(&self) -> Vec<String> {
            self.iter().map(|text| (*text).to_owned()).collect()
        }
    }
}
