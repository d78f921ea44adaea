//! Reads the credential files, with the configuration.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::{Config, ConfigError, ConfigUse, FileReader, OwnPath, Toggle};
use crate::http::credential_files::lines::LineError;
use crate::http::credential_files::passwords::{self, Passwords};
use crate::http::credential_files::signing_keys::{self, SigningKeys};
use crate::http::credential_files::tokens::{self, Tokens};

/// Contents of the credential files. Empty for files that are not configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialFiles {
    /// Keys of signed URLs.
    pub link_keys: Arc<SigningKeys>,
    /// Bearer tokens.
    pub tokens: Arc<Tokens>,
    /// Names and passwords.
    pub passwords: Arc<Passwords>,
    /// Warnings about the files, for the log.
    pub warnings: Vec<String>,
}

impl CredentialFiles {
    /// Reads the files that `config` names; for signing only the keys, since the user who signs URLs needs no access to the
    /// other files. Blocks.
    ///
    /// # Errors
    /// Every error in every file.
    pub(crate) fn read(
        config: &Config,
        config_use: ConfigUse,
        disk: &dyn FileReader,
    ) -> Result<Self, Vec<ConfigError>> {
        let root = config.site.root.as_path();
        let mut reading = FileReading { disk, root, warnings: Vec::new(), errors: Vec::new() };
        let link_keys = reading.read(&config.access.link_keys_file, signing_keys::parse);
        let mut files = Self { link_keys, ..Self::default() };
        if config_use == ConfigUse::Serving {
            files.tokens = reading.read(&config.access.tokens_file, tokens::parse);
            files.passwords = reading.read(&config.access.passwords_file, passwords::parse);
            reading.warnings.extend(files.unknown_users(config).into_iter().map(|name| {
                format!(
                    "a rule names the user {name:?}, which is in neither the tokens nor the passwords file"
                )
            }));
        }
        files.warnings = reading.warnings;
        if reading.errors.is_empty() { Ok(files) } else { Err(reading.errors) }
    }

    /// Users of rules that no file contains. Not an error: removing a user from a file must take effect at once.
    fn unknown_users<'a>(&self, config: &'a Config) -> BTreeSet<&'a String> {
        let access = config.rules.iter().filter_map(|rule| rule.effects.access.as_ref());
        let named = access.filter_map(|access| access.users.as_ref()).flat_map(|users| users.iter());
        named.filter(|name| !self.has_user(name)).collect()
    }

    #[cfg(test)]
    pub(crate) fn of_passwords(text: &str) -> Self {
        let passwords = Arc::new(passwords::parse(text).expect("passwords"));
        Self { passwords, ..Self::default() }
    }

    #[cfg(test)]
    pub(crate) fn of_link_keys(text: &str) -> Self {
        let link_keys = Arc::new(signing_keys::parse(text).expect("keys"));
        Self { link_keys, ..Self::default() }
    }

    /// True if the tokens or the passwords file contains the name.
    pub fn has_user(&self, name: &str) -> bool {
        self.tokens.has_name(name) || self.passwords.get(name.as_bytes()).is_some()
    }
}

struct FileReading<'a> {
    disk: &'a dyn FileReader,
    root: &'a Path,
    warnings: Vec<String>,
    errors: Vec<ConfigError>,
}

impl FileReading<'_> {
    fn read<T: Default>(
        &mut self,
        file: &Toggle<OwnPath>,
        parse: impl Fn(&str) -> Result<T, Vec<LineError>>,
    ) -> Arc<T> {
        let Some(path) = file.given().map(OwnPath::as_path) else { return Arc::default() };
        let error = |line, reason| ConfigError::File { path: path.into(), line, reason };
        match self.text(path).map(|text| parse(&text)) {
            Ok(Ok(parsed)) => return Arc::new(parsed),
            Ok(Err(lines)) => {
                self.errors.extend(lines.into_iter().map(|(line, reason)| error(Some(line), reason)));
            }
            Err(reason) => self.errors.push(error(None, reason)),
        }
        Arc::default()
    }

    fn text(&mut self, path: &Path) -> Result<String, String> {
        let private =
            self.disk.read_private(path).map_err(|error| format!("the file cannot be read: {error}"))?;
        if private.bytes.len() > BYTES_MAX {
            return Err(format!("the file is larger than {BYTES_MAX} bytes"));
        }
        let file = path.display();
        if private.is_exposed {
            self.warnings.push(format!("{file}: every user of this machine can read it (chmod o-r)"));
        }
        if self.disk.is_within(path, self.root) {
            self.warnings.push(format!("{file}: it is inside the document root and could be served"));
        }
        String::from_utf8(private.bytes).map_err(|_| "the file is not UTF-8".to_owned())
    }
}

/// Maximum size of one file.
const BYTES_MAX: usize = 1024 * 1024;
