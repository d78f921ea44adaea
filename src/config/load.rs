//! Loads the configuration: flags over environment over file over defaults.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{io, mem};

use super::conflicts::{CHECKS, ConflictCheck, SERVING_CHECKS, conflicts};
use super::error::name_at;
use super::file::{TomlEntry, TomlSource, parse};
use super::inputs::read_environment;
use super::nearest::nearest_key;
use super::rule_reader::RULE;
use super::rule_table::{ReadRule, read_rules};
use super::secret::{HIDDEN, SECRET};
use super::setting::RawValue;
use super::settings_table::variable_of;
use super::toggle::AUTO;
use super::{
    Config, ConfigError, ConfigErrors, ConfigUse, CredentialFiles, FileReader, ProcessInputs, ResolvedLimits,
    SETTINGS, Setting, TextLayer, Toggle, ValueOrigin, ValueOrigins, limits,
};
use crate::http::redirects::{REDIRECTS_FILE, Redirects};
use crate::sys::system_facts::SystemFacts;

/// The configuration in effect.
#[derive(Debug, Clone, Default)]
pub struct LoadedConfig {
    /// The effective values.
    pub config: Config,
    /// Origin of each value.
    pub origins: ValueOrigins,
    /// Limits derived for this system; the defaults if the command does not serve.
    pub limits: ResolvedLimits,
    /// Redirects in the root's `_redirects` file.
    pub redirects: Arc<Redirects>,
    /// Contents of the credential files, for commands that serve or sign.
    pub access: CredentialFiles,
    /// Path of the configuration file, if there is one.
    pub file: Option<PathBuf>,
}

/// Loads every setting: flags override variables, then the file, then the defaults. Files are read anew, so that a reload finds
/// what has changed in them.
///
/// # Errors
/// All errors: `errors` of the command line, and those of all layers, overridden values included.
pub fn load(
    inputs: &ProcessInputs,
    errors: Vec<ConfigError>,
    disk: &dyn FileReader,
) -> Result<LoadedConfig, ConfigErrors> {
    let ProcessInputs { command_line, config_use, facts, .. } = inputs;
    let is_line_sound = errors.is_empty();
    let mut draft = ConfigDraft { errors, ..ConfigDraft::default() };
    let environment = read_environment(inputs.variables.iter().cloned(), &mut draft.errors);
    draft.loaded.file = draft.config_file([command_line, &environment]);
    draft.read_file(disk);
    for (setting, value, origin) in environment.settings.iter().chain(&command_line.settings) {
        draft.read_text(setting, value, origin.clone());
    }
    draft.take_rules();
    if *config_use == ConfigUse::Serving {
        draft.validate_auth();
        draft.validate_listeners(facts);
    }
    draft.check_together(CHECKS);
    if matches!(config_use, ConfigUse::Serving | ConfigUse::Tree) {
        // After an error of the command line it is not known whether the default root was meant.
        if is_line_sound || *draft.loaded.origins.of("root") != ValueOrigin::Default {
            draft.read_root(inputs.similar_command, disk);
        }
    }
    if *config_use == ConfigUse::Serving {
        draft.check_together(SERVING_CHECKS);
        draft.resolve_limits(facts);
    }
    draft.read_access(*config_use, disk);
    ConfigErrors::none_or(draft.errors)?;
    Ok(draft.loaded)
}

/// Configuration while it is loaded.
#[derive(Default)]
struct ConfigDraft {
    loaded: LoadedConfig,
    /// Keys of settings whose effective value is invalid.
    refused: Vec<&'static str>,
    rules: Vec<ReadRule>,
    errors: Vec<ConfigError>,
}

impl ConfigDraft {
    /// Path of the configuration file, from the flag or else the variable.
    fn config_file(&mut self, layers: [&TextLayer; 2]) -> Option<PathBuf> {
        let (path, origin) = layers.iter().find_map(|layer| layer.config_file.as_ref())?;
        if path.is_empty() {
            let accepted = "the path of a TOML file".to_owned();
            let name = name_at(origin, "config");
            self.errors.push(ConfigError::bad_value_at(name, "", "is empty", accepted));
            return None;
        }
        Some(path.into())
    }

