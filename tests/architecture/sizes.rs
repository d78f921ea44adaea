//! Sizes of files and functions.

use std::collections::BTreeSet;

use super::cfg_test::body_end;
use super::lexer::{Token, group_end, split_at_commas};
use super::modules::Crate;

/// Most lines of code in a file.
pub(crate) const FILE_LINES_MAX: usize = 450;

/// Most lines of code in a function, from `fn` to its closing brace.
pub(crate) const FUNCTION_LINES_MAX: usize = 70;

/// Most arguments of a function, `self` included.
pub(crate) const ARGUMENTS_MAX: usize = 5;

/// Most lines of code in `src/`, without tests, test doubles, comments and blank lines. It grows only with what the server can do.
pub(crate) const TOTAL_LINES_MAX: usize = 30_500;

/// A function and its sizes.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) lines: usize,
    pub(crate) arguments: usize,
}

/// Lists the files with too many lines of code, largest first.
pub(crate) fn check_files(parsed: &Crate) -> Vec<String> {
    let mut sizes: Vec<_> = parsed.files.iter().map(|file| (code_lines(&file.tokens), &file.name)).collect();
    sizes.retain(|(lines, _)| *lines > FILE_LINES_MAX);
    sizes.sort_by_key(|(lines, _)| std::cmp::Reverse(*lines));
    sizes
        .iter()
        .map(|(lines, name)| format!("src/{name}: {lines} lines of code, {FILE_LINES_MAX} at most"))
        .collect()
}

/// Lists the functions with too many lines of code or too many arguments, longest first.
pub(crate) fn check_functions(parsed: &Crate) -> Vec<String> {
    let mut offenders: Vec<_> = parsed
        .files
        .iter()
        .flat_map(|file| functions(&file.tokens).into_iter().map(move |function| (file, function)))
        .filter(|(_, function)| function.lines > FUNCTION_LINES_MAX || function.arguments > ARGUMENTS_MAX)
        .collect();
    offenders.sort_by_key(|(_, function)| std::cmp::Reverse(function.lines));
    let describe = |(file, function): &(&super::modules::SourceFile, Function)| {
        let Function { name, line, lines, arguments } = function;
        format!("src/{}:{line}: {name}: {lines} lines, {arguments} arguments", file.name)
    };
    offenders.iter().map(describe).collect()
}

/// Returns the lines of code in all files together.
pub(crate) fn total_lines(parsed: &Crate) -> usize {
    parsed.files.iter().map(|file| code_lines(&file.tokens)).sum()
}

/// Counts the lines that a token covers: neither blank lines nor those of comments alone.
fn code_lines(tokens: &[Token]) -> usize {
    tokens.iter().flat_map(|token| token.line..=token.last_line).collect::<BTreeSet<_>>().len()
}

/// Finds the functions with a name, those within others and those without a body included.
fn functions(tokens: &[Token]) -> Vec<Function> {
    let starts = tokens.windows(2).enumerate().filter(|(_, pair)| pair[0].is("fn") && pair[1].is_word());
    starts
        .filter_map(|(at, pair)| {
            let open = arguments_start(tokens, at + 2)?;
            let close = group_end(tokens, open);
            let arguments = split_at_commas(&tokens[open + 1..close - 1]);
            Some(Function {
                name: pair[1].text.clone(),
                line: pair[0].line,
                lines: code_lines(&tokens[at..body_end(tokens, close)]),
                arguments: arguments.len(),
            })
        })
        .collect()
}

/// Returns the index of the `(` after a function's name and its generics.
fn arguments_start(tokens: &[Token], mut at: usize) -> Option<usize> {
    let mut angles = 0_usize;
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            "(" if angles == 0 => return Some(at),
            "<" => angles += 1,
            ">" => angles = angles.saturating_sub(1),
            _ => {}
        }
        at = if token.opens() { group_end(tokens, at) } else { at + 1 };
    }
    None
}

mod tests {
    use super::super::lexer::lex;
    use super::{code_lines, functions};

    #[test]
    fn lines_of_code_are_neither_blank_nor_comments() {
        for (source, lines) in
            [("", 0), ("// a\n\n/* b\n */\n", 0), ("a // b\n\nc", 2), ("a(\"b\n\nc\")", 3), ("a b\n}", 2)]
        {
            assert_eq!(code_lines(&lex(source)), lines, "{source}");
        }
    }

    #[test]
    fn functions_are_measured() {
        let cases = [
            ("fn f() {}", "f", 1, 0),
            ("fn f(&self, a: A) {\n    // b\n\n    c();\n}", "f", 3, 2),
            ("fn f(&'a mut self) -> A;", "f", 1, 1),
            ("fn f(self: Arc<Self>, (a, b): (A, B), c: M<A, B>,) {}", "f", 1, 3),
            ("fn f<F: Fn(A, B) -> C, const N: usize>(a: F, b: [u8; N]) where F: Copy {\n}", "f", 2, 2),
            ("impl A { fn f(mut self, a: impl Fn(A, B)) { } }", "f", 1, 2),
        ];
        for (source, name, lines, arguments) in cases {
            let found = functions(&lex(source));
            let [function] = found.as_slice() else { panic!("{source}: {found:?}") };
            let measured = (function.name.as_str(), function.lines, function.arguments);
            assert_eq!(measured, (name, lines, arguments), "{source}");
        }
    }

    #[test]
    fn function_pointers_and_macro_variables_are_no_functions() {
        assert!(functions(&lex("type A = fn(u8); macro_rules! m { () => { fn $a() {} } }")).is_empty());
    }
}
