//! The annotated file with every default.

use std::fmt::Write as _;

use super::knobs::{KNOBS, Knob};

/// A TOML file that explains every knob and, once its lines are uncommented, sets every default.
/// `pagecast config --example` prints it; `config/pagecast.toml` begins with it.
pub fn example() -> String {
    let mut text = HEAD.to_owned();
    let mut group = None;
    for knob in KNOBS {
        if group != Some(knob.group) {
            let _ = write!(text, "\n\n## {}\n", knob.group.title());
            group = Some(knob.group);
        }
        text.push('\n');
        for line in knob.doc() {
            let _ = writeln!(text, "# {line}");
        }
        let accepted = knob.accepted();
        let _ = writeln!(text, "# Accepted: {accepted}.");
        let _ = writeln!(text, "#{} = {}", knob.key, toml_default(knob));
    }
    text
}

/// The default as a TOML value of its most natural type.
fn toml_default(knob: &Knob) -> String {
    let default = knob.default();
    match default.as_str() {
        "on" if knob.forms.boolean => "true".to_owned(),
        "off" if knob.forms.boolean => "false".to_owned(),
        number if knob.forms.integer && number.parse::<u32>().is_ok() => default,
        text if knob.forms.list => format!("[\"{}\"]", text.replace(',', "\", \"")),
        text => format!("\"{text}\""),
    }
}

const HEAD: &str = "\
# pagecast: every knob with its default. Name this file by PAGECAST_CONFIG or --config.
#
# A knob has three names: head_timeout here, PAGECAST_HEAD_TIMEOUT in the environment, --head-timeout as a flag.
# Flags beat the environment, which beats this file, which beats the defaults. A key that is not known or a value
# that is not accepted keeps the server from starting. `pagecast config` prints what is in effect, and where it
# comes from.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::parse;
    use crate::config::setting::Raw;
    use crate::config::{Config, Span};

    const SHIPPED: &str = include_str!("../../config/pagecast.toml");

    #[test]
    fn the_shipped_file_is_the_one_that_the_table_makes() {
        assert!(SHIPPED.starts_with(&example()), "pagecast config --example > config/pagecast.toml");
    }

    #[test]
    fn the_shipped_file_sets_nothing() {
        assert_eq!(parse(SHIPPED).entries.len(), 0);
    }

    #[test]
    fn the_shipped_file_uncommented_sets_every_default_and_nothing_else() {
        let lines: Vec<&str> = SHIPPED.lines().map(uncommented).collect();
        let text = lines.join("\n");
        let parsed = parse(&text);
        assert_eq!(parsed.faults, []);
        let mut config = spoilt();
        for entry in parsed.entries {
            let knob = Knob::by_key(&entry.key).unwrap_or_else(|| panic!("{} is no knob", entry.key));
            assert_eq!(knob.read(&mut config, Raw::Toml(entry.value)), Ok(()), "{}", entry.key);
            assert_eq!(knob.value(&config), knob.default(), "{}", entry.key);
        }
        assert_eq!(config, Config::default());
        assert_eq!(
            lines.iter().filter(|line| !line.starts_with('#') && !line.is_empty()).count(),
            KNOBS.len()
        );
    }

    /// Settings are commented out without a space, prose with one.
    fn uncommented(line: &str) -> &str {
        line.strip_prefix('#')
            .filter(|rest| !rest.starts_with([' ', '#']) && !rest.is_empty())
            .unwrap_or(line)
    }

    fn spoilt() -> Config {
        Config { drain_delay: Span::ZERO, stall_timeout: Span::hours(1), ..Config::default() }
    }
}
