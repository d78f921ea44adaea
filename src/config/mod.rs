//! Every knob: its names, unit, default, bounds and meaning, and how its value is found.
//!
//! [`KNOBS`] is the one table; `--help`, `pagecast config`, the messages of errors and `config/pagecast.toml` are all
//! made from it or checked against it. [`load()`] lays the layers over one another: flags beat the environment,
//! which beats the file, which beats the defaults. [`limits`] then settles what was left open. Beside the knobs the file
//! has rules ([`Rule`]) for parts of the site.

mod access_choice;
mod access_files;
pub mod activation;
mod address;
mod byte_count;
pub(crate) mod change;
mod cli;
mod cli_sign;
mod cors_table;
mod count;
mod digest_choice;
mod disk;
mod environment;
mod error;
mod example;
mod extra_fields;
mod field_value;
mod file;
mod given;
mod host_list;
mod knobs;
pub mod limits;
mod load;
mod log_filter;
mod log_target;
mod memory;
mod name;
mod nearest;
mod or_off;
mod origin;
mod origin_list;
mod path_glob;
mod path_list;
mod proxy_list;
mod request_rate;
mod rule;
mod rule_reader;
mod rule_table;
mod secret;
mod security_field;
mod setting;
mod show;
mod site_file;
mod span;
pub mod system;
mod task;
mod word;

pub use access_choice::{AccessChoice, Ways};
pub use access_files::{AccessFiles, LinkKey, LinkKeys, PasswordHash, Passwords, Tokens};
pub use address::{Address, AdminListen, ListenList};
pub use byte_count::ByteCount;
pub use count::{Auto, Count};
pub use digest_choice::DigestChoice;
pub use disk::{Disk, Private, RealDisk, RegularFiles};
pub use error::{ConfigError, ConfigErrors};
pub use example::example;
pub use extra_fields::ExtraFields;
pub use field_value::{FieldName, FieldValue};
pub use given::Given;
pub use host_list::HostList;
pub use knobs::{Config, Group, KNOBS, Knob};
pub use limits::{Limits, SystemFacts, settle};
pub use load::{Loaded, load};
pub(crate) use load::{read_redirects, unguarded};
pub use log_filter::LogFilter;
pub use log_target::LogTarget;
pub use memory::MemorySource;
pub use name::{IndexName, OwnPath, RootPath};
pub use or_off::OrOff;
pub use origin::{Origin, Origins};
pub use origin_list::OriginList;
pub use path_glob::PathGlobs;
pub use path_list::PathList;
pub use proxy_list::ProxyList;
pub use request_rate::RequestRate;
pub use rule::{Effects, Rule};
pub use secret::Secret;
pub use security_field::{ReferrerPolicy, TransportSecurity};
pub use setting::{Forms, Refusal, Setting};
pub use show::show;
pub(crate) use show::{shown, table};
pub use site_file::SiteFile;
pub use span::Span;
pub use task::{Compress, Sign, Task, Verification, Warm};
pub use word::{
    AccessLogFormat, ClientField, Disposition, Dotfiles, EtagSource, LogFormat, ProxyProtocol, RequestIds,
    ResourcePolicy, Switch, Symlinks, TlsVersion, TrailingSlash, Verify,
};
