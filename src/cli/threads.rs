//! How many work at once.

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

/// A pool of `threads`, or of one for each processor.
pub(crate) fn pool(threads: Option<usize>) -> Result<ThreadPool, ThreadPoolBuildError> {
    // 0 is rayon's word for one for each processor.
    ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0)).build()
}
