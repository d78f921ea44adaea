//! What becomes of each request: counted on every worker by itself, added up by whoever asks.
//!
//! | room       | what it knows                                            |
//! |------------|----------------------------------------------------------|
//! | `exchange` | one request and its response, from beginning to end      |
//! | `sheet`    | what one worker has counted                              |
//! | `note`     | what is noted of a request for the log                   |

pub(crate) mod exchange;
pub(crate) mod note;
pub(crate) mod sheet;

use std::sync::Arc;

use parking_lot::Mutex;

use self::note::Register;
use self::sheet::Sheet;

/// The sheets of all workers. Cheap to clone; every clone is the same.
#[derive(Clone, Default)]
pub struct Ledger {
    sheets: Arc<Mutex<Vec<Arc<Sheet>>>>,
    register: Option<Arc<dyn Register>>,
}

impl Ledger {
    /// A ledger that hands the notes of exchanges to `register` once they have ended.
    pub(crate) fn writing(register: Arc<dyn Register>) -> Self {
        Self { register: Some(register), ..Self::default() }
    }

    /// A sheet for one more worker.
    pub(crate) fn sheet(&self) -> Arc<Sheet> {
        let sheet = Arc::new(Sheet::handing_to(self.register.clone()));
        self.sheets.lock().push(Arc::clone(&sheet));
        sheet
    }

    /// The sheets of all workers that there ever were.
    pub(crate) fn sheets(&self) -> Vec<Arc<Sheet>> {
        self.sheets.lock().clone()
    }
}