    fn read_file(&mut self, disk: &dyn FileReader) {
        let Some(path) = self.loaded.file.clone() else { return };
        let text = disk.read(&path).and_then(|bytes| {
            String::from_utf8(bytes)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
        });
        let text = match text {
            Ok(text) => text,
            Err(error) => {
                let reason = format!("the configuration cannot be read: {error}");
                return self.errors.push(ConfigError::File { path, line: None, reason });
            }
        };
        let (source, entries) = parse(&path, &text);
        for (line, reason) in &source.faults {
            let (path, line, reason) = (path.clone(), Some(*line), reason.clone());
            self.errors.push(ConfigError::File { path, line, reason });
        }
        for entry in entries {
            self.read_entry(&source, entry);
        }
    }

    fn read_entry<'a>(&mut self, source: &TomlSource<'a>, entry: TomlEntry<'a>) {
        let origin = ValueOrigin::File { path: source.path.into(), line: entry.line };
        if entry.key == RULE {
            self.rules = read_rules(entry, source, &mut self.errors);
            return;
        }
        match Setting::by_key(&entry.key) {
            Some(setting) => self.set(setting, RawValue::Toml(entry.value), entry.written, origin),
            None => self.errors.push(ConfigError::Unknown {
                name: name_at(&origin, &entry.key),
                nearest: nearest_key(&entry.key, &[RULE]).to_owned(),
            }),
        }
    }

    fn read_text(&mut self, setting: &'static Setting, value: &OsStr, origin: ValueOrigin) {
        match value.to_str() {
            Some(text) => self.set(setting, RawValue::Text(text), text, origin),
            None => self.refuse(setting, &origin, &value.to_string_lossy(), "is not UTF-8"),
        }
    }

    fn set(&mut self, setting: &'static Setting, raw: RawValue<'_>, written: &str, origin: ValueOrigin) {
        match (setting.read)(&mut self.loaded.config, raw) {
            Ok(()) => {
                self.refused.retain(|key| *key != setting.key);
                self.loaded.origins.set(setting.key, origin);
            }
            Err(reason) => self.refuse(setting, &origin, written, &reason),
        }
    }

    fn refuse(&mut self, setting: &'static Setting, origin: &ValueOrigin, value: &str, reason: &str) {
        let is_secret = setting.metavar == SECRET;
        let (value, reason) = match is_secret {
            // Messages of serde quote the value.
            true if reason.contains("invalid") => (HIDDEN, "is not accepted"),
            true => (HIDDEN, reason),
            false => (value, reason),
        };
        let name = name_at(origin, setting.key);
        self.errors.push(ConfigError::bad_value_at(name, value, reason, (setting.accepted)()));
        self.refused.push(setting.key);
    }

    /// Completes the rules with values of settings.
    fn take_rules(&mut self) {
        for ReadRule { origin, mut rule, max_age_is_open } in mem::take(&mut self.rules) {
            if let Some(Toggle::Given(policy)) = rule.effects.cors.as_mut().filter(|_| max_age_is_open) {
                Arc::make_mut(policy).max_age = self.loaded.config.security.cors_max_age.get();
            }
            self.loaded.origins.rules.push(origin);
            self.loaded.config.rules.push(rule);
        }
    }

    /// Refuses rules with an authentication method whose file is not configured.
    fn validate_auth(&mut self) {
        let access = &self.loaded.config.access;
        for (rule, origin) in self.loaded.config.rules.iter().zip(&self.loaded.origins.rules) {
            let Some(methods) = rule.effects.access.as_ref().map(|access| access.methods) else { continue };
            for (is_wanted, method, key, file) in [
                (methods.link, "link", "link_keys_file", &access.link_keys_file),
                (methods.bearer, "bearer", "tokens_file", &access.tokens_file),
                (methods.basic, "basic", "passwords_file", &access.passwords_file),
            ] {
                if is_wanted && file.given().is_none() && self.is_sound(&[key]) {
                    self.errors.push(ConfigError::Conflict(format!(
                        "{}: the method {method} requires {}, which is off: set the file, or remove {method}",
                        name_at(origin, "rule.access"),
                        variable_of(key)
                    )));
                }
            }
        }
    }

    /// Checks that there is a listener for traffic.
    fn validate_listeners(&mut self, facts: &SystemFacts) {
        let config = &self.loaded.config;
        let is_shut = config.plain_http_addresses().is_empty() && config.tls_addresses().is_empty();
        if is_shut && facts.inherited == 0 && self.is_sound(&["listen", "tls_listen"]) {
            self.errors.push(ConfigError::Conflict(NO_LISTENER.to_owned()));
        }
    }

    /// Makes those of the checks that read no invalid value: errors about its default would mislead.
    fn check_together(&mut self, checks: &[ConflictCheck]) {
        let found = conflicts(&self.loaded.config, checks, |keys| self.is_sound(keys));
        self.errors.extend(found);
    }

    fn is_sound(&self, keys: &[&str]) -> bool {
        self.refused.iter().all(|key| !keys.contains(key))
    }

    /// Checks the document root and reads its redirects.
    fn read_root(&mut self, similar_command: Option<&str>, disk: &dyn FileReader) {
        let Some(setting) = Setting::by_key("root").filter(|_| self.is_sound(&["root"])) else { return };
        let root = self.loaded.config.site.root.clone();
        let reason = match disk.is_directory(root.as_path()) {
            Ok(true) => {
                let redirects = read_redirects(root.as_path(), disk);
                self.loaded.redirects = self.value_of(redirects);
                return;
            }
            Ok(false) => "is not a directory".to_owned(),
            Err(error) => format!("cannot be used: {error}"),
        };
        let origin = self.loaded.origins.of(setting.key).clone();
        let reason = match similar_command.filter(|_| origin == ValueOrigin::Argument) {
            Some(command) => format!("{reason} (was the command `{command}` meant?)"),
            None => reason,
        };
        self.refuse(setting, &origin, &root.to_string(), &reason);
    }

    /// Derives the limits, unless a value that they depend on is invalid.
    fn resolve_limits(&mut self, facts: &SystemFacts) {
        if !self.is_sound(limits::INPUTS) {
            return;
        }
        let resolved = limits::resolve_limits(&self.loaded.config, facts).map_err(|error| vec![error]);
        self.loaded.limits = self.value_of(resolved);
        let LoadedConfig { config, origins, .. } = &mut self.loaded;
        for setting in SETTINGS.iter().filter(|setting| setting.default() == AUTO) {
            if (setting.value)(config) == AUTO {
                origins.set(setting.key, ValueOrigin::Derived);
            }
        }
    }

    /// Reads the credential files that the command uses.
    fn read_access(&mut self, config_use: ConfigUse, disk: &dyn FileReader) {
        let is_wanted = matches!(config_use, ConfigUse::Serving | ConfigUse::LinkKeys);
        if is_wanted && self.is_sound(&["link_keys_file", "tokens_file", "passwords_file"]) {
            let access = CredentialFiles::read(&self.loaded.config, config_use, disk);
            self.loaded.access = self.value_of(access);
        }
    }

    /// The value that was read, or a default after its errors are reported.
    fn value_of<T: Default>(&mut self, read: Result<T, Vec<ConfigError>>) -> T {
        read.unwrap_or_else(|errors| {
            self.errors.extend(errors);
            T::default()
        })
    }
}

