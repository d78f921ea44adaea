//! The annotated configuration file with every default.

use std::fmt::Write as _;

use crate::config::settings_table::{SETTINGS, Setting, TakesEffect};

/// A TOML file that documents every setting and, once its lines are uncommented, sets every default.
/// `pagecast config --example` prints it; `config/pagecast.toml` begins with it.
pub fn example() -> String {
    let mut text = HEAD.to_owned();
    let mut group = None;
    for setting in SETTINGS {
        if group != Some(setting.group) {
            let _ = write!(text, "\n\n## {}\n", setting.group);
            group = Some(setting.group);
        }
        text.push('\n');
        for line in setting.doc() {
            let _ = writeln!(text, "# {line}");
        }
        let accepted = (setting.accepted)();
        let _ = writeln!(text, "# Accepted: {accepted}.");
        if setting.takes_effect == TakesEffect::Restart {
            text.push_str("# A change needs a restart.\n");
        }
        let _ = writeln!(text, "#{} = {}", setting.key, toml_default(setting));
    }
    text
}

/// The default as a TOML value of its most natural type.
fn toml_default(setting: &Setting) -> String {
    let default = setting.default();
    match default.as_str() {
        "on" if setting.forms.boolean => "true".to_owned(),
        "off" if setting.forms.boolean => "false".to_owned(),
        number if setting.forms.integer && number.parse::<u32>().is_ok() => default,
        text if setting.forms.list && !matches!(text, "off" | "any" | "none") => {
            format!("[\"{}\"]", text.replace(',', "\", \""))
        }
        text => format!("\"{text}\""),
    }
}

const HEAD: &str = "\
# pagecast: every setting with its default. Name this file by PAGECAST_CONFIG or --config.
#
# A setting has three names: head_timeout here, PAGECAST_HEAD_TIMEOUT in the environment, --head-timeout as a flag.
# Flags override the environment, which overrides this file, which overrides the defaults. The server does not start
# with an unknown key or a value that is not accepted. `pagecast config` prints every value in effect and where it
# comes from. On SIGHUP this file is read again, and all settings change but those that need a restart.
";

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::{env, fs};

    use super::*;
    use crate::config::file::parse;
    use crate::config::rule_reader::RULE;
    use crate::config::rule_table::read_rules;
    use crate::config::setting::RawValue;
    use crate::config::{Config, ConnectionsGroup, DurationSetting, StoppingGroup};

    const SHIPPED: &str = include_str!("../../config/pagecast.toml");

    /// Compares the part of a committed file that is generated; with `UPDATE_GENERATED=1` writes it.
    fn check_generated(path: &str, begin: &str, generated: &str, end: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let text = fs::read_to_string(&path).expect("the file is there");
        let (before, rest) = text.split_once(begin).expect("it has the begin of the generated part");
        let (old, after) = rest.split_once(end).expect("it has the end of the generated part");
        if env::var_os("UPDATE_GENERATED").is_some() {
            fs::write(&path, [before, begin, generated, end, after].concat()).expect("it can be written");
            return;
        }
        assert!(old == generated, "{}: UPDATE_GENERATED=1 cargo test --lib config::example", path.display());
    }

    #[test]
    fn the_shipped_file_begins_with_the_generated_example() {
        check_generated("config/pagecast.toml", "", &example(), "\n\n## Rules for parts");
    }

    #[test]
    fn the_reference_in_the_docs_is_generated_from_the_table() {
        let (begin, end) = ("<!-- settings: begin -->\n", "<!-- settings: end -->");
        check_generated("docs/configuration.md", begin, &reference(), end);
    }

    /// Tables in Markdown, one for each group.
    fn reference() -> String {
        let mut text = String::new();
        let mut group = "";
        for setting in SETTINGS {
            if group != setting.group {
                group = setting.group;
                let _ = write!(text, "\n### {group}\n\n");
                text.push_str(
                    "| setting | default | meaning | a change applies |\n| --- | --- | --- | --- |\n",
                );
            }
            let applies = match setting.takes_effect {
                TakesEffect::Live => "on reload",
                TakesEffect::Restart => "after a restart",
            };
            let doc = setting.doc().collect::<Vec<_>>().join(" ");
            let meaning =
                format!("{doc} Accepted: {}.", (setting.accepted)()).replace('*', "\\*").replace('|', "\\|");
            let _ = writeln!(text, "| `{}` | `{}` | {meaning} | {applies} |", setting.key, setting.default());
        }
        text + "\n"
    }

    #[test]
    fn the_shipped_file_sets_nothing() {
        assert_eq!(parse(Path::new("c.toml"), SHIPPED).1.len(), 0);
    }

    #[test]
    fn the_shipped_file_uncommented_sets_every_default_and_nothing_else() {
        let lines: Vec<&str> = SHIPPED.lines().map(uncommented).collect();
        let text = lines.join("\n");
        let (source, mut entries) = parse(Path::new("c.toml"), &text);
        assert_eq!(source.faults, []);
        // The rules come last, since what follows them in TOML is theirs.
        assert_eq!(entries.pop().map(|entry| entry.key).as_deref(), Some(RULE));
        let mut config = spoilt();
        for entry in entries {
            let setting =
                Setting::by_key(&entry.key).unwrap_or_else(|| panic!("{} is no setting", entry.key));
            assert_eq!((setting.read)(&mut config, RawValue::Toml(entry.value)), Ok(()), "{}", entry.key);
            assert_eq!((setting.value)(&config), setting.default(), "{}", entry.key);
        }
        assert_eq!(config, Config::default());
        let of_settings = lines.iter().take_while(|line| !line.starts_with("[[rule]]"));
        assert_eq!(
            of_settings.filter(|line| !line.starts_with('#') && !line.is_empty()).count(),
            SETTINGS.len()
        );
    }

    #[test]
    fn the_rules_of_the_shipped_file_are_right_once_they_are_uncommented() {
        let text: Vec<&str> = SHIPPED.lines().map(uncommented).collect();
        let text = text.join("\n");
        let (source, mut entries) = parse(Path::new("c.toml"), &text);
        let mut errors = Vec::new();
        let rules = read_rules(entries.pop().expect("rules"), &source, &mut errors);
        assert_eq!(errors, []);
        assert!(rules.len() >= 5, "{}", rules.len());
    }

    /// Settings are commented out without a space, prose with one.
    fn uncommented(line: &str) -> &str {
        line.strip_prefix('#')
            .filter(|rest| !rest.starts_with([' ', '#']) && !rest.is_empty())
            .unwrap_or(line)
    }

    fn spoilt() -> Config {
        Config {
            stopping: StoppingGroup { drain_delay: DurationSetting::ZERO, ..StoppingGroup::default() }.into(),
            connections: ConnectionsGroup {
                stall_timeout: DurationSetting::hours(1),
                ..ConnectionsGroup::default()
            }
            .into(),
            ..Config::default()
        }
    }
}
