//! Command line: commands and flags.

use std::ffi::{OsStr, OsString};
use std::iter;
use std::ops::{Range, RangeInclusive};

use clap::builder::ValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::address::Address;
use super::cli_sign;
use super::count::Count;
use super::environment::CONFIG_VARIABLE;
use super::error::ConfigError;
use super::nearest::nearest_key;
use super::path_glob::PathGlobs;
use super::setting::SettingValue;
use super::task::{Action, CompressArgs, VerifyArgs, WarmArgs};
use crate::config::settings_table::{SETTINGS, Setting};
use crate::http::encoding::Encoding;

/// The parsed command line.
#[derive(Debug)]
pub(crate) struct CommandLine {
    pub(crate) task: Action,
    /// `--config`
    pub(crate) config_file: Option<OsString>,
    /// `ROOT`
    pub(crate) root: Option<OsString>,
    /// Flags that set a setting.
    pub(crate) settings: Vec<(&'static Setting, OsString)>,
}

/// Parses the arguments without the program's name. Reports every error in them.
pub(crate) fn read_command_line(
    arguments: impl IntoIterator<Item = OsString>,
    errors: &mut Vec<ConfigError>,
) -> CommandLine {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    // The parser stops at the first error: report it, remove its arguments and parse the rest.
    loop {
        let line = iter::once(OsString::from("pagecast")).chain(arguments.iter().cloned());
        let error = match command().try_get_matches_from(line) {
            Ok(matches) => return sorted(&matches, errors),
            Err(error) => error,
        };
        if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            return CommandLine::only(Action::Print(error.render().to_string()));
        }
        let (reported, places) = fault(&error, &arguments);
        errors.push(reported);
        if places.is_empty() {
            return CommandLine::only(Action::Serve);
        }
        arguments.drain(places);
    }
}

impl CommandLine {
    fn only(task: Action) -> Self {
        Self { task, config_file: None, root: None, settings: Vec::new() }
    }
}

