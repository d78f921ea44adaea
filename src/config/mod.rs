//! Every knob: its names, unit, default, bounds and meaning, and how its value is found.
//!
//! [`KNOBS`] is the one table; `--help`, `pagecast config`, the messages of errors and `config/pagecast.toml` are all
//! made from it or checked against it. [`load()`] lays the layers over one another: flags beat the environment,
//! which beats the file, which beats the defaults. [`limits`] then settles what was left open. Beside the knobs the file
//! has rules ([`Rule`]) for parts of the site.

pub mod activation;
mod address;
mod auth_methods;
mod byte_count;
pub(crate) mod change;
mod choice;
mod cli;
mod cli_sign;
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
mod host_list;
mod inputs;
pub mod limits;
mod load;
mod log_filter;
mod log_target;
mod memory;
mod name;
mod nearest;
mod origin;
mod origin_list;
mod path_glob;
mod path_list;
pub mod policy;
mod proxy_list;
mod request_rate;
mod rule;
mod rule_reader;
mod rule_table;
mod secret;
mod security_header;
mod setting;
mod settings_table;
mod show;
mod site_file;
pub mod system;
mod task;
mod toggle;

pub use address::{Address, AdminListen, ListenList};
pub use auth_methods::{AccessChoice, Ways};
pub use byte_count::ByteCount;
pub use choice::{
    AccessLogFormat, ClientField, Disposition, Dotfiles, EtagSource, LogFormat, ProxyProtocol, RequestIds,
    ResourcePolicy, Switch, Symlinks, TlsVersion, TrailingSlash, Verify,
};
pub use count::{Auto, Count};
pub use credential_files::{AccessFiles, LinkKey, LinkKeys, PasswordHash, Passwords, Tokens};
pub use digest_choice::DigestChoice;
pub use duration_setting::Span;
pub use error::{ConfigError, ConfigErrors};
pub use example::example;
pub use extra_headers::ExtraFields;
pub use file_reader::{Disk, Private, RealDisk, RegularFiles};
pub use header_value::{FieldName, FieldValue};
pub use host_list::HostList;
pub use inputs::Given;
pub use limits::{Limits, SystemFacts, settle};
pub use load::{Loaded, load};
pub(crate) use load::{read_redirects, unguarded};
pub use log_filter::LogFilter;
pub use log_target::LogTarget;
pub use memory::MemorySource;
pub use name::{IndexName, OwnPath, RootPath};
pub use origin::{Origin, Origins};
pub use origin_list::OriginList;
pub use path_glob::PathGlobs;
pub use path_list::PathList;
pub use proxy_list::ProxyList;
pub use request_rate::RequestRate;
pub use rule::{Effects, Rule};
pub use secret::Secret;
pub use security_header::{ReferrerPolicy, TransportSecurity};
pub use setting::{Forms, Refusal, Setting};
pub use settings_table::{Config, Group, KNOBS, Knob};
pub use show::show;
pub(crate) use show::{shown, table};
pub use site_file::SiteFile;
pub use task::{Compress, Sign, Task, Verification, Warm};
pub use toggle::OrOff;
