//! A filter for queries with script or SQL injections.
//!
//! A file server passes queries to no interpreter and needs none, but some policies demand a filter. It searches for the common
//! traits of attacks; it misses some attacks, and some of its findings are harmless.

use std::sync::LazyLock;

use memchr::memmem::{find, rfind};
use percent_encoding::percent_decode;
use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

use crate::http::form_encoding::decode;

/// Whether a query looks like a script or SQL injection.
///
/// Each pair is examined by itself: decoded twice, in lower case, without SQL comments, and with white space only between
/// words. The time is linear in the length of the query.
pub fn is_suspicious(query: &[u8]) -> bool {
    query.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()).any(|pair| {
        let text = decode_twice(pair);
        let canonical = canonical(&text);
        has_script_url(&text) || TRAITS.is_match(&canonical) || has_added_condition(&canonical)
    })
}

/// Decoded twice, in lower case and without NUL, which some interpreters skip.
fn decode_twice(pair: &[u8]) -> Vec<u8> {
    let once = decode(pair);
    percent_decode(&once).filter(|&byte| byte != 0).map(|byte| byte.to_ascii_lowercase()).collect()
}

/// The text without comments, with one space between words and no other white space.
fn canonical(text: &[u8]) -> Vec<u8> {
    let mut canonical = Vec::with_capacity(text.len());
    let mut pending_space = false;
    // Found once, so that many comments without an end do not each search the rest of the text.
    let last_closing = rfind(text, b"*/");
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let position = text.len() - rest.len();
        let skipped = match rest {
            // What follows the number is not a comment to MySQL.
            [b'/', b'*', b'!', tail @ ..] => Some(skip_digits(tail)),
            [b'/', b'*', tail @ ..] => match last_closing.filter(|&closing| closing >= position + 2) {
                Some(_) => find(tail, b"*/").and_then(|at| tail.get(at + 2..)),
                None => Some(tail),
            },
            [b'*', b'/', tail @ ..] => Some(tail),
            [byte, tail @ ..] if is_space(*byte) => Some(tail),
            _ => None,
        };
        match skipped {
            Some(tail) => {
                pending_space = true;
                rest = tail;
            }
            None => {
                if pending_space && is_word(*first) && canonical.last().is_some_and(|&last| is_word(last)) {
                    canonical.push(b' ');
                }
                pending_space = false;
                canonical.push(*first);
                rest = tail;
            }
        }
    }
    canonical
}

fn skip_digits(mut text: &[u8]) -> &[u8] {
    while let [b'0'..=b'9', rest @ ..] = text {
        text = rest;
    }
    text
}

/// `javascript:`, within which browsers skip tabs and line breaks, or a page in a `data:` URL.
fn has_script_url(text: &[u8]) -> bool {
    let visible: Vec<u8> = text.iter().copied().filter(|&byte| byte >= b' ').collect();
    let is_in = |url: &&str| find(&visible, url.as_bytes()).is_some();
    find(text, b"data:text/html").is_some() || SCRIPT_SCHEMES.iter().any(is_in)
}

/// A condition that is always true (`or 1=1`), or one behind a quote (`' or 'a'<'b`).
fn has_added_condition(canonical: &[u8]) -> bool {
    let Some(condition) = &*CONDITION else { return false };
    let mut from = 0;
    while let Some(found) = condition.captures_at(canonical, from) {
        let Some(connective) = found.name("word").or_else(|| found.name("sign")) else { return false };
        let Some(right) = found.name("right").or_else(|| found.name("other")) else { return false };
        let (left, right) = (&found["left"], right.as_bytes());
        let is_number = |operand: &[u8]| operand.iter().all(u8::is_ascii_digit);
        let is_behind_quote = closes_literal(canonical.get(..connective.start()).unwrap_or_default());
        if is_behind_quote || left == right || (is_number(left) && is_number(right)) {
            return true;
        }
        // The right operand may be the next connective.
        from = connective.end();
    }
    false
}

