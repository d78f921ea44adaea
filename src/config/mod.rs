//! Settings: names, units, defaults, bounds and meaning, and how they are loaded.
//!
//! `settings_table` has a row for each setting: `--help`, `pagecast config`, error messages, `config/pagecast.toml` and
//! `docs/configuration.md` are made from it. [`load()`] merges the layers: flags override the environment, which overrides
//! the file, which overrides the defaults. [`limits`] then derives the values that are `auto`. The file also has rules
//! ([`Rule`]) for parts of the site.

mod address;
mod auth_methods;
mod byte_count;
mod choice;
mod comma_list;
mod conflicts;
mod cors_table;
mod count;
mod credential_files;
mod digest_choice;
mod duration_setting;
mod environment;
mod error;
mod example;
mod extra_headers;
mod file;
mod file_reader;
mod header_value;
mod inputs;
pub mod limits;
mod load;
mod log_filter;
mod log_target;
mod nearest;
mod origin;
mod own_path;
pub mod policy;
mod proxy_list;
mod request_rate;
mod rule;
mod rule_reader;
mod rule_table;
mod secret;
mod setting;
mod settings_table;
mod show;
mod site_file;
mod toggle;

pub use address::{Address, ListenList};
pub use auth_methods::{AccessRule, AuthMethods};
pub use byte_count::ByteCount;
pub use choice::*;
pub use comma_list::{CommaList, HostList, ListItem, OriginList, PathList};
pub(crate) use conflicts::{admin_without_token, serving_conflicts};
pub use count::Count;
pub use credential_files::CredentialFiles;
pub use digest_choice::DigestChoice;
pub use duration_setting::DurationSetting;
pub(crate) use error::shortened;
pub use error::{ConfigError, ConfigErrors};
pub use example::example;
pub use extra_headers::ExtraHeaders;
pub use file_reader::{FileReader, RegularFiles, SecretFile, SystemFileReader};
pub use header_value::{ConfigHeaderValue, ReferrerPolicy, TransportSecurity};
pub use inputs::{ConfigUse, ProcessInputs, TextLayer};
pub use limits::{ResolvedLimits, settle};
pub(crate) use load::read_redirects;
pub use load::{LoadedConfig, load};
pub use log_filter::LogFilter;
pub use log_target::LogTarget;
pub(crate) use nearest::nearest_key;
pub use origin::{ValueOrigin, ValueOrigins};
pub use own_path::{IndexName, OwnPath, RootPath};
pub use proxy_list::{PeerPattern, ProxyList};
pub use request_rate::RequestRate;
pub use rule::{Rule, RuleEffects, RuleRate, RuleRates};
pub use secret::Secret;
pub(crate) use setting::RawValue;
pub use setting::{SettingValue, TomlForms, ValueError};
pub use settings_table::*;
pub use show::show;
pub(crate) use show::{shown, table};
pub use site_file::SiteFile;
pub use toggle::{Auto, Toggle};
