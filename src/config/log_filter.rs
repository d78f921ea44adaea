//! Filter of the diagnostics log.

use log::LevelFilter;

use super::log_alias::current_targets;
use super::setting::{ValueError, text_value};

text_value! {
    /// An env_logger filter: a comma list of `LEVEL`, `TARGET=LEVEL` or `TARGET`, then optionally `/TEXT` to search for.
    ///
    /// Stricter than env_logger in one point: env_logger takes a misspelt level for a target, which would silence the log.
    LogFilter, as_str: str, "FILTER",
    "off, error, warn, info, debug or trace, or a comma list of TARGET=LEVEL, as in info,pagecast::files=debug",
    check_filter
}

impl LogFilter {
    /// The filter for `env_logger`, with the current names of former targets (`log_alias`).
    pub fn to_env_filter(&self) -> String {
        let pattern_at = self.0.find('/').unwrap_or(self.0.len());
        let (directives, pattern) = self.0.split_at(pattern_at);
        let current: Vec<String> = directives.split(',').flat_map(current_directives).collect();
        current.join(",") + pattern
    }

    /// The former targets that the filter contains, each with its current names. `None` if there are none.
    pub fn renamed_targets(&self) -> Option<String> {
        let directives = self.0.split('/').next().unwrap_or_default().split(',');
        let targets = directives.map(|directive| directive.split('=').next().unwrap_or_default().trim());
        let renamed: Vec<String> = targets
            .map(|target| (target, current_targets(target).join(" and ")))
            .filter(|(_, current)| !current.is_empty())
            .map(|(target, current)| format!("{target} is now {current}"))
            .collect();
        (!renamed.is_empty()).then(|| renamed.join(", "))
    }
}

fn current_directives(directive: &str) -> Vec<String> {
    let (target, level) = directive.split_once('=').unwrap_or((directive, ""));
    let names = current_targets(target.trim());
    match level.trim() {
        _ if names.is_empty() => vec![directive.trim().to_owned()],
        "" => names,
        level => names.iter().map(|name| format!("{name}={level}")).collect(),
    }
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
    fn former_targets_are_translated() {
        for (text, translated, renamed) in [
            ("info,pagecast::files=debug/open", "info,pagecast::files=debug/open", None),
            (
                "info, pagecast::wire=debug/a",
                "info,pagecast::net=debug/a",
                Some("pagecast::wire is now pagecast::net"),
            ),
            (
                "pagecast::guard = trace,pagecast::tls",
                "pagecast::limits=trace,pagecast::auth=trace,pagecast::site::https_policy=trace,pagecast::net::tls",
                Some(
                    "pagecast::guard is now pagecast::limits and pagecast::auth and pagecast::site::https_policy, \
                     pagecast::tls is now pagecast::net::tls",
                ),
            ),
        ] {
            let filter: LogFilter = text.parse().expect(text);
            assert_eq!(filter.to_env_filter(), translated);
            assert_eq!(filter.renamed_targets().as_deref(), renamed);
            assert_eq!(filter.to_string(), text);
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
}
