//! Counters and histograms of requests. Each worker counts for itself; readers add the workers up.

pub(crate) mod counter;
pub(crate) mod counts;
pub(crate) mod exchange;
pub(crate) mod histogram;
pub(crate) mod http2;
pub(crate) mod kind;
pub mod registry;
pub(crate) mod transfers;
pub(crate) mod worker;
