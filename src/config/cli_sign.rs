//! Arguments of the command `sign`.

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::error::ConfigError;
use super::setting::SettingValue;
use super::task::SignArgs;
use crate::config::duration_setting::DurationSetting;
use crate::http::method::ReadMethod;
use crate::http::signed_url::{is_key_id, network};

/// The command without the arguments that it shares with others.
pub(super) fn command() -> Command {
    let flag = |name: &'static str, value: &'static str, help: &'static str| {
        let arg = Arg::new(name).long(name).value_name(value).help(help);
        arg.value_parser(ValueParser::os_string()).action(ArgAction::Append).allow_negative_numbers(true)
    };
    Command::new("sign")
        .about("Print a signed URL, which gives access to a path of the site")
        .after_help("Exit code: 0 done, 1 unknown key, 2 usage.")
        .arg(
            Arg::new(PATH)
                .value_name(PATH)
                .value_parser(ValueParser::os_string())
                .help("The path from the root of the site on, as in /reports/q1.pdf; not percent-encoded"),
        )
        .arg(flag(EXPIRES, "DURATION", "Time for which the URL is valid [default: 1h]"))
        .arg(flag(KEY_ID, "ID", "Key that signs the URL [default: the only one in the file]"))
        .arg(flag(CLIENT, "NETWORK", "Client that can use the URL: an IP address or a network"))
        .arg(flag(DOWNLOAD, "NAME", "File name for the download; if empty, the name of the file"))
        .arg(flag(METHOD, "METHOD", "GET, which includes HEAD, or HEAD [default: GET]"))
        .arg(flag(BASE, "URL", "Prefix of the URL, as in https://files.example"))
}

/// The arguments. `None` if there are errors, which are reported.
pub(super) fn read(matches: &ArgMatches, errors: &mut Vec<ConfigError>) -> Option<SignArgs> {
    let before = errors.len();
    let mut reader = Reader { matches, errors };
    let path = reader.path();
    let expires = reader.expires();
    let sign = SignArgs {
        path,
        expires,
        key_id: reader.checked(KEY_ID, KEY_ID_ACCEPTED, is_key_id),
        client: reader.checked(CLIENT, CLIENT_ACCEPTED, |text| {
            network(text).is_some_and(|network| network.trunc() == network)
        }),
        download: reader.checked(DOWNLOAD, DOWNLOAD_ACCEPTED, |name| !name.contains(char::is_control)),
        method: reader
            .checked(METHOD, METHOD_ACCEPTED, |text| ReadMethod::named(text.as_bytes()).is_some())
            .and_then(|text| ReadMethod::named(text.as_bytes()))
            .unwrap_or(ReadMethod::Get),
        base: reader
            .checked(BASE, BASE_ACCEPTED, is_base)
            .unwrap_or_default()
            .trim_end_matches('/')
            .to_owned(),
    };
    (errors.len() == before).then_some(sign)
}

/// Accepted values of a flag.
pub(super) fn accepted(flag: &str) -> Option<String> {
    Some(match flag.strip_prefix("--")? {
        EXPIRES => DurationSetting::accepted(&EXPIRES_BOUNDS),
        KEY_ID => KEY_ID_ACCEPTED.to_owned(),
        CLIENT => CLIENT_ACCEPTED.to_owned(),
        DOWNLOAD => DOWNLOAD_ACCEPTED.to_owned(),
        METHOD => METHOD_ACCEPTED.to_owned(),
        BASE => BASE_ACCEPTED.to_owned(),
        _ => return None,
    })
}

struct Reader<'a, 'e> {
    matches: &'a ArgMatches,
    errors: &'e mut Vec<ConfigError>,
}

impl Reader<'_, '_> {
    fn path(&mut self) -> Vec<u8> {
        let path: Vec<u8> =
            self.matches.get_one::<OsString>(PATH).map_or_else(Vec::new, |path| path.as_bytes().to_vec());
        if !path.starts_with(b"/") || path.contains(&0) {
            let shown = String::from_utf8_lossy(&path).into_owned();
            self.tell(PATH, &shown, "does not start with a slash", "the path from the root of the site on");
        }
        path
    }

    fn expires(&mut self) -> DurationSetting {
        let Some(text) = self.once(EXPIRES) else { return DurationSetting::hours(1) };
        match text.parse::<DurationSetting>().and_then(|span| span.check(&EXPIRES_BOUNDS).map(|()| span)) {
            Ok(span) => span,
            Err(reason) => {
                let accepted = DurationSetting::accepted(&EXPIRES_BOUNDS);
                self.tell("--expires", &text, &reason.to_string(), &accepted);
                DurationSetting::ZERO
            }
        }
    }

    fn checked(&mut self, name: &str, accepted: &str, is_sound: impl Fn(&str) -> bool) -> Option<String> {
        let text = self.once(name)?;
        if !is_sound(&text) {
            self.tell(&format!("--{name}"), &text, "is not accepted", accepted);
        }
        Some(text)
    }

    fn once(&mut self, name: &str) -> Option<String> {
        let mut values = self.matches.get_many::<OsString>(name)?;
        let first = values.next()?.to_string_lossy().into_owned();
        if values.next().is_some() {
            self.errors.push(ConfigError::Usage(format!("--{name} is given more than once")));
        }
        Some(first)
    }

    fn tell(&mut self, name: &str, value: &str, reason: &str, accepted: &str) {
        let (name, value) = (name.to_owned(), value.to_owned());
        let (reason, accepted) = (reason.to_owned(), accepted.to_owned());
        self.errors.push(ConfigError::BadValue { name, value, reason, accepted });
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

/// The flags of the command.
pub(super) const FLAGS: &[&str] = &[EXPIRES, KEY_ID, CLIENT, DOWNLOAD, METHOD, BASE];
const PATH: &str = "PATH";
const EXPIRES: &str = "expires";
const KEY_ID: &str = "key-id";
const CLIENT: &str = "client";
const DOWNLOAD: &str = "download";
const METHOD: &str = "method";
const BASE: &str = "base";
const EXPIRES_BOUNDS: RangeInclusive<DurationSetting> =
    DurationSetting::seconds(1)..=DurationSetting::hours(24 * 366);
const KEY_ID_ACCEPTED: &str = "1 to 64 letters, digits, dots, hyphens and underscores";
const CLIENT_ACCEPTED: &str = "an IP address or a network without bits beyond its prefix";
const DOWNLOAD_ACCEPTED: &str = "a name without control characters";
const METHOD_ACCEPTED: &str = "GET or HEAD";
const BASE_ACCEPTED: &str = "http:// or https:// and a host, and what comes before the path";
