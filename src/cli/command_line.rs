//! Command line: reads commands and flags.

use std::ffi::{OsStr, OsString};
use std::iter;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;

use clap::ArgMatches;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::action::{Action, CompressArgs, SignArgs, VerifyArgs, WarmArgs};
use super::command_table::{
    ADMIN, ARGUMENTS, Argument, BASE, CHECK, CLIENT, CODINGS, COMMANDS, CONFIG, DOWNLOAD, EXAMPLE, EXPIRES,
    EXPIRES_BOUNDS, GLOB, JSON, KEY_ID, METHOD, PATH, ROOT, THREADS, THREADS_BOUNDS, program,
};
use crate::config::{
    ConfigError, Count, DurationSetting, RawValue, SETTINGS, Setting, SettingValue, TextLayer, ValueOrigin,
    example, nearest_key,
};
use crate::http::encoding::Encoding;
use crate::http::method::ReadMethod;
use crate::http::path_glob::PathGlobs;
use crate::http::signed_url::{is_key_id, network};

/// The parsed command line.
#[derive(Debug, Default)]
pub struct CommandLine {
    /// The command.
    pub action: Action,
    /// Settings, from flags or as `ROOT`.
    pub layer: TextLayer,
    /// The command that may have been meant by `ROOT`.
    pub similar_command: Option<&'static str>,
    /// Every error in the arguments.
    pub errors: Vec<ConfigError>,
}

/// Parses the arguments without the program's name.
pub fn read_command_line(arguments: impl IntoIterator<Item = OsString>) -> CommandLine {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let mut errors = Vec::new();
    // The parser stops at the first error: report it, remove its arguments and parse the rest.
    loop {
        let line = iter::once(OsString::from("pagecast")).chain(arguments.iter().cloned());
        let error = match program().try_get_matches_from(line) {
            Ok(matches) => return Given::new(&matches, errors).command_line(),
            Err(error) => error,
        };
        if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            let action = Action::Print(error.render().to_string());
            return CommandLine { action, errors, ..CommandLine::default() };
        }
        let (reported, places) = fault(&error, &arguments);
        errors.push(reported);
        if places.is_empty() {
            return CommandLine { errors, ..CommandLine::default() };
        }
        arguments.drain(places);
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
            (unknown_flag(flag), places_of_unknown(flag, arguments))
        }
        ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand if !given.is_empty() => {
            let usage = format!("the argument {given:?} is not expected; see `pagecast --help`");
            let position = arguments.iter().rposition(|argument| begins_with(argument, given));
            (ConfigError::Usage(usage), only(position))
        }
        ErrorKind::InvalidValue if !flag.is_empty() => {
            let usage = format!("{flag} has no value; accepted: {}", accepted_by(flag));
            (ConfigError::Usage(usage), only(position_without_value(flag, arguments)))
        }
        _ => {
            let text = error.render().to_string();
            let first = text.lines().next().unwrap_or_default();
            (ConfigError::Usage(first.trim_start_matches("error: ").to_owned()), only(None))
        }
    }
}

fn unknown_flag(flag: &str) -> ConfigError {
    let others: Vec<&'static str> =
        ["help", "version"].into_iter().chain(flags().map(|flag| flag.name)).collect();
    let nearest = format!("--{}", nearest_key(flag, &others).replace('_', "-"));
    if flag != nearest {
        return ConfigError::Unknown { name: flag.to_owned(), nearest };
    }
    ConfigError::Usage(format!(
        "{flag} is a flag of another command; `pagecast COMMAND --help` lists those of a command"
    ))
}

fn accepted_by(flag: &str) -> String {
    let setting = SETTINGS.iter().find(|setting| setting.flag() == flag.trim_start_matches('-'));
    let other = || flags().find(|other| other.shown() == flag).map(|other| (other.accepted)());
    setting.map(|setting| (setting.accepted)()).or_else(other).unwrap_or_default()
}

fn flags() -> impl Iterator<Item = &'static Argument> {
    ARGUMENTS.iter().copied().filter(|argument| argument.is_flag())
}

fn only(position: Option<usize>) -> Range<usize> {
    position.map_or(0..0, |position| position..position + 1)
}

/// Range of an unknown flag and of its value, which would otherwise be taken for the root.
fn places_of_unknown(flag: &str, arguments: &[OsString]) -> Range<usize> {
    let found = arguments.iter().position(|argument| {
        let after = argument.as_bytes().strip_prefix(flag.as_bytes());
        after.is_some_and(|after| after.is_empty() || after.starts_with(b"="))
    });
    let Some(position) = found else { return only(None) };
    let is_value = |next: &OsString| !begins_with(next, "-") && command_names().all(|name| next != name);
    let has_value = arguments.get(position).is_some_and(|argument| argument == flag)
        && arguments.get(position + 1).is_some_and(is_value);
    position..position + 1 + usize::from(has_value)
}

fn command_names() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(|command| command.name).chain(["help"])
}

