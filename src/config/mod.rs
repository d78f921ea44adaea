//! Every knob: its names, unit, default, bounds and meaning, and how its value is found.
//!
//! [`KNOBS`] is the one table; `--help`, `pagecast config`, the messages of errors and `config/pagecast.toml` are all
//! made from it or checked against it. [`load()`] lays the layers over one another: flags beat the environment,
//! which beats the file, which beats the defaults. [`limits`] then settles what was left open.

mod address;
mod byte_count;
mod cli;
mod count;
mod environment;
mod error;
mod example;
mod file;
mod knobs;
pub mod limits;
mod load;
mod log_filter;
mod name;
mod nearest;
mod origin;
mod setting;
mod show;
mod span;
pub mod system;
mod task;
mod word;

pub use address::{Address, AdminListen, ListenList};
pub use byte_count::ByteCount;
pub use count::{Auto, Count};
pub use error::{ConfigError, ConfigErrors};
pub use example::example;
pub use knobs::{Config, Group, KNOBS, Knob};
pub use limits::{Limits, SystemFacts, settle};
pub use load::{Disk, Loaded, RealDisk, load};
pub use log_filter::LogFilter;
pub use name::{IndexName, RootPath};
pub use origin::{Origin, Origins};
pub use setting::{Forms, Refusal, Setting};
pub use show::show;
pub use span::Span;
pub use task::{Compress, Task, Verification};
pub use word::{Dotfiles, EtagSource, Switch, Symlinks, TrailingSlash, Verify};
