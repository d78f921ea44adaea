//! What becomes of each request: counted on every worker by itself, added up by whoever asks.
//!
//! | room       | what it knows                                            |
//! |------------|----------------------------------------------------------|
//! | `exchange` | one request and its response, from beginning to end      |
//! | `sheet`    | what one worker has counted                              |

pub(crate) mod exchange;
pub(crate) mod sheet;

use std::sync::Arc;

use parking_lot::Mutex;

use self::sheet::Sheet;

/// The sheets of all workers. Cheap to clone; every clone is the same.
#[derive(Clone, Default)]
pub struct Ledger {
    sheets: Arc<Mutex<Vec<Arc<Sheet>>>>,
}

impl Ledger {
    /// A sheet for one more worker.
    pub(crate) fn sheet(&self) -> Arc<Sheet> {
        let sheet = Arc::new(Sheet::default());
        self.sheets.lock().push(Arc::clone(&sheet));
        sheet
    }

    /// The sheets of all workers that there ever were.
    pub(crate) fn sheets(&self) -> Vec<Arc<Sheet>> {
        self.sheets.lock().clone()
    }
}