/// The command with a name like `root`.
fn similar_command(root: &OsStr) -> Option<&'static str> {
    command_names().find(|command| strsim::osa_distance(command, &root.to_string_lossy()) <= 2)
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

/// The arguments, sorted by their names. A flag can stand before or after the command, but only once.
struct Given<'a> {
    command: Option<&'a str>,
    /// What stands before the command, and what stands behind it.
    levels: Vec<&'a ArgMatches>,
    errors: Vec<ConfigError>,
}

impl<'a> Given<'a> {
    fn new(matches: &'a ArgMatches, errors: Vec<ConfigError>) -> Self {
        let levels = iter::once(matches).chain(matches.subcommand().map(|(_, below)| below)).collect();
        Self { command: matches.subcommand_name(), levels, errors }
    }

    fn command_line(mut self) -> CommandLine {
        let config_file = self.once(&CONFIG).map(|path| (path, ValueOrigin::Flag(CONFIG.shown())));
        let root = self.once(&ROOT);
        let similar_command = root.as_deref().and_then(similar_command);
        let mut settings = Vec::new();
        for setting in SETTINGS {
            let flag = format!("--{}", setting.flag());
            if let Some(value) = self.once_by(setting.key, &flag) {
                settings.push((setting, value, ValueOrigin::Flag(flag)));
            }
        }
        if let (Some(value), Some(setting)) = (root, Setting::by_key("root")) {
            if settings.iter().any(|(other, ..)| other.key == setting.key) {
                let both = "ROOT and --root are both given: give one of them".to_owned();
                self.errors.push(ConfigError::Usage(both));
            }
            settings.push((setting, value, ValueOrigin::Argument));
        }
        let action = self.action().unwrap_or_default();
        CommandLine {
            action,
            layer: TextLayer { config_file, settings },
            similar_command,
            errors: self.errors,
        }
    }

    /// The command with its arguments. `None` if they are invalid, which is reported.
    fn action(&mut self) -> Option<Action> {
        Some(match self.command.unwrap_or_default() {
            "config" if self.has(&EXAMPLE) => Action::Print(example()),
            "config" => Action::ShowConfig,
            "compress" => Action::Compress(CompressArgs {
                encodings: self.read(&CODINGS, encodings).unwrap_or_else(|| Encoding::ALL.to_vec()),
                threads: self.threads(),
                check: self.has(&CHECK),
            }),
            "verify" => Action::Verify(VerifyArgs { threads: self.threads(), json: self.has(&JSON) }),
            "warm" => {
                let texts: Vec<String> =
                    self.all(GLOB.name).map(|glob| glob.to_string_lossy().into_owned()).collect();
                let value = texts.join(", ");
                let globs = self.accept(&GLOB, &value, PathGlobs::new(texts))?;
                Action::Warm(WarmArgs { globs, admin: self.value(&ADMIN, &()) })
            }
            "sign" => Action::Sign(self.sign()?),
            _ => Action::Serve,
        })
    }

    fn threads(&mut self) -> Option<usize> {
        self.value(&THREADS, &THREADS_BOUNDS).map(Count::as_usize)
    }

    fn sign(&mut self) -> Option<SignArgs> {
        let before = self.errors.len();
        let path = self.once(&PATH).unwrap_or_default();
        let is_path = path.as_bytes().starts_with(b"/") && !path.as_bytes().contains(&0);
        let checked = if is_path { Ok(()) } else { Err("does not start with a slash".to_owned()) };
        self.accept(&PATH, &path.to_string_lossy(), checked);
        let is_client = |text: &str| network(text).is_some_and(|network| network.trunc() == network);
        let arguments = SignArgs {
            path: path.into_encoded_bytes(),
            expires: self.value(&EXPIRES, &EXPIRES_BOUNDS).unwrap_or(DurationSetting::hours(1)),
            key_id: self.checked(&KEY_ID, is_key_id),
            client: self.checked(&CLIENT, is_client),
            download: self.checked(&DOWNLOAD, |name| !name.contains(char::is_control)),
            method: self
                .accepted(&METHOD, |text| ReadMethod::named(text.as_bytes()))
                .unwrap_or(ReadMethod::Get),
            base: self.checked(&BASE, is_base).unwrap_or_default().trim_end_matches('/').to_owned(),
        };
        (self.errors.len() == before).then_some(arguments)
    }

    fn checked(&mut self, flag: &Argument, is_accepted: impl Fn(&str) -> bool) -> Option<String> {
        self.accepted(flag, |text| is_accepted(text).then(|| text.to_owned()))
    }

    fn accepted<T>(&mut self, flag: &Argument, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        self.read(flag, |text| parse(text).ok_or_else(|| "is not accepted".to_owned()))
    }

    fn value<T: SettingValue>(&mut self, flag: &Argument, bounds: &T::Bounds) -> Option<T> {
        self.read(flag, |text| RawValue::Text(text).read(bounds))
    }

    /// Reads the value of a flag, if it is given.
    fn read<T>(&mut self, flag: &Argument, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let value = self.once(flag)?;
        let text = value.to_string_lossy();
        self.accept(flag, &text, parse(&text))
    }

