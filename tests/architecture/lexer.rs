//! A lexer for Rust source text: drops comments and keeps string and character literals whole.

/// Class of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Identifier or keyword. A raw identifier keeps its `r#`.
    Word,
    /// `::`, `->`, `=>`, or one other character.
    Punctuation,
    /// String, character or number. Strings and characters keep their quotes, so they never equal a word.
    Literal,
    /// Lifetime or label, with its `'`.
    Lifetime,
}

/// A token and the lines it covers, counted from 1.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) text: String,
    pub(crate) line: usize,
    /// Differs from `line` for a literal of several lines.
    pub(crate) last_line: usize,
}

impl Token {
    /// True if the token's text is `text`.
    pub(crate) fn is(&self, text: &str) -> bool {
        self.text == text
    }

    pub(crate) fn is_word(&self) -> bool {
        self.kind == Kind::Word
    }

    /// True for `(`, `[` and `{`.
    pub(crate) fn opens(&self) -> bool {
        matches!(self.text.as_str(), "(" | "[" | "{")
    }

    /// True for `)`, `]` and `}`.
    pub(crate) fn closes(&self) -> bool {
        matches!(self.text.as_str(), ")" | "]" | "}")
    }
}

/// Splits `text` into tokens, without comments.
pub(crate) fn lex(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < text.len() {
        let rest = &text[at..];
        let (length, kind) = match skipped_length(rest) {
            0 => token_length(rest),
            skipped => (skipped, None),
        };
        let lexeme = &rest[..length];
        let last_line = line + lexeme.matches('\n').count();
        if let Some(kind) = kind {
            tokens.push(Token { kind, text: lexeme.to_owned(), line, last_line });
        }
        (at, line) = (at + length, last_line);
    }
    tokens
}

/// Returns the index after the closer that matches the opener at `at`, or the number of tokens if there is none.
pub(crate) fn group_end(tokens: &[Token], at: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        if token.opens() {
            depth += 1;
        } else if token.closes() {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                return index + 1;
            }
        }
    }
    tokens.len()
}

/// Splits a list at its outermost commas, those in angle brackets excepted. A trailing comma adds no element.
pub(crate) fn split_at_commas(tokens: &[Token]) -> Vec<&[Token]> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    for (index, token) in tokens.iter().enumerate() {
        if token.opens() || token.is("<") {
            depth += 1;
        } else if token.closes() || token.is(">") {
            depth = depth.saturating_sub(1);
        } else if token.is(",") && depth == 0 {
            parts.push(&tokens[start..index]);
            start = index + 1;
        }
    }
    parts.push(&tokens[start..]);
    parts.retain(|part| !part.is_empty());
    parts
}

/// Length of the white space or the comment with which `rest` begins; 0 if it begins with a token.
fn skipped_length(rest: &str) -> usize {
    if rest.starts_with("//") {
        rest.find('\n').unwrap_or(rest.len())
    } else if rest.starts_with("/*") {
        block_comment_length(rest)
    } else {
        rest.len() - rest.trim_start().len()
    }
}

/// Length of a block comment, which may contain others.
fn block_comment_length(rest: &str) -> usize {
    let (mut at, mut depth) = (0, 0_usize);
    while at < rest.len() {
        let step = if rest[at..].starts_with("/*") {
            depth += 1;
            2
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            2
        } else {
            rest[at..].chars().next().map_or(1, char::len_utf8)
        };
        at += step;
        if depth == 0 {
            break;
        }
    }
    at
}

fn token_length(rest: &str) -> (usize, Option<Kind>) {
    let first = rest.chars().next().unwrap_or_default();
    let (length, kind) = if let Some(length) = string_length(rest) {
        (length, Kind::Literal)
    } else if rest.starts_with("b'") {
        (1 + quoted(&rest[1..]).0, Kind::Literal)
    } else if first == '\'' {
        quoted(rest)
    } else if first.is_ascii_digit() {
        (number_length(rest), Kind::Literal)
    } else if let Some(name) = rest.strip_prefix("r#").filter(|name| word_length(name) > 0) {
        (2 + word_length(name), Kind::Word)
    } else if word_length(rest) > 0 {
        (word_length(rest), Kind::Word)
    } else if ["::", "->", "=>"].iter().any(|pair| rest.starts_with(pair)) {
        (2, Kind::Punctuation)
    } else {
        (first.len_utf8(), Kind::Punctuation)
    };
    (length, Some(kind))
}

/// Length of the string literal with which `rest` begins: plain, raw, of bytes or of C.
fn string_length(rest: &str) -> Option<usize> {
    let prefix = rest.find(|letter| !matches!(letter, 'b' | 'c' | 'r'))?;
    if !matches!(&rest[..prefix], "" | "b" | "c" | "r" | "br" | "cr") {
        return None;
    }
    let is_raw = rest[..prefix].ends_with('r');
    let unhashed = if is_raw { rest[prefix..].trim_start_matches('#') } else { &rest[prefix..] };
    let hashes = rest.len() - prefix - unhashed.len();
    let body = unhashed.strip_prefix('"')?;
    let length = if is_raw {
        body.find(&format!("\"{}", "#".repeat(hashes)))? + 1 + hashes
    } else {
        escaped_length(body, '"')
    };
    Some(prefix + hashes + 1 + length)
}

