//! What the operating system or a library offers, wrapped once. `kernel` has the only `unsafe` code of the crate.

pub(crate) mod activation;
pub(crate) mod backoff;
pub(crate) mod blocking_pool;
pub(crate) mod compress;
pub(crate) mod decompress;
pub(crate) mod event_loop;
pub(crate) mod fair_queue;
pub(crate) mod gcra;
pub(crate) mod kernel;
pub mod memory;
pub(crate) mod own_thread;
pub(crate) mod random;
pub(crate) mod regular_file;
pub mod service_manager;
pub mod system_facts;
pub(crate) mod temp_file;