    /// The value that was read, or `None` after the reason is reported.
    fn accept<T>(&mut self, argument: &Argument, value: &str, read: Result<T, String>) -> Option<T> {
        let refused = |reason| {
            let (name, value, accepted) = (argument.shown(), value.to_owned(), (argument.accepted)());
            self.errors.push(ConfigError::BadValue { name, value, reason, accepted });
        };
        read.map_err(refused).ok()
    }

    fn has(&self, switch: &Argument) -> bool {
        self.levels.iter().any(|level| level.try_get_one(switch.name).is_ok_and(|set| set == Some(&true)))
    }

    fn once(&mut self, argument: &Argument) -> Option<OsString> {
        self.once_by(argument.name, &argument.shown())
    }

    fn once_by(&mut self, id: &str, shown: &str) -> Option<OsString> {
        let values: Vec<&OsString> = self.all(id).collect();
        if values.len() > 1 {
            self.errors.push(ConfigError::Usage(format!("{shown} is given more than once")));
        }
        values.first().copied().cloned()
    }

    fn all(&self, id: &str) -> impl Iterator<Item = &'a OsString> {
        self.levels.iter().filter_map(|level| level.try_get_many(id).ok().flatten()).flatten()
    }
}

fn encodings(text: &str) -> Result<Vec<Encoding>, String> {
    let names: Vec<&str> = text.split(',').map(str::trim).collect();
    let is_known = |name: &str| Encoding::ALL.iter().any(|encoding| encoding.name() == name);
    match names.iter().find(|name| !is_known(name)) {
        Some(&"") => Err("has an empty item in its list".to_owned()),
        Some(other) => Err(format!("contains the unknown encoding {other:?}")),
        None => Ok(Encoding::ALL.into_iter().filter(|encoding| names.contains(&encoding.name())).collect()),
    }
}

fn is_base(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| {
        !rest.is_empty()
            && !rest.starts_with('/')
            && rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#".contains(&byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_sound() {
        program().debug_assert();
    }

    fn read(arguments: &[&str]) -> (CommandLine, Vec<String>) {
        let line = read_command_line(arguments.iter().map(Into::into));
        let errors = line.errors.iter().map(ToString::to_string).collect();
        (line, errors)
    }

    fn check_settings(line: &CommandLine, root: Option<&str>, flags: usize) {
        let is_root = |origin: &ValueOrigin| *origin == ValueOrigin::Argument;
        let given = line.layer.settings.iter().find(|(.., origin)| is_root(origin));
        assert_eq!(given.map(|(_, value, _)| &**value), root.map(OsStr::new), "{line:?}");
        assert_eq!(
            line.layer.settings.iter().filter(|(.., origin)| !is_root(origin)).count(),
            flags,
            "{line:?}"
        );
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
            assert_eq!(line.action == Action::ShowConfig, shows, "{arguments:?}");
            check_settings(&line, root, settings);
        }
    }

    #[test]
    fn help_and_version_are_printed_and_need_no_configuration() {
        for arguments in [&["--help"][..], &["--version"], &["help"]] {
            let (line, errors) = read(arguments);
            assert_eq!(errors, [""; 0], "{arguments:?}");
            assert!(matches!(line.action, Action::Print(_)), "{arguments:?}");
        }
    }

    #[test]
    fn a_root_with_a_name_like_a_command_may_be_meant_for_it() {
        for (arguments, command) in [
            (&["confg"][..], Some("config")),
            (&["serve", "sgin"], Some("sign")),
            (&["a-file"], None),
            (&["--root=confg"], None),
        ] {
            assert_eq!(read(arguments).0.similar_command, command, "{arguments:?}");
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
            let Action::Print(text) = read(arguments).0.action else { panic!("no help for {arguments:?}") };
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            for setting in SETTINGS {
                let names = format!("[default: {}] [env: {}]", setting.default(), setting.variable());
                for part in
                    [format!("--{} <{}>", setting.flag(), setting.metavar), names, (setting.accepted)()]
                {
                    assert!(text.contains(&part), "{part} in {text}");
                }
            }
        }
    }

    #[test]
    fn the_commands_for_trees_know_their_own_flags_and_few_settings() {
        let compress = |check, encodings: &[Encoding], threads| {
            Action::Compress(CompressArgs { check, encodings: encodings.to_vec(), threads })
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
            assert_eq!(line.action, task, "{arguments:?}");
            check_settings(&line, root, settings);
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
            assert_eq!((line.action, errors), (task, vec![]), "{arguments:?}");
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
            assert_eq!((line.action, errors), (Action::Sign(sign), vec![]), "{arguments:?}");
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
            let Action::Print(text) = read(&[command, "-h"]).0.action else {
                panic!("no help for {command}")
            };
            assert!(text.lines().count() < 40 && text.contains("--threads <COUNT>"), "{text}");
            assert!(text.contains("Exit code"), "{text}");
        }
    }
}
