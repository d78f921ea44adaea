//! The table of all commands, with their arguments.

use std::ops::RangeInclusive;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, Command};

use ArgumentKind::{Positional, Positionals, Switch, Value};

use crate::config::{Count, DurationSetting, SETTINGS, Setting, SettingValue};

/// One row of the table: a command.
pub(super) struct CommandRow {
    pub(super) name: &'static str,
    about: &'static str,
    after_help: Option<&'static str>,
    arguments: &'static [&'static Argument],
    /// Keys of the settings that it has flags for. `None`: all.
    settings: Option<&'static [&'static str]>,
}

/// An argument that sets no setting.
pub(super) struct Argument {
    /// The name of the flag without its dashes, or the placeholder of a positional argument.
    pub(super) name: &'static str,
    kind: ArgumentKind,
    help: &'static str,
    /// Describes the accepted values.
    pub(super) accepted: fn() -> String,
}

enum ArgumentKind {
    /// A flag with a value, which has this placeholder in `--help`.
    Value(&'static str),
    /// A flag without a value.
    Switch,
    Positional,
    /// A positional argument that can be repeated.
    Positionals,
}

impl Argument {
    /// The name as it is written on the command line.
    pub(super) fn shown(&self) -> String {
        if self.is_flag() { format!("--{}", self.name) } else { self.name.to_owned() }
    }

    pub(super) fn is_flag(&self) -> bool {
        matches!(self.kind, Value(_) | Switch)
    }

