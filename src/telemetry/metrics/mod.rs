//! Counters and histograms of requests. Each worker counts for itself; readers add the workers up.

pub(crate) mod count;
pub(crate) mod exchange;
pub(crate) mod histogram;
pub(crate) mod http2;
pub(crate) mod kind;
pub(crate) mod lookups;
pub(crate) mod outcome;
pub mod registry;
pub(crate) mod totals;
pub(crate) mod transfers;
pub(crate) mod worker;