const NO_LISTENER: &str =
    "PAGECAST_LISTEN=off and PAGECAST_TLS_LISTEN=off leave nothing to listen on: give one of them";

/// Reads the `_redirects` file of a root. Empty if there is none. Blocks.
///
/// # Errors
/// Every invalid line, or why the file cannot be read.
pub(crate) fn read_redirects(root: &Path, disk: &dyn FileReader) -> Result<Arc<Redirects>, Vec<ConfigError>> {
    let path = root.join(REDIRECTS_FILE);
    let refusal = |line, reason| ConfigError::File { path: path.clone(), line, reason };
    let text = match disk.read_regular(&path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Arc::default());
        }
        Err(error) => return Err(vec![refusal(None, format!("the redirects cannot be read: {error}"))]),
    };
    Redirects::parse(&text)
        .map(Arc::new)
        .map_err(|lines| lines.into_iter().map(|line| refusal(Some(line.number), line.to_string())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SecretFile;
    use crate::config::{Auto, ByteCount, Count, DurationSetting, OnOff};
    use crate::sys::memory::{MemoryAmount, MemorySource};

    /// Files by name; everything but `missing` is a directory.
    struct ConfigLayers(&'static [(&'static str, &'static str)]);

    impl FileReader for ConfigLayers {
        fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
            let found = self.0.iter().find(|(name, _)| path == Path::new(name));
            found.map(|(_, text)| text.as_bytes().to_vec()).ok_or_else(|| io::ErrorKind::NotFound.into())
        }

        fn read_regular(&self, path: &Path) -> io::Result<Vec<u8>> {
            self.read(path)
        }

        fn read_private(&self, path: &Path) -> io::Result<SecretFile> {
            self.read(path).map(|bytes| SecretFile { bytes, is_exposed: false })
        }

        fn is_within(&self, _: &Path, _: &Path) -> bool {
            false
        }

        fn is_directory(&self, path: &Path) -> io::Result<bool> {
            match path.to_str() {
                Some("missing" | "confg") => Err(io::ErrorKind::NotFound.into()),
                Some("a-file") => Ok(false),
                _ => Ok(true),
            }
        }
    }

    const FACTS: SystemFacts = SystemFacts {
        open_files: 1_024,
        max_map_count: 65_530,
        memory: MemoryAmount { bytes: 4 << 30, source: MemorySource::Machine },
        cpus: 2,
        inherited: 0,
    };

    fn try_load(
        arguments: &[&str],
        variables: &[(&str, &str)],
        file: &'static str,
    ) -> Result<LoadedConfig, ConfigErrors> {
        let shelf: &'static [(&str, &str)] = Box::leak(Box::new([("c.toml", file)]));
        load(&inputs(arguments, variables), Vec::new(), &ConfigLayers(shelf))
    }

    /// Inputs with `arguments` of the form `--flag=value` or `ROOT`.
    fn inputs(arguments: &[&str], variables: &[(&str, &str)]) -> ProcessInputs {
        let mut command_line = TextLayer::default();
        for argument in arguments {
            let flag = argument.split_once('=').unwrap_or(("--root", argument));
            let origin = match argument.starts_with("--") {
                true => ValueOrigin::Flag(flag.0.to_owned()),
                false => ValueOrigin::Argument,
            };
            match SETTINGS.iter().find(|setting| format!("--{}", setting.flag()) == flag.0) {
                Some(setting) => command_line.settings.push((setting, flag.1.into(), origin)),
                None => command_line.config_file = Some((flag.1.into(), origin)),
            }
        }
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        ProcessInputs { command_line, variables, facts: FACTS, ..ProcessInputs::default() }
    }

    fn reported(arguments: &[&str], variables: &[(&str, &str)], file: &'static str) -> Vec<String> {
        texts(try_load(arguments, variables, file))
    }

    fn texts(loaded: Result<LoadedConfig, ConfigErrors>) -> Vec<String> {
        let errors = loaded.expect_err("it must be refused");
        errors.as_slice().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn flags_beat_variables_beat_the_file_beat_the_defaults() {
        let file = "\nidle_timeout = '1s'\nhead_timeout = '1s'\nstall_timeout = '1s'";
        let variables = &[
            ("PAGECAST_CONFIG", "c.toml"),
            ("PAGECAST_HEAD_TIMEOUT", "2s"),
            ("PAGECAST_STALL_TIMEOUT", "2s"),
        ];
        let loaded = try_load(&["--stall-timeout=3s"], variables, file).expect("all is right");
        let (config, origins) = (&loaded.config, &loaded.origins);
        for (key, value, expected, origin) in [
            ("linger_timeout", config.connections.linger_timeout, 2, "default"),
            ("idle_timeout", config.connections.idle_timeout, 1, "c.toml:2"),
            ("head_timeout", config.connections.head_timeout, 2, "environment PAGECAST_HEAD_TIMEOUT"),
            ("stall_timeout", config.connections.stall_timeout, 3, "flag --stall-timeout"),
        ] {
            assert_eq!(value, DurationSetting::seconds(expected), "{key}");
            assert_eq!(origins.of(key).to_string(), origin, "{key}");
        }
    }

    #[test]
    fn a_flag_for_the_file_beats_the_variable() {
        let loaded = try_load(&["--config=c.toml"], &[("PAGECAST_CONFIG", "absent")], "names = 99");
        assert_eq!(loaded.expect("the variable is overruled").config.caches.names, Count::of(99));
    }

    #[test]
    fn toml_values_have_their_natural_types() {
        let file = "watch = false\nworkers = 4\nbody_bytes = 100\ncache_bytes = '1GiB'\ndrain_delay = 0\n\
                    listen = ['127.0.0.1:1', 'unix:/s']\nhandles = 'auto'\nadmin_listen = 'off'";
        let config = try_load(&["--config=c.toml"], &[], file).expect("all is right").config;
        assert_eq!(config.caches.watch, OnOff::Off);
        assert_eq!(config.listening.workers, Auto::Given(Count::of(4)));
        assert_eq!(config.requests.body_bytes, ByteCount::bytes(100));
        assert_eq!(config.caches.cache_bytes, Auto::Given(ByteCount::gib(1)));
        assert_eq!(config.stopping.drain_delay, DurationSetting::ZERO);
        assert_eq!(config.listening.listen.to_string(), "127.0.0.1:1,unix:/s");
        assert_eq!(config.listening.admin_listen, Toggle::Off);
    }

    #[test]
    fn all_errors_of_all_layers_are_reported_at_once() {
        let file = "head_timout = '1s'\nidle_timeout = 10\nroot = 5\nwatch = 1.5\n\n[table]\nx = 1\n";
        let variables = &[
            ("PAGECAST_CONFIG", "c.toml"),
            ("PAGECAST_WORKERS", ""),
            ("PAGECAST_WRKERS", "1"),
            ("PAGECAST_IDLE_TIMEOUT", "5"),
        ];
        let of_flags = ConfigError::Unknown { name: "--lissen".to_owned(), nearest: "--listen".to_owned() };
        let shelf = ConfigLayers(Box::leak(Box::new([("c.toml", file)])));
        let errors = texts(load(&inputs(&["--handles=-1", "missing"], variables), vec![of_flags], &shelf));
        let duration =
            "accepted: a duration with its unit such as 250ms, 30s, 5m, 1h or 1m30s, from 10ms to 1h";
        assert_eq!(
            errors,
            [
                "--lissen is not known; the nearest known name is --listen",
                "PAGECAST_WRKERS is not known; the nearest known name is PAGECAST_WORKERS",
                "c.toml:1: head_timout is not known; the nearest known name is head_timeout",
                &format!("c.toml:2: idle_timeout: the value \"10\" has no unit; {duration}"),
                "c.toml:3: root: the value \"5\" is not accepted: invalid type: integer `5`, expected a string; \
                 accepted: the path of a directory",
                "c.toml:4: watch: the value \"1.5\" is not accepted: invalid type: floating point `1.5`, \
                 expected a string or an integer or a boolean; \
                 accepted: on or off (also true or false, yes or no, 1 or 0)",
                "c.toml:6: table is not known; the nearest known name is rule",
                &format!("PAGECAST_IDLE_TIMEOUT: the value \"5\" has no unit; {duration}"),
                "PAGECAST_WORKERS: the value \"\" is empty; accepted: a count from 1 to 1024, or auto",
                "--handles: the value \"-1\" is not a whole number in decimal digits; \
                 accepted: a count from 8 to 1000000, or auto",
                "ROOT: the value \"missing\" cannot be used: entity not found; accepted: the path of a directory",
            ]
        );
    }

    #[test]
    fn rules_are_read_with_their_origins_and_their_errors_are_reported_beside_the_others() {
        let file = "names = 99\n[[rule]]\npath = '*.html'\n[[rule]]\npath = '/a/**'\ncors = '*'\n";
        let loaded = try_load(&["--config=c.toml"], &[], file).expect("all is right");
        let paths: Vec<String> = loaded.config.rules.iter().map(|rule| rule.path.to_string()).collect();
        let origins: Vec<String> = loaded.origins.rules.iter().map(ToString::to_string).collect();
        assert_eq!(
            (paths, origins),
            (vec!["*.html".into(), "/a/**".into()], vec!["c.toml:2".into(), "c.toml:4".into()])
        );
        let max_age = |loaded: &LoadedConfig| match &loaded.config.rules[1].effects.cors {
            Some(Toggle::Given(policy)) => policy.max_age.as_secs(),
            other => panic!("{other:?}"),
        };
        assert_eq!(max_age(&loaded), 600);
        let shorter = try_load(&["--config=c.toml", "--cors-max-age=7s"], &[], file).expect("all is right");
        assert_eq!(max_age(&shorter), 7);
        let shown = crate::config::show(&loaded);
        assert!(
            shown.contains("# Rules\nrule ") && shown.contains(" *.html ") && shown.contains(" c.toml:4\n"),
            "{shown}"
        );
        let errors =
            reported(&["--names=x"], &[("PAGECAST_CONFIG", "c.toml")], "[[rules]]\n[[rule]]\npth = 'a'\n");
        assert_eq!(errors.len(), 3, "{errors:#?}");
        for (error, begin) in errors.iter().zip([
            "c.toml:1: rules is not known; the nearest known name is rule",
            "c.toml:3: rule.pth is not known; the nearest known name is path",
            "--names: ",
        ]) {
            assert!(error.starts_with(begin), "{error}");
        }
    }

    #[test]
    fn the_text_of_all_errors_counts_them() {
        let errors = try_load(&["--workers=0"], &[], "").expect_err("too few");
        let accepted = "accepted: a count from 1 to 1024, or auto";
        let expected = format!(
            "pagecast: 1 error in the configuration\n  --workers: the value \"0\" is too small; {accepted}"
        );
        assert_eq!(errors.to_string(), expected);
    }

    #[test]
    fn faults_of_syntax_have_their_lines_and_hide_no_other_error() {
        let errors =
            reported(&["--config=c.toml"], &[], "workers = \nnames = 1\nnames = 2\n= 3\nindex = ''\n");
        for line in [1, 3, 4] {
            let place = format!("c.toml:{line}: ");
            assert!(errors.iter().any(|error| error.starts_with(&place)), "{line} in {errors:#?}");
        }
        assert!(errors.iter().any(|error| error.starts_with("c.toml:5: index: ")), "{errors:#?}");
    }

    #[test]
    fn a_file_that_is_named_must_be_there() {
        for (arguments, variables) in
            [(&["--config=no.toml"][..], &[][..]), (&[], &[("PAGECAST_CONFIG", "no.toml")])]
        {
            assert_eq!(
                reported(arguments, variables, ""),
                ["no.toml: the configuration cannot be read: entity not found"]
            );
        }
        assert_eq!(
            reported(&[], &[("PAGECAST_CONFIG", "")], ""),
            ["PAGECAST_CONFIG: the value \"\" is empty; accepted: the path of a TOML file"]
        );
    }

    #[test]
    fn a_root_that_is_no_directory_is_reported_with_its_origin() {
        let accepted = "accepted: the path of a directory";
        for (arguments, variables, expected) in [
            (&["a-file"][..], &[][..], "ROOT: the value \"a-file\" is not a directory"),
            (&["--root=missing"], &[], "--root: the value \"missing\" cannot be used: entity not found"),
            (
                &[],
                &[("PAGECAST_ROOT", "missing")],
                "PAGECAST_ROOT: the value \"missing\" cannot be used: entity not found",
            ),
        ] {
            assert_eq!(reported(arguments, variables, ""), [format!("{expected}; {accepted}")]);
        }
        let expected =
            "ROOT: the value \"confg\" cannot be used: entity not found (was the command `config` meant?)";
        let inputs = ProcessInputs { similar_command: Some("config"), ..inputs(&["confg"], &[]) };
        let errors = texts(load(&inputs, Vec::new(), &ConfigLayers(&[])));
        assert_eq!(errors, [format!("{expected}; {accepted}")]);
    }

    #[test]
    fn traffic_and_admin_cannot_share_an_address() {
        let same = &[("PAGECAST_LISTEN", "[::1]:9,127.0.0.1:8081")];
        let errors = reported(&[], same, "");
        let both = ["PAGECAST_LISTEN=[::1]:9,127.0.0.1:8081", "PAGECAST_ADMIN_LISTEN=127.0.0.1:8081"];
        assert!(both.iter().all(|name| errors.iter().any(|error| error.contains(name))), "{errors:?}");
        let ports = &[("PAGECAST_LISTEN", "127.0.0.1:0"), ("PAGECAST_ADMIN_LISTEN", "127.0.0.1:0")];
        assert!(try_load(&[], ports, "").is_ok());
    }

    #[test]
    fn an_admin_listener_that_others_reach_needs_a_token() {
        let token = ("PAGECAST_ADMIN_TOKEN", "correct-horse-battery");
        for (address, is_open) in [
            ("0.0.0.0:8081", true),
            ("[::]:8081", true),
            ("192.0.2.1:8081", true),
            ("[::ffff:192.0.2.1]:8081", true),
            ("127.0.0.1:8082", false),
            ("127.8.7.6:8081", false),
            ("[::1]:8081", false),
            ("[::ffff:127.0.0.1]:8081", false),
            ("localhost:8081", false),
            ("unix:/run/admin.sock", false),
            ("off", false),
        ] {
            let listen = ("PAGECAST_ADMIN_LISTEN", address);
            let refused = try_load(&[], &[listen], "").err().map(|errors| errors.to_string());
            assert_eq!(refused.is_some(), is_open, "{address}: {refused:?}");
            if let Some(reported) = refused {
                assert!(
                    reported.contains(address) && reported.contains("PAGECAST_ADMIN_TOKEN"),
                    "{reported}"
                );
            }
            assert!(try_load(&[], &[listen, token], "").is_ok(), "{address}");
        }
    }

    #[test]
    fn a_token_that_is_none_is_not_reported() {
        for (variables, file) in [
            (&[("PAGECAST_ADMIN_TOKEN", "hunter2")][..], ""),
            (&[("PAGECAST_CONFIG", "c.toml")], "admin_token = 7002198"),
            (&[("PAGECAST_CONFIG", "c.toml")], "admin_token = ['hunter2', 'hunter2-hunter2-hunter2']"),
            (&[("PAGECAST_CONFIG", "c.toml")], "admin_token = 'hunter2 hunter2 hunter2'"),
        ] {
            let errors = reported(&[], variables, file).join(" ");
            assert!(!errors.contains("hunter2") && !errors.contains("7002198"), "{errors}");
            assert!(errors.contains("(hidden)"), "{errors}");
        }
    }

    #[test]
    fn limits_that_cannot_hold_are_reported_beside_other_errors() {
        let variables = &[("PAGECAST_HANDLES", "5000"), ("PAGECAST_LOG", "loud=x")];
        let errors = reported(&[], variables, "");
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(errors.iter().any(|error| error.contains("PAGECAST_HANDLES=5000")), "{errors:?}");
    }

    #[cfg(unix)]
    #[test]
    fn a_value_that_is_not_utf_8_is_an_error_and_no_panic() {
        use std::ffi::OsString;
        use std::os::unix::ffi::OsStringExt;
        let broken = || OsString::from_vec(b"a\xff".to_vec());
        let mut inputs = inputs(&["--log=a", "a"], &[]);
        inputs.variables = vec![(OsString::from("PAGECAST_INDEX"), broken())];
        inputs.command_line.settings.iter_mut().for_each(|(_, value, _)| *value = broken());
        let errors = load(&inputs, Vec::new(), &ConfigLayers(&[])).expect_err("none is text");
        let reported = errors.to_string();
        for name in ["PAGECAST_INDEX: ", "--log: ", "ROOT: "] {
            assert!(reported.contains(&format!("{name}the value \"a\u{fffd}\" is not UTF-8")), "{reported}");
        }
    }

    #[test]
    fn what_is_auto_is_derived() {
        let loaded = try_load(&["--workers=1"], &[("PAGECAST_HANDLES", "auto")], "").expect("all is right");
        assert_eq!(loaded.origins.of("handles"), &ValueOrigin::Derived);
        assert_eq!(loaded.origins.of("max_connections"), &ValueOrigin::Derived);
        assert_eq!(loaded.origins.of("workers"), &ValueOrigin::Flag("--workers".to_owned()));
        let loaded = try_load(&["--index=auto"], &[], "").expect("a name like any other");
        assert_eq!(loaded.origins.of("index"), &ValueOrigin::Flag("--index".to_owned()));
    }
}
