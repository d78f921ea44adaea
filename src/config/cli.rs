//! The layer of flags, and the commands.

use std::ffi::{OsStr, OsString};
use std::iter;
use std::ops::Range;

use clap::builder::ValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::environment::CONFIG_VARIABLE;
use super::error::ConfigError;
use super::knobs::{KNOBS, Knob};
use super::nearest::nearest_key;

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// `pagecast` or `pagecast serve`
    Serve,
    /// `pagecast config`
    ShowConfig,
    /// A text that needs no configuration: `--help`, `--version`, `config --example`.
    Print(String),
}

/// What the command line asks for.
#[derive(Debug)]
pub(crate) struct CommandLine {
    pub(crate) task: Task,
    /// `--config`
    pub(crate) config_file: Option<OsString>,
    /// `ROOT`
    pub(crate) root: Option<OsString>,
    /// Flags that set a knob.
    pub(crate) knobs: Vec<(&'static Knob, OsString)>,
}

/// Reads the arguments, program name excluded. Reports everything that is wrong with their form.
pub(crate) fn read_command_line(
    arguments: impl IntoIterator<Item = OsString>,
    errors: &mut Vec<ConfigError>,
) -> CommandLine {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    // The parser stops at the first fault. Each is taken out and told, until the rest can be read.
    loop {
        let line = iter::once(OsString::from("pagecast")).chain(arguments.iter().cloned());
        let error = match command().try_get_matches_from(line) {
            Ok(matches) => return sorted(&matches, errors),
            Err(error) => error,
        };
        if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            return CommandLine::only(Task::Print(error.render().to_string()));
        }
        let (told, places) = fault(&error, &arguments);
        errors.push(told);
        if places.is_empty() {
            return CommandLine::only(Task::Serve);
        }
        arguments.drain(places);
    }
}

impl CommandLine {
    fn only(task: Task) -> Self {
        Self { task, config_file: None, root: None, knobs: Vec::new() }
    }
}

/// Words for the first fault, and the places of the arguments that are at fault; empty when they cannot be
/// found.
fn fault(error: &clap::Error, arguments: &[OsString]) -> (ConfigError, Range<usize>) {
    let given = match error.get(ContextKind::InvalidArg).or(error.get(ContextKind::InvalidSubcommand)) {
        Some(ContextValue::String(given)) => given.as_str(),
        _ => "",
    };
    let flag = given.split([' ', '=']).next().unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument if flag.starts_with("--") => {
            let nearest = nearest_key(flag, OTHER_FLAGS).replace('_', "-");
            let unknown = ConfigError::Unknown { name: flag.to_owned(), nearest: format!("--{nearest}") };
            (unknown, places_of_unknown(flag, arguments))
        }
        ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand if !given.is_empty() => {
            let usage = format!("the argument {given:?} is not expected; `pagecast --help` tells what is");
            let position = arguments.iter().rposition(|argument| begins_with(argument, given));
            (ConfigError::Usage(usage), only(position))
        }
        ErrorKind::InvalidValue if !flag.is_empty() => {
            let accepted = KNOBS
                .iter()
                .find(|knob| flag == format!("--{}", knob.flag()))
                .map_or_else(|| "the path of a file".to_owned(), Knob::accepted);
            let usage = format!("{flag} has no value; accepted: {accepted}");
            (ConfigError::Usage(usage), only(position_without_value(flag, arguments)))
        }
        _ => {
            let text = error.render().to_string();
            let first = text.lines().next().unwrap_or_default();
            (ConfigError::Usage(first.trim_start_matches("error: ").to_owned()), only(None))
        }
    }
}

fn only(position: Option<usize>) -> Range<usize> {
    position.map_or(0..0, |position| position..position + 1)
}

