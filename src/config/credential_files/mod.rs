//! Files of secrets: keys of links, tokens, passwords. They are read with the configuration, and what is wrong with them is told
//! with what is wrong with it; no message has any of a secret in it.
//!
//! | room        | what it knows                                       |
//! |-------------|-----------------------------------------------------|
//! | `lines`     | what their lines have in common                     |
//! | `link_keys` | keys of signed links                                |
//! | `passwords` | names and hashes of passwords, as htpasswd has them |
//! | `tokens`    | names and hashes of bearer tokens                   |

mod lines;
mod passwords;
mod signing_keys;
mod tokens;

use std::path::Path;
use std::sync::Arc;

pub use self::passwords::{PasswordHash, Passwords};
pub use self::tokens::Tokens;
use super::error::ConfigError;
use super::own_path::OwnPath;
pub use crate::config::credential_files::signing_keys::{SigningKey, SigningKeys};
use crate::config::file_reader::FileReader;
use crate::config::settings_table::Config;
use crate::config::toggle::Toggle;

/// What the files hold; nothing where none is configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialFiles {
    /// Keys of signed links.
    pub link_keys: Arc<SigningKeys>,
    /// Bearer tokens.
    pub tokens: Arc<Tokens>,
    /// Names and passwords.
    pub passwords: Arc<Passwords>,
    /// What the operator ought to know of them.
    pub warnings: Vec<String>,
}

impl CredentialFiles {
    /// Reads the files that `config` names. Blocks.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub(crate) fn read(
        config: &Config,
        wanted: CredentialPaths,
        disk: &dyn FileReader,
    ) -> Result<Self, Vec<ConfigError>> {
        let root = config.site.root.as_path();
        let mut reading = FileReading { disk, root, warnings: Vec::new(), errors: Vec::new() };
        let link_keys = reading.read(&config.access.link_keys_file, signing_keys::parse);
        let (mut tokens, mut passwords) = (Tokens::default(), Passwords::default());
        if wanted == CredentialPaths::All {
            tokens = reading.read(&config.access.tokens_file, tokens::parse);
            passwords = reading.read(&config.access.passwords_file, passwords::parse);
        }
        let FileReading { warnings, errors, .. } = reading;
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut files = Self {
            link_keys: Arc::new(link_keys),
            tokens: Arc::new(tokens),
            passwords: Arc::new(passwords),
            warnings,
        };
        if wanted == CredentialPaths::All {
            files.warn_of_strangers(config);
        }
        Ok(files)
    }

    /// A name that nobody has opens nothing. That keeps no server from starting: who was taken out of a file must be out at once.
    fn warn_of_strangers(&mut self, config: &Config) {
        let access = config.rules.iter().filter_map(|rule| rule.effects.access.as_ref());
        let named = access.filter_map(|access| access.users.as_ref()).flat_map(|users| users.iter());
        let mut strangers: Vec<&String> = named.filter(|name| !self.know(name)).collect();
        strangers.sort_unstable();
        strangers.dedup();
        let warnings: Vec<String> = strangers
            .into_iter()
            .map(|name| format!("rules let in {name:?}, who is in neither the tokens nor the passwords file"))
            .collect();
        self.warnings.extend(warnings);
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

    /// Whether a name is in one of the files.
    pub fn know(&self, name: &str) -> bool {
        self.tokens.has_name(name) || self.passwords.get(name.as_bytes()).is_some()
    }
}

/// Which of the files are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CredentialPaths {
    All,
    /// Who signs links need not be allowed to read the others.
    LinkKeys,
}

/// A line that is wrong: its number, and why.
type LineError = (usize, String);

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
    ) -> T {
        let Some(path) = file.given().map(OwnPath::as_path) else { return T::default() };
        let text = match self.text(path) {
            Ok(text) => text,
            Err(reason) => {
                self.tell(path, None, reason);
                return T::default();
            }
        };
        parse(&text).unwrap_or_else(|bad_lines| {
            for (line, reason) in bad_lines {
                self.tell(path, Some(line), reason);
            }
            T::default()
        })
    }

    fn text(&mut self, path: &Path) -> Result<String, String> {
        let private =
            self.disk.read_private(path).map_err(|error| format!("the file cannot be read: {error}"))?;
        if private.bytes.len() > BYTES_MAX {
            return Err(format!("the file has more than {BYTES_MAX} bytes"));
        }
        if private.is_exposed {
            self.warnings
                .push(format!("{}: everybody on this machine may read it (chmod o-r)", path.display()));
        }
        if self.disk.is_within(path, self.root) {
            self.warnings.push(format!("{}: it lies in the root, where it may be served", path.display()));
        }
        String::from_utf8(private.bytes).map_err(|_| "the file is not UTF-8".to_owned())
    }

    fn tell(&mut self, path: &Path, line: Option<usize>, reason: String) {
        self.errors.push(ConfigError::File { path: path.into(), line, reason });
    }
}

/// Bytes of one file.
const BYTES_MAX: usize = 1024 * 1024;
