//! Finds the known name nearest to a misspelt one.

use crate::config::settings_table::SETTINGS;

/// The key, of a setting or one of `others`, that is nearest to `name`, whatever style `name` is written in.
pub(crate) fn nearest_key(name: &str, others: &[&'static str]) -> &'static str {
    let keys = others.iter().copied().chain(SETTINGS.iter().map(|setting| setting.key));
    nearest_of(name, keys)
}

/// The one of `keys` that is nearest to `name`; empty if there are none.
pub(crate) fn nearest_of(name: &str, keys: impl IntoIterator<Item = &'static str>) -> &'static str {
    let lowered = name.trim_start_matches('-').to_ascii_lowercase().replace('-', "_");
    let wanted = lowered.strip_prefix("pagecast_").unwrap_or(&lowered);
    let wanted = USUAL_WORDS.iter().find(|(word, _)| *word == wanted).map_or(wanted, |(_, key)| *key);
    let rated = keys.into_iter().map(|key| (key, likeness(wanted, key)));
    rated.reduce(|best, other| if other.1 > best.1 { other } else { best }).map_or("", |(key, _)| key)
}

/// From 0 to 1; for names of several words also by how well their words agree.
fn likeness(wanted: &str, key: &str) -> f64 {
    let whole = strsim::normalized_damerau_levenshtein(wanted, key);
    let dice = strsim::sorensen_dice(wanted, key);
    (whole + dice) / 2.0
}

/// Names that other servers use for a setting and that are not similar to ours.
const USUAL_WORDS: &[(&str, &str)] = &[
    ("address", "listen"),
    ("bind", "listen"),
    ("dir", "root"),
    ("directory", "root"),
    ("host", "listen"),
    ("port", "listen"),
    ("threads", "workers"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_keyboard_finds_what_was_meant() {
        for (name, key) in [
            ("PAGECAST_WORKER", "workers"),
            ("PAGECAST_HEADTIMEOUT", "head_timeout"),
            ("PAGECAST_TIMEOUT_HEAD", "head_timeout"),
            ("PAGECAST_CONNECTIONS", "max_connections"),
            ("PAGECAST_MAX_CONNS", "max_connections"),
            ("PAGECAST_CACHE_SIZE", "cache_bytes"),
            ("PAGECAST_Root", "root"),
            ("PAGECAST_CONFG", "config"),
            ("--lisen", "listen"),
            ("--dot-files", "dotfiles"),
            ("admin-listen", "admin_listen"),
            ("symlink", "symlinks"),
            ("revalidate", "revalidate_after"),
            ("shutdown", "shutdown_timeout"),
            ("log_levl", "log"),
            ("PAGECAST_PORT", "listen"),
            ("--directory", "root"),
        ] {
            assert_eq!(nearest_key(name, &["config"]), key, "{name}");
        }
    }

    #[test]
    fn even_nonsense_has_a_nearest_name() {
        assert!(!nearest_key("", &[]).is_empty());
        assert!(!nearest_key("§§§", &[]).is_empty());
    }
}
