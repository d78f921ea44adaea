//! Pages of the site's own for what went wrong: `404.html`, `403.html` and `50x.html` in the root.

use std::cell::RefCell;
use std::sync::Arc;

use actix_web::http::StatusCode;

use crate::files::{Asset, Files, Lookup, Name};
use crate::http::target::SitePath;

/// The pages as one worker last saw them.
#[derive(Default)]
pub(crate) struct ErrorPages {
    known: RefCell<[Option<Arc<Name>>; NAMES.len()]>,
}

impl ErrorPages {
    /// Whether it is known that the site has no page for `status`. Never waits.
    pub(crate) fn is_absent(&self, files: &Files, status: StatusCode) -> bool {
        let Some(index) = index(status) else { return true };
        let known = self.known.borrow();
        known[index].as_ref().is_some_and(|name| {
            files.recall(name, files.now_ms()).is_some_and(|lookup| !matches!(lookup, Lookup::File(_)))
        })
    }

    /// The page for `status`, if the site has one.
    pub(crate) async fn page(&self, files: &Files, status: StatusCode) -> Option<Arc<Asset>> {
        let index = index(status)?;
        let known = self.known.borrow()[index].clone();
        let recalled = known.and_then(|name| {
            // Short of handles, what is in memory has to do.
            if status == StatusCode::SERVICE_UNAVAILABLE {
                name.lookup()
            } else {
                files.recall(&name, files.now_ms())
            }
        });
        let lookup = match recalled {
            Some(lookup) => lookup,
            None if status == StatusCode::SERVICE_UNAVAILABLE => return None,
            None => self.find(files, index).await,
        };
        match lookup {
            Lookup::File(asset) => Some(asset),
            _ => None,
        }
    }

    async fn find(&self, files: &Files, index: usize) -> Lookup {
        let found = Box::pin(files.find(&SitePath::root().entry(NAMES[index].as_bytes()))).await;
        self.known.borrow_mut()[index] = Some(found.name);
        found.lookup
    }
}

fn index(status: StatusCode) -> Option<usize> {
    match status {
        StatusCode::NOT_FOUND => Some(0),
        StatusCode::FORBIDDEN => Some(1),
        _ if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED => Some(2),
        _ => None,
    }
}

const NAMES: [&str; 3] = ["404.html", "403.html", "50x.html"];