/// Whether a text ends in a quote, perhaps with parentheses or a semicolon behind it.
fn closes_literal(text: &[u8]) -> bool {
    let last = text.iter().rev().find(|byte| !matches!(byte, b')' | b';' | b' '));
    last.is_some_and(|last| matches!(last, b'\'' | b'"' | b'`'))
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

const SCRIPT_SCHEMES: &[&str] = &["javascript:", "vbscript:"];

/// Traits of attacks in canonical text. Abbreviations: `WORD` a byte of a word, `START` and `END` its limits, `QUOTE` a quote. A
/// word may begin behind a number: `1or 1=1` is read as `1 or 1=1`.
static TRAITS: LazyLock<RegexSet> = LazyLock::new(|| {
    let patterns = [
        // `<script` and similar tags.
        r"</?(script|iframe|object|embed)END",
        // `onerror=` and similar attributes, in a tag or directly behind the quote that ends a value. The shortest is `oncut`.
        r"(QUOTE|<[/!?]?|<[a-z/!?][^>]*[^WORD>])on[a-z]{3,}=",
        r"STARTunion( all| distinct)?[ (]selectEND",
        r";(drop (table|database)|truncate table|alter table|delete from|insert into)END",
        r"START(into (out|dump)file|waitfor delay|information_schema|xp_cmdshell)END",
        r"START(sleep|pg_sleep|benchmark|load_file|extractvalue|updatexml)\(",
        // A comment that cuts off the rest of a statement: right behind a quote, or behind all that follows one.
        r"QUOTE#$",
        r"QUOTE[); ]*--",
        r"QUOTE.*--END",
    ];
    let set = RegexSetBuilder::new(patterns.map(expanded)).unicode(false).dot_matches_new_line(true).build();
    // The tests show that they are valid.
    set.unwrap_or_else(|_| RegexSet::empty())
});

/// `or`, a word or literal, a comparison, and another one.
static CONDITION: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let pattern = [
        r"(START(?<word>or|and|xor|having)AROUND+|(?<sign>\|\||&&)AROUND*)(?<left>[WORD]+)",
        r"((AROUND*([=<>][=>]?|!=)AROUND*|AROUND+likeAROUND+)(?<right>[WORD]+)",
        // Directly behind `like`, what is no letter begins an operand.
        r"|AROUND+like(?<other>[0-9_\x80-\xff][WORD]*))",
    ];
    RegexBuilder::new(&expanded(&pattern.concat())).unicode(false).build().ok()
});

