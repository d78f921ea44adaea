//! Wrappers of what the operating system or a library offers. `kernel` has the only `unsafe` code of the crate.

pub(crate) mod backoff;
pub(crate) mod blocking_pool;
pub(crate) mod compress;
pub(crate) mod decompress;
pub(crate) mod event_loop;
pub(crate) mod fair_queue;
pub(crate) mod gcra;
pub(crate) mod kernel;
pub(crate) mod own_thread;
pub(crate) mod random;
pub mod service_manager;
pub(crate) mod temp_file;