/// The first error, and the range of arguments that caused it; empty if it cannot be found.
fn fault(error: &clap::Error, arguments: &[OsString]) -> (ConfigError, Range<usize>) {
    let given = match error.get(ContextKind::InvalidArg).or(error.get(ContextKind::InvalidSubcommand)) {
        Some(ContextValue::String(given)) => given.as_str(),
        _ => "",
    };
    let flag = given.split([' ', '=']).next().unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument if flag.starts_with("--") => {
            let others = [OTHER_FLAGS, cli_sign::FLAGS].concat();
            let nearest = format!("--{}", nearest_key(flag, &others).replace('_', "-"));
            let reported = if flag == nearest {
                let usage = format!(
                    "{flag} is a flag of another command; `pagecast COMMAND --help` lists those of a command"
                );
                ConfigError::Usage(usage)
            } else {
                ConfigError::Unknown { name: flag.to_owned(), nearest }
            };
            (reported, places_of_unknown(flag, arguments))
        }
        ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand if !given.is_empty() => {
            let usage = format!("the argument {given:?} is not expected; see `pagecast --help`");
            let position = arguments.iter().rposition(|argument| begins_with(argument, given));
            (ConfigError::Usage(usage), only(position))
        }
        ErrorKind::InvalidValue if !flag.is_empty() => {
            let setting = SETTINGS.iter().find(|setting| flag == format!("--{}", setting.flag()));
            let accepted = match (setting, flag) {
                (Some(setting), _) => setting.accepted(),
                (None, "--threads") => Count::accepted(&THREADS),
                (None, "--codings") => CODINGS_ACCEPTED.to_owned(),
                (None, "--admin") => ADMIN_ACCEPTED.to_owned(),
                (None, _) => cli_sign::accepted(flag).unwrap_or_else(|| "the path of a file".to_owned()),
            };
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

/// Range of an unknown flag and of its value, which would otherwise be taken for the root.
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

/// Collects the parsed arguments. A flag can stand before or after the command, but only once.
fn sorted(matches: &ArgMatches, errors: &mut Vec<ConfigError>) -> CommandLine {
    let below = matches.subcommand();
    let levels: Vec<&ArgMatches> = iter::once(matches).chain(below.map(|(_, matches)| matches)).collect();
    let mut once = |id: &str, shown: &str| -> Option<OsString> {
        let mut values = levels
            .iter()
            .filter_map(|level| level.try_get_many::<OsString>(id).ok().flatten())
            .flatten()
            .cloned();
        let first = values.next();
        if values.next().is_some() {
            errors.push(ConfigError::Usage(format!("{shown} is given more than once")));
        }
        first
    };
    let config_file = once(CONFIG, "--config");
    let root = once(ROOT, "ROOT");
    let given_codings = once(CODINGS, "--codings");
    let given_threads = once(THREADS_FLAG, "--threads");
    let given_admin = once(ADMIN, "--admin");
    let settings: Vec<(&'static Setting, OsString)> = SETTINGS
        .iter()
        .filter_map(|setting| Some((setting, once(setting.key, &format!("--{}", setting.flag()))?)))
        .collect();
    if root.is_some() && settings.iter().any(|(setting, _)| setting.key == "root") {
        errors.push(ConfigError::Usage("ROOT and --root are both given: give one of them".to_owned()));
    }
    let task = match below {
        Some(("config", config)) if config.get_flag(EXAMPLE) => Action::Print(super::example()),
        Some(("config", _)) => Action::ShowConfig,
        Some(("compress", _)) => Action::Compress(CompressArgs {
            codings: codings(given_codings, errors),
            threads: threads(given_threads, errors),
            check: below.is_some_and(|(_, compress)| compress.get_flag(CHECK)),
        }),
        Some(("verify", verify)) => Action::Verify(VerifyArgs {
            threads: threads(given_threads, errors),
            json: verify.get_flag(JSON),
        }),
        Some(("warm", warm)) => match globs(warm, errors) {
            Some(globs) => Action::Warm(WarmArgs { globs, admin: admin(given_admin, errors) }),
            None => Action::Serve,
        },
        Some(("sign", sign)) => cli_sign::read(sign, errors).map_or(Action::Serve, Action::Sign),
        _ => Action::Serve,
    };
    CommandLine { task, config_file, root, settings }
}

fn threads(given: Option<OsString>, errors: &mut Vec<ConfigError>) -> Option<usize> {
    let given = given?;
    let text = given.to_string_lossy();
    let count = text.parse::<Count>().and_then(|count| count.check(&THREADS).map(|()| count));
    match count {
        Ok(count) => Some(count.as_usize()),
        Err(reason) => {
            errors.push(bad_flag("--threads", &text, reason.to_string(), Count::accepted(&THREADS)));
            None
        }
    }
}

/// `None`, with an error reported, if a glob is invalid.
fn globs(warm: &ArgMatches, errors: &mut Vec<ConfigError>) -> Option<PathGlobs> {
    let given = warm.get_many::<OsString>(GLOB).into_iter().flatten();
    let texts: Vec<String> = given.map(|glob| glob.to_string_lossy().into_owned()).collect();
    let value = texts.join(", ");
    match PathGlobs::new(texts) {
        Ok(globs) => Some(globs),
        Err(reason) => {
            let accepted = "one or more globs over paths, such as /assets/** or *.css".to_owned();
            errors.push(bad_flag("GLOB", &value, reason.to_string(), accepted));
            None
        }
    }
}

fn admin(given: Option<OsString>, errors: &mut Vec<ConfigError>) -> Option<Address> {
    let given = given?;
    let text = given.to_string_lossy();
    text.parse()
        .map_err(|reason: super::ValueError| {
            errors.push(bad_flag("--admin", &text, reason.to_string(), ADMIN_ACCEPTED.to_owned()));
        })
        .ok()
}

fn codings(given: Option<OsString>, errors: &mut Vec<ConfigError>) -> Vec<Encoding> {
    let Some(given) = given else { return Encoding::ALL.to_vec() };
    let text = given.to_string_lossy();
    let is_known = |name: &str| Encoding::ALL.iter().any(|coding| coding.name() == name);
    if let Some(other) = text.split(',').map(str::trim).find(|name| !is_known(name)) {
        let reason = if other.is_empty() {
            "has an empty item in its list".to_owned()
        } else {
            format!("contains the unknown encoding {other:?}")
        };
        errors.push(bad_flag("--codings", &text, reason, CODINGS_ACCEPTED.to_owned()));
    }
    let is_named = |coding: &Encoding| text.split(',').any(|name| name.trim() == coding.name());
    Encoding::ALL.into_iter().filter(is_named).collect()
}

fn bad_flag(name: &str, value: &str, reason: String, accepted: String) -> ConfigError {
    ConfigError::BadValue { name: name.to_owned(), value: value.to_owned(), reason, accepted }
}

fn command() -> Command {
    let serve = Command::new("serve").about("Serve the directory; the same as no command");
    let config = Command::new("config").about("Print each effective value and where it comes from").arg(
        Arg::new(EXAMPLE)
            .long(EXAMPLE)
            .action(ArgAction::SetTrue)
            .help("Print an annotated file with every default instead"),
    );
    with_settings(Command::new("pagecast"))
        .about("Serve a directory over HTTP, straight from the page cache")
        .version(env!("CARGO_PKG_VERSION"))
        .after_help("Flags beat the environment, which beats the file, which beats the defaults.")
        .subcommand(with_settings(serve))
        .subcommand(with_settings(config))
        .subcommand(compress_command())
        .subcommand(verify_command())
        .subcommand(warm_command())
        .subcommand(sign_command())
}

fn compress_command() -> Command {
    let check = Arg::new(CHECK)
        .long(CHECK)
        .action(ArgAction::SetTrue)
        .help("Write nothing; list the sidecars that are missing or older than their originals");
    let codings = Arg::new(CODINGS)
        .long(CODINGS)
        .value_name("LIST")
        .value_parser(ValueParser::os_string())
        .action(ArgAction::Append)
        .help("Encodings to write [default: br,zstd,gzip]");
    let command = Command::new("compress")
        .about("Write the compressed sidecars that are missing: name.br, name.zst and name.gz beside name")
        .after_help("Exit code: 0 done, 1 findings (--check) or a file that failed, 2 usage.");
    with_settings_of(command, COMPRESS_SETTINGS).arg(check).arg(codings).arg(threads_flag())
}

fn verify_command() -> Command {
    let json = Arg::new(JSON)
        .long(JSON)
        .action(ArgAction::SetTrue)
        .help("Print one JSON document; a path that is not UTF-8 is percent-encoded");
    let command = Command::new("verify")
        .about("Check a tree: checksums, sidecars, what can't be read, what can't be requested")
        .after_help("Exit code: 0 nothing found, 1 findings, 2 usage.");
    with_settings_of(command, VERIFY_SETTINGS).arg(json).arg(threads_flag())
}

fn warm_command() -> Command {
    let globs = Arg::new(GLOB)
        .value_name("GLOB")
        .value_parser(ValueParser::os_string())
        .action(ArgAction::Append)
        .num_args(1..)
        .help("Paths of the site, such as '/assets/**' or '*.css', as in the rules of the file");
    let admin = Arg::new(ADMIN)
        .long(ADMIN)
        .value_name("ADDRESS")
        .value_parser(ValueParser::os_string())
        .action(ArgAction::Append)
        .help("Admin listener of the server [default: admin_listen of the configuration]");
    Command::new("warm")
        .about("Have a running server read files into memory before they are requested")
        .after_help("Exit code: 0 all were read, 1 some were not or none matches, 2 usage.")
        .arg(globs)
        .arg(config_flag())
        .arg(admin)
}

fn sign_command() -> Command {
    let keys = SETTINGS.iter().filter(|setting| SIGN_SETTINGS.contains(&setting.key)).map(flag_of);
    cli_sign::command().arg(config_flag()).args(keys)
}

fn threads_flag() -> Arg {
    Arg::new(THREADS_FLAG)
        .long(THREADS_FLAG)
        .value_name("COUNT")
        .value_parser(ValueParser::os_string())
        .action(ArgAction::Append)
        .allow_negative_numbers(true)
        .help("Files that are read at once [default: one for each processor]")
}

/// The same arguments for every command that takes the whole configuration.
fn with_settings(command: Command) -> Command {
    with_root(command).args(SETTINGS.iter().map(flag_of))
}

/// For a command that uses few settings. The whole configuration is loaded, from every layer.
fn with_settings_of(command: Command, keys: &[&str]) -> Command {
    with_root(command).args(SETTINGS.iter().filter(|setting| keys.contains(&setting.key)).map(flag_of))
}

fn with_root(command: Command) -> Command {
    let root = Arg::new(ROOT)
        .value_name("ROOT")
        .value_parser(ValueParser::os_string())
        .help("Directory that is served; the same as --root");
    command.arg(root).arg(config_flag())
}

fn config_flag() -> Arg {
    Arg::new(CONFIG)
        .long(CONFIG)
        .value_name("FILE")
        .value_parser(ValueParser::os_string())
        .action(ArgAction::Append)
        .help(format!("TOML file with any of the settings below [env: {CONFIG_VARIABLE}]"))
}

fn flag_of(setting: &'static Setting) -> Arg {
    let names = format!("[default: {}] [env: {}]", setting.default(), setting.variable());
    let lines: Vec<&str> = setting.doc().collect();
    Arg::new(setting.key)
        .long(setting.flag())
        .value_name(setting.metavar)
        .value_parser(ValueParser::os_string())
        .action(ArgAction::Append)
        .allow_negative_numbers(true)
        .help_heading(setting.group)
        .help(format!("{} {names}", lines.first().unwrap_or(&"")))
        .long_help(format!("{}\nAccepted: {}\n{names}", lines.join("\n"), setting.accepted()))
}

const ROOT: &str = "ROOT";
const CONFIG: &str = "config";
const EXAMPLE: &str = "example";
/// All commands.
pub(crate) const COMMANDS: &[&str] = &["serve", "config", "compress", "verify", "warm", "sign", "help"];
const OTHER_FLAGS: &[&str] =
    &["config", "help", "version", "example", "check", "codings", "threads", "json", "admin"];
const CHECK: &str = "check";
const GLOB: &str = "GLOB";
const ADMIN: &str = "admin";
const CODINGS: &str = "codings";
const THREADS_FLAG: &str = "threads";
const JSON: &str = "json";
const COMPRESS_SETTINGS: &[&str] = &["root", "dotfiles", "compress_from"];
const VERIFY_SETTINGS: &[&str] = &["root", "dotfiles", "symlinks", "head_bytes"];
const SIGN_SETTINGS: &[&str] = &["link_keys_file"];
const THREADS: RangeInclusive<Count> = Count::of(1)..=Count::of(1_024);
const ADMIN_ACCEPTED: &str = "IP:PORT, [IPV6]:PORT, localhost:PORT or unix:/PATH";
const CODINGS_ACCEPTED: &str = "a comma list of br, zstd and gzip";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DurationSetting, SignArgs};
    use crate::http::method::ReadMethod;

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
        for (arguments, shows, root, settings) in [
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
            assert_eq!(line.task == Action::ShowConfig, shows, "{arguments:?}");
            assert_eq!(line.root.as_deref(), root.map(OsStr::new), "{arguments:?}");
            assert_eq!(line.settings.len(), settings, "{arguments:?}");
        }
    }

    #[test]
    fn every_fault_of_the_command_line_is_reported_at_once() {
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
    fn what_is_one_too_many_is_reported_and_hides_nothing() {
        let unexpected =
            |given: &str| format!("the argument {given:?} is not expected; see `pagecast --help`");
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
    fn help_names_flag_variable_default_and_bounds_of_every_setting() {
        for arguments in [&["--help"][..], &["serve", "--help"], &["help", "config"]] {
            let Action::Print(text) = read(arguments).0.task else { panic!("no help for {arguments:?}") };
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            for setting in SETTINGS {
                let names = format!("[default: {}] [env: {}]", setting.default(), setting.variable());
                for part in [format!("--{} <{}>", setting.flag(), setting.metavar), names, setting.accepted()]
                {
                    assert!(text.contains(&part), "{part} in {text}");
                }
            }
        }
    }

    #[test]
    fn the_commands_for_trees_know_their_own_flags_and_few_settings() {
        let compress = |check, codings: &[Encoding], threads| {
            Action::Compress(CompressArgs { check, codings: codings.to_vec(), threads })
        };
        let verify = |json, threads| Action::Verify(VerifyArgs { json, threads });
        for (arguments, task, root, settings) in [
            (&["compress"][..], compress(false, &Encoding::ALL, None), None, 0),
            (&["compress", "dir", "--check"], compress(true, &Encoding::ALL, None), Some("dir"), 0),
            (
                &[
                    "compress",
                    "--codings=gzip, br,gzip",
                    "--threads",
                    "2",
                    "--compress-from=1",
                    "--dotfiles=allow",
                ],
                compress(false, &[Encoding::Br, Encoding::Gzip], Some(2)),
                None,
                2,
            ),
            (&["verify", "dir"], verify(false, None), Some("dir"), 0),
            (&["--log=off", "verify", "--json", "--threads=1024"], verify(true, Some(1024)), None, 1),
        ] {
            let (line, errors) = read(arguments);
            assert_eq!(errors, [""; 0], "{arguments:?}");
            assert_eq!(line.task, task, "{arguments:?}");
            assert_eq!(line.root.as_deref(), root.map(OsStr::new), "{arguments:?}");
            assert_eq!(line.settings.len(), settings, "{arguments:?}");
        }
    }

    #[test]
    fn faults_of_the_commands_for_trees_are_reported_at_once() {
        let (_, errors) =
            read(&["compress", "--thread=3", "--threads=0", "--codings=br,lzma", "--listen=:1", "--json"]);
        let another = "is a flag of another command; `pagecast COMMAND --help` lists those of a command";
        assert_eq!(
            errors,
            [
                "--thread is not known; the nearest known name is --threads".to_owned(),
                format!("--listen {another}"),
                format!("--json {another}"),
                "--codings: the value \"br,lzma\" contains the unknown encoding \"lzma\"; accepted: a comma list of br, zstd and gzip".to_owned(),
                "--threads: the value \"0\" is too small; accepted: a count from 1 to 1024".to_owned(),
            ]
        );
        assert_eq!(
            read(&["verify", "--threads"]).1,
            ["--threads has no value; accepted: a count from 1 to 1024"]
        );
    }

    #[test]
    fn files_to_warm_are_globs_and_the_server_may_be_named() {
        let warm = |globs: &[&str], admin: Option<&str>| {
            let globs = PathGlobs::new(globs.iter().map(|&glob| glob.to_owned()).collect()).unwrap();
            Action::Warm(WarmArgs { globs, admin: admin.map(|admin| admin.parse().unwrap()) })
        };
        for (arguments, task) in [
            (&["warm", "*.css"][..], warm(&["*.css"], None)),
            (&["warm", "/a/**", "*.js"], warm(&["/a/**", "*.js"], None)),
            (&["warm", "--admin=unix:/s", "**"], warm(&["**"], Some("unix:/s"))),
            (&["warm", "**", "--admin", "127.0.0.1:9"], warm(&["**"], Some("127.0.0.1:9"))),
        ] {
            let (line, errors) = read(arguments);
            assert_eq!((line.task, errors), (task, vec![]), "{arguments:?}");
        }
        for (arguments, reported) in [
            (&["warm"][..], "GLOB: the value \"\" is empty"),
            (&["warm", "/a/"], "GLOB: the value \"/a/\" has `/a/` in it, which ends with a slash"),
            (&["warm", "a", "--admin=x"], "--admin: the value \"x\" has no port"),
            (&["warm", "a", "--admin"], "--admin has no value; accepted:"),
        ] {
            let errors = read(arguments).1;
            assert!(errors.len() == 1 && errors[0].starts_with(reported), "{arguments:?}: {errors:?}");
        }
    }

    #[test]
    fn a_link_is_signed_for_a_path_and_its_terms() {
        let usual = SignArgs::usual("/a b");
        for (arguments, sign) in [
            (&["sign", "/a b"][..], usual.clone()),
            (
                &[
                    "sign",
                    "--expires",
                    "5m",
                    "--key-id=k2",
                    "/a b",
                    "--client=192.0.2.0/24",
                    "--download=",
                    "--method=HEAD",
                    "--base=https://files.example/",
                ],
                SignArgs {
                    expires: DurationSetting::minutes(5),
                    key_id: Some("k2".to_owned()),
                    client: Some("192.0.2.0/24".to_owned()),
                    download: Some(String::new()),
                    method: ReadMethod::Head,
                    base: "https://files.example".to_owned(),
                    ..usual
                },
            ),
        ] {
            let (line, errors) = read(arguments);
            assert_eq!((line.task, errors), (Action::Sign(sign), vec![]), "{arguments:?}");
        }
        for (arguments, reported) in [
            (&["sign", "a"][..], "PATH: the value \"a\" does not start with a slash; accepted: "),
            (&["sign", "/a", "--expires=0"], "--expires: the value \"0\" is too small; accepted: "),
            (&["sign", "/a", "--expires=soon"], "--expires: the value \"soon\" is not a duration: "),
            (&["sign", "/a", "--expires"], "--expires has no value; accepted: a duration"),
            (&["sign", "/a", "--key-id=a b"], "--key-id: the value \"a b\" is not accepted; accepted: "),
            (
                &["sign", "/a", "--client=192.0.2.1/24"],
                "--client: the value \"192.0.2.1/24\" is not accepted",
            ),
            (&["sign", "/a", "--client=x"], "--client: the value \"x\" is not accepted"),
            (
                &["sign", "/a", "--method=PUT"],
                "--method: the value \"PUT\" is not accepted; accepted: GET or HEAD",
            ),
            (&["sign", "/a", "--base=files.example"], "--base: the value \"files.example\" is not accepted"),
            (&["sign", "/a", "--base=https://a?b"], "--base: the value \"https://a?b\" is not accepted"),
            (&["sign", "/a", "--method=GET", "--method=GET"], "--method is given more than once"),
            (&["sign", "/a", "--listen=:1"], "--listen is a flag of another command"),
            (&["sign", "/a", "--expire=1h"], "--expire is not known; the nearest known name is --expires"),
            (&["--expires=1h"], "--expires is a flag of another command"),
        ] {
            let errors = read(arguments).1;
            assert!(errors.len() == 1 && errors[0].starts_with(reported), "{arguments:?}: {errors:?}");
        }
    }

    #[test]
    fn help_of_the_commands_for_trees_is_short() {
        for command in ["compress", "verify"] {
            let Action::Print(text) = read(&[command, "-h"]).0.task else { panic!("no help for {command}") };
            assert!(text.lines().count() < 40 && text.contains("--threads <COUNT>"), "{text}");
            assert!(text.contains("Exit code"), "{text}");
        }
    }
}
