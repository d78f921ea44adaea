//! A filter for queries with script or SQL injections.
//!
//! A file server passes queries to no interpreter and needs none, but some policies demand a filter. It searches for the common
//! traits of attacks; it misses some attacks, and some of its findings are harmless.

use memchr::memmem::{find, find_iter, rfind};
use percent_encoding::percent_decode;

use crate::http::form_encoding::decode;

/// Whether a query looks like a script or SQL injection.
///
/// Each pair is examined by itself: decoded twice, in lower case, without SQL comments, and with white space only between
/// words. The time is linear in the length of the query.
pub fn is_suspicious(query: &[u8]) -> bool {
    query.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()).any(|pair| {
        let text = decode_twice(pair);
        let canonical = canonical(&text);
        carries_script(&text, &canonical) || carries_sql(&canonical)
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

fn carries_script(text: &[u8], canonical: &[u8]) -> bool {
    has_script_url(text) || has_active_tag(canonical) || has_event_handler(canonical)
}

/// `javascript:`, within which browsers skip tabs and line breaks, or a page in a `data:` URL.
fn has_script_url(text: &[u8]) -> bool {
    find(text, b"data:text/html").is_some()
        || memchr::memchr_iter(b':', text).any(|colon| {
            let before = text.get(..colon).unwrap_or_default();
            SCRIPT_SCHEMES.iter().any(|scheme| ends_in_scheme(before, scheme))
        })
}

fn ends_in_scheme(before: &[u8], scheme: &[u8]) -> bool {
    let near = before.get(before.len().saturating_sub(LOOK_MAX)..).unwrap_or_default();
    let letters = near.iter().rev().filter(|&&byte| byte >= b' ');
    scheme.iter().rev().eq(letters.take(scheme.len()))
}

/// `<script` and similar tags.
fn has_active_tag(canonical: &[u8]) -> bool {
    memchr::memchr_iter(b'<', canonical).any(|at| {
        let after = canonical.get(at + 1..).unwrap_or_default();
        let name = after.strip_prefix(b"/").unwrap_or(after);
        ACTIVE_TAGS.iter().any(|tag| name.strip_prefix(*tag).is_some_and(|rest| !begins_with_word(rest)))
    })
}

/// `onerror=` and similar attributes, in a tag or directly after the quote that ends a value.
fn has_event_handler(canonical: &[u8]) -> bool {
    let mut in_tag = false;
    let mut previous = 0;
    let mut rest = canonical;
    while let [first, tail @ ..] = rest {
        match rest {
            [b'<', b'a'..=b'z' | b'/' | b'!' | b'?', ..] => in_tag = true,
            [b'>', ..] => in_tag = false,
            [b'o', b'n', name @ ..]
                if !is_word(previous) && (in_tag || is_quote(previous)) && is_handler(name) =>
            {
                return true;
            }
            _ => {}
        }
        previous = *first;
        rest = tail;
    }
    false
}

/// Whether the name of an event and an equals sign follow `on`.
fn is_handler(name: &[u8]) -> bool {
    let letters = name.iter().take_while(|byte| byte.is_ascii_lowercase()).count();
    letters >= EVENT_LENGTH_MIN && name.get(letters) == Some(&b'=')
}

fn carries_sql(canonical: &[u8]) -> bool {
    SQL_PHRASES.iter().any(|phrase| has_phrase(canonical, phrase))
        || has_comment_after_quote(canonical)
        || has_added_condition(canonical)
}

/// Whether the phrase is there and neither end of it is within a word.
fn has_phrase(canonical: &[u8], phrase: &[u8]) -> bool {
    find_iter(canonical, phrase).any(|at| {
        let before = canonical.get(..at).unwrap_or_default();
        let after = canonical.get(at + phrase.len()..).unwrap_or_default();
        let begins = !phrase.first().copied().is_some_and(is_word) || !ends_in_letter(before);
        let ends = !phrase.last().copied().is_some_and(is_word) || !begins_with_word(after);
        begins && ends
    })
}

/// `--` that cuts off the rest of a statement: right behind a quote, or behind all that follows one. A `#`
/// does so at the end.
fn has_comment_after_quote(canonical: &[u8]) -> bool {
    if let [.., quote, b'#'] = canonical
        && is_quote(*quote)
    {
        return true;
    }
    let Some(first_quote) = canonical.iter().position(|&byte| is_quote(byte)) else { return false };
    find_iter(canonical, b"--").filter(|&at| at > first_quote).any(|at| {
        let before = canonical.get(..at).unwrap_or_default();
        let after = canonical.get(at + 2..).unwrap_or_default();
        closes_literal(before) || !begins_with_word(after)
    })
}

/// A condition that is always true (`or 1=1`), or one behind a quote (`' or 'a'<'b`).
fn has_added_condition(canonical: &[u8]) -> bool {
    CONNECTIVES.iter().any(|connective| {
        find_iter(canonical, connective).any(|at| {
            let before = canonical.get(..at).unwrap_or_default();
            let after = canonical.get(at + connective.len()..).unwrap_or_default();
            let is_whole = !connective.first().copied().is_some_and(is_word)
                || !(ends_in_letter(before) || begins_with_word(after));
            is_whole && is_condition(after, closes_literal(before))
        })
    })
}

fn is_condition(text: &[u8], is_behind_quote: bool) -> bool {
    let Some((left, rest)) = split_operand(text) else { return false };
    let Some(rest) = strip_comparison(rest) else { return false };
    let Some((right, _)) = split_operand(rest) else { return false };
    let is_number = |operand: &[u8]| operand.iter().all(u8::is_ascii_digit);
    is_behind_quote || left == right || (is_number(left) && is_number(right))
}

/// Splits off a word or a literal, without quotes and parentheses.
fn split_operand(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let is_around = |byte: &u8| is_quote(*byte) || matches!(byte, b'(' | b')' | b' ');
    let near = text.get(..text.len().min(LOOK_MAX)).unwrap_or_default();
    let start = near.iter().position(|byte| !is_around(byte))?;
    let length = near.get(start..)?.iter().take_while(|&&byte| is_word(byte)).count();
    let end = start + length;
    let behind = near.get(end..)?.iter().take_while(|byte| is_around(byte)).count();
    let operand = near.get(start..end).filter(|operand| !operand.is_empty())?;
    Some((operand, text.get(end + behind..)?))
}

fn strip_comparison(text: &[u8]) -> Option<&[u8]> {
    match text {
        [b'=' | b'<' | b'>', b'=' | b'>', rest @ ..] | [b'!', b'=', rest @ ..] => Some(rest),
        [b'=' | b'<' | b'>', rest @ ..] => Some(rest),
        _ => text.strip_prefix(b"like").filter(|rest| !begins_with_letter(rest)),
    }
}

/// Whether a text ends in a quote, perhaps with parentheses or a semicolon behind it.
fn closes_literal(text: &[u8]) -> bool {
    let near = text.get(text.len().saturating_sub(LOOK_MAX)..).unwrap_or_default();
    near.iter().rev().find(|byte| !matches!(byte, b')' | b';' | b' ')).copied().is_some_and(is_quote)
}

fn begins_with_word(text: &[u8]) -> bool {
    text.first().copied().is_some_and(is_word)
}

fn begins_with_letter(text: &[u8]) -> bool {
    text.first().is_some_and(u8::is_ascii_lowercase)
}

/// Whether a word goes on behind the text. A number does not: `1or 1=1` is read as `1 or 1=1`.
fn ends_in_letter(text: &[u8]) -> bool {
    text.last().is_some_and(|&byte| is_word(byte) && !byte.is_ascii_digit())
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn is_quote(byte: u8) -> bool {
    matches!(byte, b'\'' | b'"' | b'`')
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// How far a pattern that may be interrupted reaches. It keeps the work linear.
const LOOK_MAX: usize = 64;

/// The shortest is `oncut`.
const EVENT_LENGTH_MIN: usize = 3;

const SCRIPT_SCHEMES: &[&[u8]] = &[b"javascript", b"vbscript"];

const ACTIVE_TAGS: &[&[u8]] = &[b"script", b"iframe", b"object", b"embed"];

const CONNECTIVES: &[&[u8]] = &[b"or", b"and", b"xor", b"having", b"||", b"&&"];

const SQL_PHRASES: &[&[u8]] = &[
    b"union select",
    b"union(select",
    b"union all select",
    b"union all(select",
    b"union distinct select",
    b"union distinct(select",
    b";drop table",
    b";drop database",
    b";truncate table",
    b";alter table",
    b";delete from",
    b";insert into",
    b"into outfile",
    b"into dumpfile",
    b"waitfor delay",
    b"sleep(",
    b"pg_sleep(",
    b"benchmark(",
    b"load_file(",
    b"extractvalue(",
    b"updatexml(",
    b"information_schema",
    b"xp_cmdshell",
];

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
