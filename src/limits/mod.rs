//! How much of the server each client may use: connections, request rates, bandwidth, places for slow work, wrong credentials.
//! A client is an address or a network, as a trusted proxy names it.

pub mod admission;
pub(crate) mod attempts;
pub(crate) mod bandwidth;
pub(crate) mod client_places;
pub(crate) mod clients;
pub(crate) mod connections;
pub(crate) mod rate;
pub(crate) mod requests;
pub(crate) mod trusted_proxies;

pub use admission::Limits;
