//! Settings: names, units, defaults, bounds and meaning, and how they are loaded.
//!
//! `settings_table` has a row for each setting: `--help`, `pagecast config`, error messages, `config/pagecast.toml` and
//! `docs/configuration.md` are made from it. [`load()`] merges the layers: flags override the environment, which overrides
//! the file, which overrides the defaults. [`limits`] then derives the values that are `auto`. The file also has rules
//! ([`Rule`]) for parts of the site.

mod address;
mod amounts;
mod choice;
mod comma_list;
mod conflicts;
mod cors_table;
mod credential_files;
mod error;
mod example;
mod file;
mod file_reader;
mod headers;
mod inputs;
pub mod limits;
mod load;
mod log_output;
mod nearest;
mod origin;
mod paths;
mod proxy_list;
mod rule;
mod rule_reader;
mod rule_table;
mod secret;
mod setting;
mod settings_table;
mod show;
mod toggle;
mod word_sets;

pub use address::{Address, ListenList};
pub use amounts::{ByteCount, Count, DurationSetting, RequestRate};
pub use choice::*;
pub use comma_list::{CommaList, HostList, ListItem, OriginList, PathList};
pub(crate) use conflicts::{admin_without_token, serving_conflicts};
pub use credential_files::CredentialFiles;
pub(crate) use error::shortened;
pub use error::{ConfigError, ConfigErrors};
pub use example::example;
pub use file_reader::{FileReader, RegularFiles, SecretFile, SystemFileReader};
pub use headers::{ConfigHeaderValue, ExtraHeaders, ReferrerPolicy, TransportSecurity};
pub use inputs::{ConfigUse, ProcessInputs, TextLayer};
pub use limits::{ResolvedLimits, resolve_limits};
pub(crate) use load::read_redirects;
pub use load::{LoadedConfig, load};
pub use log_output::{LogFilter, LogTarget};
pub(crate) use nearest::nearest_key;
pub use origin::{ValueOrigin, ValueOrigins};
pub use paths::{IndexName, OwnPath, RootPath, SiteFile};
pub use proxy_list::{PeerPattern, ProxyList};
pub use rule::{AccessRule, Rule, RuleEffects, RuleRate, RuleRates};
pub use secret::Secret;
pub(crate) use setting::RawValue;
pub use setting::{SettingValue, TomlForms, ValueError};
pub use settings_table::*;
pub use show::show;
pub(crate) use show::{shown, table};
pub use toggle::{Auto, Toggle};
pub use word_sets::{AuthMethods, DigestChoice};
