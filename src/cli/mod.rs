//! The commands beside serving: `compress`, `verify`, `warm` and `sign`.

pub(crate) mod compare;
pub(crate) mod compress;
pub(crate) mod finding;
pub mod outcome;
pub(crate) mod progress;
pub(crate) mod sign;
pub(crate) mod threads;
pub(crate) mod verify;
pub(crate) mod walk;
pub(crate) mod warm;

pub use compress::compress;
pub use outcome::CommandOutput;
pub use sign::sign;
pub use verify::verify;
pub use warm::warm;
