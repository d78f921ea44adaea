//! Removes what is compiled for tests only.

use super::lexer::{Token, group_end, split_at_commas};

/// Returns `tokens` without items, fields and statements that are compiled for tests only, attributes included.
/// Empty if the whole file is (`#![cfg(test)]`).
pub(crate) fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if inner_attribute_end(tokens, at).is_some_and(|end| is_for_tests(&tokens[at + 1..end])) {
            return Vec::new();
        }
        let (attributes_end, for_tests) = attributes(tokens, at);
        let end = if for_tests { item_end(tokens, attributes_end) } else { attributes_end.max(at + 1) };
        if !for_tests {
            kept.extend_from_slice(&tokens[at..end]);
        }
        at = end;
    }
    kept
}

/// Returns the end of the run of outer attributes at `at`, and whether one of them is for tests only.
fn attributes(tokens: &[Token], mut at: usize) -> (usize, bool) {
    let mut for_tests = false;
    while let Some(end) = outer_attribute_end(tokens, at) {
        for_tests |= is_for_tests(&tokens[at..end]);
        at = end;
    }
    (at, for_tests)
}

/// Returns the index after the outer attribute at `at`, if there is one.
pub(crate) fn outer_attribute_end(tokens: &[Token], at: usize) -> Option<usize> {
    let [hash, bracket] = tokens.get(at..at + 2)? else { return None };
    (hash.is("#") && bracket.is("[")).then(|| group_end(tokens, at + 1))
}

/// Returns the index after the inner attribute at `at`, if there is one.
pub(crate) fn inner_attribute_end(tokens: &[Token], at: usize) -> Option<usize> {
    let [hash, exclamation, bracket] = tokens.get(at..at + 3)? else { return None };
    (hash.is("#") && exclamation.is("!") && bracket.is("[")).then(|| group_end(tokens, at + 2))
}

/// True for the attributes `[test]` and `[cfg(…)]` with a predicate for tests only; the first token is not looked at.
fn is_for_tests(attribute: &[Token]) -> bool {
    match attribute {
        [_, _, test, _] => test.is("test"),
        [_, _, cfg, _, predicate @ .., _, _] if cfg.is("cfg") => is_test_predicate(predicate),
        _ => false,
    }
}

/// True if the predicate holds only in tests, or only in tests and with a feature: `test`, `all(test, …)`,
/// `any(test, feature = "…")`.
fn is_test_predicate(predicate: &[Token]) -> bool {
    match predicate {
        [test] => test.is("test"),
        [all, _, inner @ .., _] if all.is("all") => split_at_commas(inner).into_iter().any(is_test_predicate),
        [any, _, inner @ .., _] if any.is("any") => {
            let parts = split_at_commas(inner);
            let is_feature = |part: &[Token]| part[0].is("feature");
            parts.iter().any(|part| is_test_predicate(part))
                && parts.iter().all(|part| is_test_predicate(part) || is_feature(part))
        }
        _ => false,
    }
}

/// Returns the index after the item, field, arm or statement that starts at `at`.
fn item_end(tokens: &[Token], at: usize) -> usize {
    let start = after_visibility(tokens, at);
    let Some(first) = tokens.get(start) else { return tokens.len() };
    let next_is_fn = tokens
        .get(start + 1)
        .is_some_and(|next| ["fn", "unsafe", "async", "extern"].iter().any(|keyword| next.is(keyword)));
    match first.text.as_str() {
        "const" if next_is_fn => body_end(tokens, start),
        "use" | "static" | "const" | "type" | "let" => semicolon_end(tokens, start),
        "fn" | "async" | "unsafe" | "extern" | "mod" | "struct" | "enum" | "union" | "trait" | "impl"
        | "macro_rules" => body_end(tokens, start),
        _ => element_end(tokens, start),
    }
}