/// Length of `body` up to and including the first `quote` that no backslash escapes.
fn escaped_length(body: &str, quote: char) -> usize {
    let mut characters = body.char_indices();
    while let Some((index, character)) = characters.next() {
        if character == '\\' {
            characters.next();
        } else if character == quote {
            return index + 1;
        }
    }
    body.len()
}

/// Tells a character literal from a lifetime: `'a'` ends with a quote after one character, `'a` does not.
fn quoted(rest: &str) -> (usize, Kind) {
    let mut characters = rest.char_indices().skip(1);
    match (characters.next(), characters.next()) {
        (Some((_, '\\')), _) => (1 + escaped_length(&rest[1..], '\''), Kind::Literal),
        (_, Some((index, '\''))) => (index + 1, Kind::Literal),
        _ => (1 + word_length(&rest[1..]), Kind::Lifetime),
    }
}

/// Length of a number. A dot belongs to it only before a digit: `1.5`, but not `1..5` or `1.max(5)`.
fn number_length(rest: &str) -> usize {
    let whole = word_characters(rest);
    let has_fraction = rest[whole..]
        .strip_prefix('.')
        .is_some_and(|after| after.starts_with(|next: char| next.is_ascii_digit()));
    if has_fraction { whole + 1 + word_characters(&rest[whole + 1..]) } else { whole }
}

/// Length of the word with which `rest` begins; 0 if it begins with something else.
fn word_length(rest: &str) -> usize {
    if rest.starts_with(|first: char| first.is_ascii_digit()) { 0 } else { word_characters(rest) }
}

fn word_characters(rest: &str) -> usize {
    rest.find(|next: char| !next.is_alphanumeric() && next != '_').unwrap_or(rest.len())
}

mod tests {
    use super::{Kind, lex, split_at_commas};

    #[track_caller]
    fn check(source: &str, expected: &[&str]) {
        let texts: Vec<_> = lex(source).into_iter().map(|token| token.text).collect();
        assert_eq!(texts, expected, "{source}");
    }

    #[test]
    fn comments_are_dropped() {
        check("a // b\nc", &["a", "c"]);
        check("/// a \"doc\nb", &["b"]);
        check("//! it's\nb", &["b"]);
        check("a /* b /* c */ d */ e", &["a", "e"]);
        check("a /* é */ b", &["a", "b"]);
        check("a / b", &["a", "/", "b"]);
    }

    #[test]
    fn literals_are_one_token_each() {
        check(r#""a // b" c"#, &[r#""a // b""#, "c"]);
        check(r#""\" \\" c"#, &[r#""\" \\""#, "c"]);
        check(r##"r"\" c"##, &[r#"r"\""#, "c"]);
        check(r###"br#"a " b"# c"###, &[r##"br#"a " b"#"##, "c"]);
        check(r#"b"crate::a" c"x""#, &[r#"b"crate::a""#, r#"c"x""#]);
        check("1.5 1..5 1.max(0xff_u8)", &["1.5", "1", ".", ".", "5", "1", ".", "max", "(", "0xff_u8", ")"]);
    }

    #[test]
    fn a_lifetime_is_no_character() {
        let cases = [
            ("'a", Kind::Lifetime),
            ("'static", Kind::Lifetime),
            ("'_", Kind::Lifetime),
            ("'a'", Kind::Literal),
            ("'é'", Kind::Literal),
            ("'\"'", Kind::Literal),
            ("'''", Kind::Literal),
            (r"'\''", Kind::Literal),
            (r"'\u{1F600}'", Kind::Literal),
            ("b'x'", Kind::Literal),
            (r"b'\\'", Kind::Literal),
        ];
        for (source, kind) in cases {
            let tokens = lex(&format!("{source} b"));
            assert_eq!((tokens.len(), tokens[0].kind), (2, kind), "{source}: {tokens:?}");
        }
    }

    #[test]
    fn words_and_paths() {
        check("crate::a->b=>r#type", &["crate", "::", "a", "->", "b", "=>", "r#type"]);
        check("$crate::a bar crab r b", &["$", "crate", "::", "a", "bar", "crab", "r", "b"]);
        check("'a: loop", &["'a", ":", "loop"]);
    }

    #[test]
    fn lines_are_those_of_the_text() {
        let tokens = lex("a\n/* b\n */ \"c\nd\"\n\ne");
        let lines: Vec<_> = tokens.iter().map(|token| (token.line, token.last_line)).collect();
        assert_eq!(lines, [(1, 1), (3, 4), (6, 6)]);
    }

    #[test]
    fn lists_are_split_at_their_own_commas() {
        for (source, parts) in
            [("", 0), ("a", 1), ("a, b,", 2), ("a: M<B, C>, (d, e)", 2), ("f: fn(A, B) -> C", 1)]
        {
            assert_eq!(split_at_commas(&lex(source)).len(), parts, "{source}");
        }
    }
}