    fn to_clap(&self) -> Arg {
        let arg = Arg::new(self.name).help(self.help.trim());
        match self.kind {
            Value(placeholder) => flag_with_value(arg.long(self.name).value_name(placeholder)),
            Switch => arg.long(self.name).action(ArgAction::SetTrue),
            Positional => arg.value_parser(ValueParser::os_string()),
            Positionals => arg.value_parser(ValueParser::os_string()).action(ArgAction::Append).num_args(1..),
        }
    }
}

/// Values are read as they are, so that all errors in them are found together.
fn flag_with_value(arg: Arg) -> Arg {
    arg.value_parser(ValueParser::os_string()).action(ArgAction::Append).allow_negative_numbers(true)
}

/// The program with all its commands.
pub(super) fn program() -> Command {
    PROGRAM.to_clap().version(env!("CARGO_PKG_VERSION")).subcommands(COMMANDS.iter().map(CommandRow::to_clap))
}

impl CommandRow {
    fn to_clap(&self) -> Command {
        let settings =
            SETTINGS.iter().filter(|setting| self.settings.is_none_or(|keys| keys.contains(&setting.key)));
        Command::new(self.name)
            .about(self.about)
            .after_help(self.after_help)
            .args(self.arguments.iter().map(|argument| argument.to_clap()))
            .args(settings.map(flag_of))
    }
}

fn flag_of(setting: &'static Setting) -> Arg {
    let names = format!("[default: {}] [env: {}]", setting.default(), setting.variable());
    let lines: Vec<&str> = setting.doc().collect();
    flag_with_value(Arg::new(setting.key).long(setting.flag()).value_name(setting.metavar))
        .help_heading(setting.group)
        .help(format!("{} {names}", lines.first().unwrap_or(&"")))
        .long_help(format!("{}\nAccepted: {}\n{names}", lines.join("\n"), (setting.accepted)()))
}

/// What the program does without a command.
const PROGRAM: CommandRow = CommandRow {
    name: "pagecast",
    about: "Serve a directory over HTTP, straight from the page cache",
    after_help: Some("Flags beat the environment, which beats the file, which beats the defaults."),
    arguments: &[&ROOT, &CONFIG],
    settings: None,
};

pub(super) const COMMANDS: &[CommandRow] = &[
    CommandRow {
        name: "serve",
        about: "Serve the directory; the same as no command",
        after_help: None,
        arguments: &[&ROOT, &CONFIG],
        settings: None,
    },
    CommandRow {
        name: "config",
        about: "Print each effective value and where it comes from",
        after_help: None,
        arguments: &[&EXAMPLE, &ROOT, &CONFIG],
        settings: None,
    },
    CommandRow {
        name: "compress",
        about: "Write the compressed sidecars that are missing: name.br, name.zst and name.gz beside name",
        after_help: Some("Exit code: 0 done, 1 findings (--check) or a file that failed, 2 usage."),
        arguments: &[&ROOT, &CONFIG, &CHECK, &CODINGS, &THREADS],
        settings: Some(&["root", "dotfiles", "compress_from"]),
    },
    CommandRow {
        name: "verify",
        about: "Check a tree: checksums, sidecars, what can't be read, what can't be requested",
        after_help: Some("Exit code: 0 nothing found, 1 findings, 2 usage."),
        arguments: &[&ROOT, &CONFIG, &JSON, &THREADS],
        settings: Some(&["root", "dotfiles", "symlinks", "head_bytes"]),
    },
    CommandRow {
        name: "warm",
        about: "Have a running server read files into memory before they are requested",
        after_help: Some("Exit code: 0 all were read, 1 some were not or none matches, 2 usage."),
        arguments: &[&GLOB, &CONFIG, &ADMIN],
        settings: Some(&[]),
    },
    CommandRow {
        name: "sign",
        about: "Print a signed URL, which gives access to a path of the site",
        after_help: Some("Exit code: 0 done, 1 unknown key, 2 usage."),
        arguments: &[&PATH, &EXPIRES, &KEY_ID, &CLIENT, &DOWNLOAD, &METHOD, &BASE, &CONFIG],
        settings: Some(&["link_keys_file"]),
    },
];

/// Declares arguments: name, kind and accepted values. The doc comment is the help.
macro_rules! arguments {
    ($(#[doc = $help:literal] $constant:ident: $name:literal, $kind:expr, $accepted:expr;)+) => {
        $(
            #[doc = $help]
            pub(super) const $constant: Argument =
                Argument { name: $name, kind: $kind, help: $help, accepted: || String::from($accepted) };
        )+

        /// All arguments that set no setting.
        pub(super) const ARGUMENTS: &[&Argument] = &[$(&$constant),+];
    };
}

arguments! {
    /// Directory that is served; the same as --root
    ROOT: "ROOT", Positional, "the path of a directory";

    /// TOML file with any of the settings below [env: PAGECAST_CONFIG]
    CONFIG: "config", Value("FILE"), "the path of a file";

    /// Print an annotated file with every default instead
    EXAMPLE: "example", Switch, "no value";

    /// Write nothing; list the sidecars that are missing or older than their originals
    CHECK: "check", Switch, "no value";

    /// Encodings to write [default: br,zstd,gzip]
    CODINGS: "codings", Value("LIST"), "a comma list of br, zstd and gzip";

    /// Files that are read at once [default: one for each processor]
    THREADS: "threads", Value("COUNT"), Count::accepted(&THREADS_BOUNDS);

    /// Print one JSON document; a path that is not UTF-8 is percent-encoded
    JSON: "json", Switch, "no value";

    /// Paths of the site, such as '/assets/**' or '*.css', as in the rules of the file
    GLOB: "GLOB", Positionals, "one or more globs over paths, such as /assets/** or *.css";

    /// Admin listener of the server [default: admin_listen of the configuration]
    ADMIN: "admin", Value("ADDRESS"), "IP:PORT, [IPV6]:PORT, localhost:PORT or unix:/PATH";

    /// The path from the root of the site on, as in /reports/q1.pdf; not percent-encoded
    PATH: "PATH", Positional, "the path from the root of the site on";

    /// Time for which the URL is valid [default: 1h]
    EXPIRES: "expires", Value("DURATION"), DurationSetting::accepted(&EXPIRES_BOUNDS);

    /// Key that signs the URL [default: the only one in the file]
    KEY_ID: "key-id", Value("ID"), "1 to 64 letters, digits, dots, hyphens and underscores";

    /// Client that can use the URL: an IP address or a network
    CLIENT: "client", Value("NETWORK"), "an IP address or a network without bits beyond its prefix";

    /// File name for the download; if empty, the name of the file
    DOWNLOAD: "download", Value("NAME"), "a name without control characters";

    /// GET, which includes HEAD, or HEAD [default: GET]
    METHOD: "method", Value("METHOD"), "GET or HEAD";

    /// Prefix of the URL, as in https://files.example
    BASE: "base", Value("URL"), "http:// or https:// and a host, and what comes before the path";
}

pub(super) const THREADS_BOUNDS: RangeInclusive<Count> = Count::of(1)..=Count::of(1_024);
pub(super) const EXPIRES_BOUNDS: RangeInclusive<DurationSetting> =
    DurationSetting::seconds(1)..=DurationSetting::hours(24 * 366);