/// Returns the index after `pub` or `pub(…)`, if it stands at `at`.
pub(crate) fn after_visibility(tokens: &[Token], at: usize) -> usize {
    if !tokens.get(at).is_some_and(|token| token.is("pub")) {
        at
    } else if tokens.get(at + 1).is_some_and(|token| token.is("(")) {
        group_end(tokens, at + 1)
    } else {
        at + 1
    }
}

/// Returns the index after the first `;` outside brackets.
fn semicolon_end(tokens: &[Token], mut at: usize) -> usize {
    while at < tokens.len() && !tokens[at].is(";") {
        at = if tokens[at].opens() { group_end(tokens, at) } else { at + 1 };
    }
    (at + 1).min(tokens.len())
}

/// Returns the index after the first `{…}` or `;` outside other brackets.
pub(crate) fn body_end(tokens: &[Token], mut at: usize) -> usize {
    while at < tokens.len() {
        if tokens[at].is(";") {
            return at + 1;
        }
        let end = if tokens[at].opens() { group_end(tokens, at) } else { at + 1 };
        if tokens[at].is("{") {
            return end;
        }
        at = end;
    }
    at
}

/// Returns the end of a field, an arm or a statement: after `,` or `;`, after a block, or before the closer around it.
fn element_end(tokens: &[Token], mut at: usize) -> usize {
    let mut angles = 0_usize;
    while at < tokens.len() && !tokens[at].closes() {
        let token = &tokens[at];
        if token.is(";") || (token.is(",") && angles == 0) {
            return at + 1;
        }
        let end = if token.opens() { group_end(tokens, at) } else { at + 1 };
        let goes_on =
            tokens.get(end).is_some_and(|next| [",", ";", ".", "?", "else"].iter().any(|text| next.is(text)));
        if token.is("{") && !goes_on {
            return end;
        }
        match token.text.as_str() {
            "<" => angles += 1,
            ">" => angles = angles.saturating_sub(1),
            _ => {}
        }
        at = end;
    }
    at
}

mod tests {
    use super::super::lexer::lex;
    use super::without_tests;

    #[test]
    fn what_is_for_tests_only_is_removed() {
        let cases = [
            ("a #[cfg(test)] mod tests { fn f() {} } b", "a b"),
            ("#[cfg(test)] mod faults; b", "b"),
            ("#[cfg(any(test, feature = \"slow\"))] pub(crate) mod slow; b", "b"),
            ("#[cfg(all(test, unix))] fn f<A, B>(a: A) -> [B; 2] where A: Copy { } b", "b"),
            ("#[allow(x)] #[cfg(test)] #[must_use] pub const fn f() {} b", "b"),
            ("#[cfg(test)] use a::{b, c}; d", "d"),
            ("#[cfg(test)] const A: B = B { c: 1 }; d", "d"),
            ("#[cfg(test)] struct A(u8); d", "d"),
            ("{ #[cfg(test)] faults: M<A, B>, d }", "{ d }"),
            ("{ a, #[cfg(test)] faults: None }", "{ a , }"),
            ("{ #[cfg(test)] if a { b } c }", "{ c }"),
            ("#[cfg(test)] thread_local! { a } c", "c"),
            ("#[test] fn f() { a } c", "c"),
            ("#![cfg(test)] a", ""),
        ];
        check(&cases);
    }

    #[test]
    fn what_is_also_for_others_is_kept() {
        for source in [
            "#[cfg(unix)] mod a;",
            "#[cfg(not(test))] mod a;",
            "#[cfg(any(test, unix))] mod a;",
            "#[cfg(feature = \"slow\")] mod a;",
            "#![deny(missing_docs)] mod a;",
            "#[derive(Debug)] struct A;",
        ] {
            assert_eq!(without_tests(&lex(source)).len(), lex(source).len(), "{source}");
        }
    }

    #[track_caller]
    fn check(cases: &[(&str, &str)]) {
        for (source, expected) in cases {
            let kept: Vec<_> = without_tests(&lex(source)).into_iter().map(|token| token.text).collect();
            assert_eq!(kept.join(" "), *expected, "{source}");
        }
    }
}
