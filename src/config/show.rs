//! Output of `pagecast config`.

use std::fmt::Write as _;

use super::rule_reader::RULE;
use super::{ByteCount, Config, LoadedConfig, ResolvedLimits, SETTINGS, ValueOrigin, ValueOrigins};

/// Every effective value and where it comes from, in aligned columns under the headings of the groups; below,
/// the paths of each rule and the bounds that are derived only.
pub fn show(loaded: &LoadedConfig) -> String {
    table(&shown(&loaded.config, &loaded.origins, &loaded.limits))
}

/// The same as lines that are not aligned yet. Secrets are hidden.
pub(crate) fn shown(config: &Config, origins: &ValueOrigins, limits: &ResolvedLimits) -> Vec<ShownValue> {
    let row = |title, key, value, origin: &ValueOrigin| ShownValue {
        title,
        key,
        value,
        origin: origin.to_string(),
    };
    let settings = SETTINGS.iter().map(|setting| {
        let origin = origins.of(setting.key);
        let derived = derived_value(limits, setting.key).filter(|_| *origin == ValueOrigin::Derived);
        row(setting.group, setting.key, derived.unwrap_or_else(|| (setting.value)(config)), origin)
    });
    let rules = config.rules.iter().zip(&origins.rules);
    let rules = rules.map(|(rule, origin)| row("Rules", RULE, rule.path.to_string(), origin));
    let derived = derived(limits).into_iter();
    let derived =
        derived.map(|(key, value)| row("Derived bounds", key, value.to_string(), &ValueOrigin::Derived));
    settings.chain(rules).chain(derived).collect()
}

/// A value, as it is shown.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct ShownValue {
    /// The heading that it stands under.
    #[serde(rename = "group")]
    pub(crate) title: &'static str,
    pub(crate) key: &'static str,
    pub(crate) value: String,
    pub(crate) origin: String,
}

/// The derived value of a setting that is `auto`; `None` for all others.
fn derived_value(limits: &ResolvedLimits, key: &str) -> Option<String> {
    Some(match key {
        "workers" => limits.workers.to_string(),
        "handles" => limits.handles.to_string(),
        "max_connections" => limits.max_connections.to_string(),
        "cache_bytes" => ByteCount::bytes(limits.cache_bytes).to_string(),
        "heap_bytes" => ByteCount::bytes(limits.heap_bytes).to_string(),
        _ => return None,
    })
}

fn derived(limits: &ResolvedLimits) -> [(&'static str, usize); 5] {
    [
        ("open files", limits.open_files),
        ("reserve of open files", limits.reserve),
        ("refusals at once", limits.refusals),
        ("admin connections", limits.admin_connections),
        ("mappings", limits.mappings),
    ]
}

/// Lines in aligned columns, under their headings.
pub(crate) fn table(rows: &[ShownValue]) -> String {
    let width = |text: &str| text.chars().count();
    let keys = rows.iter().map(|row| width(row.key)).max().unwrap_or_default();
    let values = rows.iter().map(|row| width(&row.value)).max().unwrap_or_default();
    let (mut text, mut title) = (String::new(), "");
    for row in rows {
        if row.title != title {
            let gap = if title.is_empty() { "" } else { "\n" };
            let _ = writeln!(text, "{gap}# {}", row.title);
            title = row.title;
        }
        let _ = writeln!(text, "{:keys$}  {:values$}  {}", row.key, row.value, row.origin);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ValueOrigins, resolve_limits};
    use crate::sys::memory::{MemoryAmount, MemorySource};
    use crate::sys::system_facts::SystemFacts;

    #[test]
    fn every_setting_has_its_line_with_value_and_origin_in_aligned_columns() {
        let config = Config::default();
        let facts = SystemFacts {
            open_files: 1_024,
            max_map_count: 100,
            memory: MemoryAmount { bytes: 2 << 30, source: MemorySource::Machine },
            cpus: 2,
            inherited: 0,
        };
        let limits = resolve_limits(&config, &facts).expect("it fits");
        let mut origins = ValueOrigins::default();
        origins.set("workers", ValueOrigin::Derived);
        origins.set("index", ValueOrigin::Flag("--index".to_owned()));
        let text = show(&LoadedConfig {
            config,
            origins,
            limits,
            redirects: Default::default(),
            access: Default::default(),
            file: None,
        });
        let line = |key: &str| {
            let found = text.lines().find(|line| line.starts_with(&format!("{key} ")));
            found.unwrap_or_else(|| panic!("{key} in {text}")).split("  ").filter(|part| !part.is_empty())
        };
        for setting in SETTINGS {
            assert_eq!(line(setting.key).count(), 3, "{}", setting.key);
        }
        let parts = |key: &str| line(key).map(str::trim).collect::<Vec<_>>();
        assert_eq!(parts("workers"), ["workers", "2", "derived"]);
        assert_eq!(parts("index"), ["index", "index.html", "flag --index"]);
        assert_eq!(parts("mappings"), ["mappings", "50", "derived"]);
        let columns: Vec<_> = text.lines().filter_map(|line| line.find("  default")).collect();
        assert!(columns.windows(2).all(|pair| pair.first() == pair.last()), "{text}");
    }
}