/// A pattern without abbreviations.
fn expanded(pattern: &str) -> String {
    [
        ("START", r"(^|[^a-z_\x80-\xff])"),
        ("END", r"([^WORD]|$)"),
        ("AROUND", r#"['"`() ]"#),
        ("QUOTE", r#"['"`]"#),
        ("WORD", r"0-9a-z_\x80-\xff"),
    ]
    .iter()
    .fold(pattern.to_owned(), |pattern, (short, long)| pattern.replace(short, long))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harmless_queries_pass() {
        for query in [
            "",
            "&&",
            "v=1.2.3",
            "q=select+a+union+member",
            "q=union+selection",
            "q=reunion+select",
            "q=western+union",
            "name=O%27Brien",
            "name=O%27Brien+or+Smith",
            "q=it%27s+--+really",
            "download=script.js",
            "download=my%20javascript%20notes.txt",
            "utm_source=x&utm_medium=union",
            "t=a--b",
            "t=--",
            "format=json&sort=name&order=desc",
            "q=a+or+b%3Dc",
            "q=color%3Dred+and+size%3Dlarge",
            "a=1&or=1",
            "q=%27&or=1%3D1",
            "glob=src/**/*.rs",
            "accept=*/*",
            "q=a+%3C+b+and+c+%3E+d",
            "q=%3Cb%3Ebold%3C/b%3E",
            "once=1&only=2&online=3",
            "q=option=1",
            "q=conclusion%3D1",
            "q=sleeping(late)",
            "q=asleep(at+night)",
            "q=benchmarks",
            "q=drop+table+manners",
            "a=1;b=2",
            "url=https://example.org/?a=1%26b=2",
            "data:text/plain,hi",
            "time=12:30",
            "q=100%",
            "q=%zz%2",
            "q=%E6%96%87",
            "q=%FF%00",
            "q=hand=hand",
            "q=manuscript:draft",
        ] {
            assert!(!is_suspicious(query.as_bytes()), "{query}");
        }
    }

    #[test]
    fn injections_of_script_are_found() {
        for query in [
            "q=<script>alert(1)</script>",
            "q=%3Cscript%3Ealert(1)%3C/script%3E",
            "q=%253Cscript%253E",
            "q=%3CScRiPt+src=//x%3E",
            "q=%3Cscr%00ipt%3E",
            "q=%3C/script%3E",
            "q=%3Cscript/x%3E",
            "%3Cscript%3E",
            "a=1&b=%3Cscript",
            "q=%3Ciframe+src=x",
            "q=%3Cobject+data=x%3E",
            "url=javascript:alert(1)",
            "url=JavaScript%3Aalert(1)",
            "url=java%09script%0A:alert(1)",
            "url=+javascript:alert(1)",
            "url=vbscript:msgbox",
            "url=data:text/html,%3Cb%3E",
            "q=%3Cimg+src=x+onerror=alert(1)%3E",
            "%3Cimg+src=x+onerror=alert(1)%3E",
            "q=%3Cimg%0Asrc=x%0AonError%0A=alert(1)%3E",
            "q=%3Csvg+onload=alert(1)%3E",
            "q=%3Csvg/onload=alert(1)%3E",
            "q=%3Cimg%20src=%22%22onerror=alert(1)",
            "q=%22+onmouseover=%22alert(1)",
            "q=%27onfocus=alert(1)+autofocus",
        ] {
            assert!(is_suspicious(query.as_bytes()), "{query}");
        }
    }

    #[test]
    fn injections_of_sql_are_found() {
        for query in [
            "id=1+union+select+a,b+from+c",
            "id=1+UNION+ALL+SELECT+1",
            "id=1%20UnIoN%0A%09SeLeCt%201",
            "id=1/**/union/**/select/**/1",
            "id=1/*x*/union/*y*/select",
            "id=1/*!50000union*/+/*!select*/1",
            "id=1+union(select+1)",
            "id=1%2520union%2520select",
            "id=1union+select",
            "id='+or+1=1",
            "id=%27%20or%201%3D1",
            "id=%2527%2520or%25201%253D1",
            "id=x'+OR+'1'='1",
            "id=x'or'1'='1",
            "id=x\")+or+(\"a\"=\"a",
            "id='+||+1=1",
            "id='+%26%26+1=1",
            "id='+and+a<b",
            "id='+or+a+like+b",
            "id=%27||x%22like0b",
            "id=1+or+1=1",
            "id=1+or+2>1",
            "id=1)+or+(1=1",
            "id=1+having+1=1",
            "id=1;drop+table+users",
            "id=1+;+DROP+/**/+TABLE+users",
            "id=1;delete+from+users",
            "user=admin'--",
            "user=admin'+--+",
            "user=admin')+--+x",
            "user=admin'%23",
            "user='+or+1+--",
            "id=sleep(5)",
            "id=1+and+sleep+(5)",
            "id=pg_sleep(5)",
            "id=benchmark(1000000,md5(1))",
            "id=1;waitfor+delay+'0:0:5'",
            "t=information_schema.tables",
            "id=;exec+xp_cmdshell('dir')",
            "id=1+into+outfile+'/tmp/x'",
        ] {
            assert!(is_suspicious(query.as_bytes()), "{query}");
        }
    }

    #[test]
    fn the_canonical_text_has_spaces_between_words_alone() {
        for (text, expected) in [
            ("a  \t\r\n b", "a b"),
            (" ' or 1 = 1 ", "'or 1=1"),
            ("a/**/b", "a b"),
            ("a/*x*/ (b)", "a(b)"),
            ("/*!50000union*/select", "union select"),
            ("a/*b", "a b"),
            ("a*/b", "a b"),
            ("/*a*//*b*/c/*d", "c d"),
            ("/*/a*/b", "b"),
        ] {
            assert_eq!(canonical(text.as_bytes()), expected.as_bytes(), "{text}");
        }
    }

    #[test]
    fn a_long_hostile_query_takes_linear_work() {
        for piece in
            ["/*", "*/", "'--a", "'or ", "||", "<", "<on", ":", "((((", "on", "%25", ";)", "sleep", "''"]
        {
            let query = piece.repeat((1 << 17) / piece.len());
            let started = std::time::Instant::now();
            is_suspicious(query.as_bytes());
            assert!(started.elapsed().as_secs() < 5, "{piece}");
        }
    }
}