/// An unknown flag and what was meant as its value, which would otherwise be taken for the root.
fn places_of_unknown(flag: &str, arguments: &[OsString]) -> Range<usize> {
    let found = arguments.iter().position(|argument| {
        let after = argument.as_encoded_bytes().strip_prefix(flag.as_bytes());
        after.is_some_and(|after| after.first().is_none_or(|next| *next == b'='))
    });
    let Some(position) = found else { return only(None) };
    let has_no_value = arguments.get(position).is_some_and(|argument| argument == flag);
    let is_value =
        |next: &OsString| !begins_with(next, "-") && !COMMANDS.iter().any(|command| next == command);
    let value = arguments.get(position + 1).filter(|next| has_no_value && is_value(next));
    position..position + 1 + usize::from(value.is_some())
}

fn position_without_value(flag: &str, arguments: &[OsString]) -> Option<usize> {
    (0..arguments.len()).find(|position| {
        let is_flag = arguments.get(*position).is_some_and(|argument| argument == flag);
        is_flag && arguments.get(position + 1).is_none_or(|next| begins_with(next, "-"))
    })
}

fn begins_with(argument: &OsStr, text: &str) -> bool {
    argument.to_string_lossy().starts_with(text)
}

/// Sorts what was understood; a flag may stand before or after the command, but only once.
fn sorted(matches: &ArgMatches, errors: &mut Vec<ConfigError>) -> CommandLine {
    let below = matches.subcommand();
    let levels: Vec<&ArgMatches> = iter::once(matches).chain(below.map(|(_, matches)| matches)).collect();
    let mut once = |id: &str, shown: &str| -> Option<OsString> {
        let mut values = levels.iter().filter_map(|level| level.get_many::<OsString>(id)).flatten().cloned();
        let first = values.next();
        if values.next().is_some() {
            errors.push(ConfigError::Usage(format!("{shown} is given more than once")));
        }
        first
    };
    let config_file = once(CONFIG, "--config");
    let root = once(ROOT, "ROOT");
    let knobs: Vec<(&'static Knob, OsString)> = KNOBS
        .iter()
        .filter_map(|knob| Some((knob, once(knob.key, &format!("--{}", knob.flag()))?)))
        .collect();
    if root.is_some() && knobs.iter().any(|(knob, _)| knob.key == "root") {
        errors.push(ConfigError::Usage("ROOT and --root are both given: give one of them".to_owned()));
    }
    let task = match below {
        Some(("config", config)) if config.get_flag(EXAMPLE) => Task::Print(super::example()),
        Some(("config", _)) => Task::ShowConfig,
        _ => Task::Serve,
    };
    CommandLine { task, config_file, root, knobs }
}

fn command() -> Command {
    let serve = Command::new("serve").about("Serve the directory; the same as no command");
    let config = Command::new("config").about("Print each effective value and where it comes from").arg(
        Arg::new(EXAMPLE)
            .long(EXAMPLE)
            .action(ArgAction::SetTrue)
            .help("Print an annotated file with every default instead"),
    );
    with_knobs(Command::new("pagecast"))
        .about("Serve a directory over HTTP, straight from the page cache")
        .version(env!("CARGO_PKG_VERSION"))
        .after_help("Flags beat the environment, which beats the file, which beats the defaults.")
        .subcommand(with_knobs(serve))
        .subcommand(with_knobs(config))
}

/// The same arguments for every command that takes the configuration.
fn with_knobs(command: Command) -> Command {
    let root = Arg::new(ROOT)
        .value_name("ROOT")
        .value_parser(ValueParser::os_string())
        .help("Directory that is served; the same as --root");
    let config = Arg::new(CONFIG)
        .long(CONFIG)
        .value_name("FILE")
        .value_parser(ValueParser::os_string())
        .action(ArgAction::Append)
        .help(format!("TOML file with any of the knobs below [env: {CONFIG_VARIABLE}]"));
    command.arg(root).arg(config).args(KNOBS.iter().map(flag_of))
}

fn flag_of(knob: &'static Knob) -> Arg {
    let names = format!("[default: {}] [env: {}]", knob.default(), knob.variable());
    let lines: Vec<&str> = knob.doc().collect();
    Arg::new(knob.key)
        .long(knob.flag())
        .value_name(knob.metavar)
        .value_parser(ValueParser::os_string())
        .action(ArgAction::Append)
        .allow_negative_numbers(true)
        .help_heading(knob.group.title())
        .help(format!("{} {names}", lines.first().unwrap_or(&"")))
        .long_help(format!("{}\nAccepted: {}\n{names}", lines.join("\n"), knob.accepted()))
}

const ROOT: &str = "ROOT";
const CONFIG: &str = "config";
const EXAMPLE: &str = "example";
/// The commands there are.
pub(crate) const COMMANDS: &[&str] = &["serve", "config", "help"];
const OTHER_FLAGS: &[&str] = &["config", "help", "version", "example"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_sound() {
        command().debug_assert();
    }

    fn read(arguments: &[&str]) -> (CommandLine, Vec<String>) {
        let mut errors = Vec::new();
        let line = read_command_line(arguments.iter().map(Into::into), &mut errors);
        (line, errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn commands_and_flags_are_read_in_either_order() {
        for (arguments, shows, root, knobs) in [
            (&[][..], false, None, 0),
            (&["serve"], false, None, 0),
            (&["./dir"], false, Some("./dir"), 0),
            (&["serve", "./dir"], false, Some("./dir"), 0),
            (&["config", "dir", "--log=debug"], true, Some("dir"), 1),
            (&["--log", "debug", "config", "--workers", "3"], true, None, 2),
            (&["--", "config"], false, Some("config"), 0),
        ] {
            let (line, errors) = read(arguments);
            assert_eq!(errors, [""; 0], "{arguments:?}");
            assert_eq!(line.task == Task::ShowConfig, shows, "{arguments:?}");
            assert_eq!(line.root.as_deref(), root.map(OsStr::new), "{arguments:?}");
            assert_eq!(line.knobs.len(), knobs, "{arguments:?}");
        }
    }

    #[test]
    fn every_fault_of_the_command_line_is_told_at_once() {
        let (_, errors) = read(&[
            "--wrkers=3",
            "--lisen",
            "--log=info",
            "--log=warn",
            "a",
            "--root=b",
            "--index",
            "--watch",
        ]);
        assert_eq!(
            errors,
            [
                "--wrkers is not known; the nearest known name is --workers",
                "--lisen is not known; the nearest known name is --listen",
                "--index has no value; accepted: a file name without a slash, at most 255 bytes",
                "--watch has no value; \
                 accepted: on or off (also true or false, yes or no, 1 or 0)",
                "--log is given more than once",
                "ROOT and --root are both given: give one of them",
            ]
        );
    }

    #[test]
    fn what_is_one_too_many_is_told_and_hides_nothing() {
        let unexpected =
            |given: &str| format!("the argument {given:?} is not expected; `pagecast --help` tells what is");
        for (arguments, expected) in [
            (&["a", "b", "c"][..], vec![unexpected("b"), unexpected("c")]),
            (&["a", "serve", "b"], vec!["ROOT is given more than once".to_owned()]),
            (&["serve", "a", "b"], vec![unexpected("b")]),
            (
                &["-x", "--log=a", "--log=b"],
                vec![unexpected("-x"), "--log is given more than once".to_owned()],
            ),
        ] {
            assert_eq!(read(arguments).1, expected, "{arguments:?}");
        }
    }

    #[test]
    fn help_names_flag_variable_default_and_bounds_of_every_knob() {
        for arguments in [&["--help"][..], &["serve", "--help"], &["help", "config"]] {
            let Task::Print(text) = read(arguments).0.task else { panic!("no help for {arguments:?}") };
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            for knob in KNOBS {
                let names = format!("[default: {}] [env: {}]", knob.default(), knob.variable());
                for part in [format!("--{} <{}>", knob.flag(), knob.metavar), names, knob.accepted()] {
                    assert!(text.contains(&part), "{part} in {text}");
                }
            }
        }
    }
}
