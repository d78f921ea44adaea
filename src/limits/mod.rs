//! How much of the server each client may use. A client is an address or a network, as a trusted proxy names it.
//!
//! `client_limits` is the handle that all workers share. It holds the table of clients (`clients`), the bound on
//! connections (`connections`), request rates (`requests`, `request_rate`), bandwidth (`bandwidth`, `client_bandwidth`,
//! `total_bandwidth`, `byte_rate`) and the trusted proxies (`trusted_proxies`). `attempts` limits wrong credentials,
//! `client_slots` slow work.

pub(crate) mod attempts;
pub(crate) mod bandwidth;
pub(crate) mod byte_rate;
pub(crate) mod client_bandwidth;
pub mod client_limits;
pub(crate) mod client_slots;
pub(crate) mod clients;
pub(crate) mod connections;
pub(crate) mod request_rate;
pub(crate) mod requests;
pub(crate) mod total_bandwidth;
pub(crate) mod trusted_proxies;

pub use client_limits::Limits;
