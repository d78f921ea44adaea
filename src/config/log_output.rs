//! Settings of the logs: the filter of the diagnostics log, the target of the access log.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use log::LevelFilter;

use super::setting::{TomlForms, ValueError, setting_value, text_value};

text_value! {
    /// An env_logger filter: a comma list of `LEVEL`, `TARGET=LEVEL` or `TARGET`, then optionally `/TEXT` to search for.
    ///
    /// Stricter than env_logger in one point: env_logger takes a misspelt level for a target, which would silence the log.
    LogFilter, as_str: str, "FILTER",
    "off, error, warn, info, debug or trace, or a comma list of TARGET=LEVEL, as in info,pagecast::files=debug",
    check_filter
}

fn check_filter(text: &str) -> Result<(), ValueError> {
    let (directives, pattern) = text.split_once('/').unwrap_or((text, ""));
    if directives.trim().is_empty() {
        return Err(ValueError::EMPTY);
    }
    if pattern.contains('/') {
        return Err(ValueError::new("has more than one `/`"));
    }
    directives.split(',').map(str::trim).try_for_each(check_directive)
}

fn check_directive(directive: &str) -> Result<(), ValueError> {
    let Some((target, level)) = directive.split_once('=') else {
        return check_word(directive);
    };
    if target.trim().is_empty() {
        return Err(ValueError::new("has no target before `=`"));
    }
    if level.trim().parse::<LevelFilter>().is_err() {
        return Err(ValueError::new(format!("has the unknown level `{}`", level.escape_debug())));
    }
    Ok(())
}

/// Accepts a level or a target, but not a misspelt level.
fn check_word(word: &str) -> Result<(), ValueError> {
    if word.is_empty() {
        return Err(ValueError::new("has an empty item in its list"));
    }
    if word.parse::<LevelFilter>().is_ok() {
        return Ok(());
    }
    let meant = LevelFilter::iter()
        .map(|level| level.as_str().to_ascii_lowercase())
        .find(|level| word.starts_with(level.as_str()) || strsim::osa_distance(level, word) <= 2);
    let Some(level) = meant else { return Ok(()) };
    let word = word.escape_debug();
    Err(ValueError::new(format!("has the unknown level `{word}` ({level}? A target is {word}=trace)")))
}

/// Target of the access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// Nowhere.
    Off,
    /// To standard error, among the diagnostics.
    Stderr,
    /// To the end of a file. A relative path starts at the working directory.
    File(PathBuf),
}

impl FromStr for LogTarget {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "" => Err(ValueError::EMPTY),
            _ if text.eq_ignore_ascii_case("off") => Ok(Self::Off),
            _ if text.eq_ignore_ascii_case("stderr") => Ok(Self::Stderr),
            _ if text.contains('\0') => Err(ValueError::new("contains a NUL")),
            _ => Ok(Self::File(text.into())),
        }
    }
}

impl fmt::Display for LogTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Stderr => f.write_str("stderr"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

setting_value!(LogTarget: "PATH", TomlForms::TEXT, "off, stderr or the path of a file");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_of_env_logger_are_accepted() {
        for text in
            ["info", "OFF", "warn,pagecast=debug", "pagecast::wire", "info, pagecast = trace", "debug/open"]
        {
            assert!(text.parse::<LogFilter>().is_ok(), "{text}");
        }
    }

    #[test]
    fn filters_that_would_not_do_what_they_say_are_refused() {
        for (text, reason) in [
            ("", "is empty"),
            ("/x", "is empty"),
            ("info/a/b", "has more than one `/`"),
            ("info,", "has an empty item in its list"),
            ("=info", "has no target before `=`"),
            ("pagecast=loud", "has the unknown level `loud`"),
            ("pagecast=warn=info", "has the unknown level `warn=info`"),
            ("debgu", "has the unknown level `debgu` (debug? A target is debgu=trace)"),
            ("warning", "has the unknown level `warning` (warn? A target is warning=trace)"),
        ] {
            assert_eq!(text.parse::<LogFilter>(), Err(ValueError::new(reason)), "{text}");
        }
    }

    #[test]
    fn words_and_paths_are_reported_apart() {
        for (text, expected) in [
            ("off", LogTarget::Off),
            ("STDERR", LogTarget::Stderr),
            ("./off", LogTarget::File("./off".into())),
            ("/var/log/a.log", LogTarget::File("/var/log/a.log".into())),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        assert!("".parse::<LogTarget>().is_err());
    }
}
