//! Standard error of a server, complete up to the present.

use std::io::ErrorKind;
use std::process::ChildStderr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::ioctl_fionbio;

use crate::client::ReadSome;

/// The lines so far. A thread reads the pipe, so that it is never full; callers read it as well, so that nothing that was
/// written before is missing.
pub struct LogPipe {
    inner: Arc<Mutex<Inner>>,
    reader: Option<JoinHandle<()>>,
}

struct Inner {
    pipe: ChildStderr,
    bytes: Vec<u8>,
    is_over: bool,
}

impl LogPipe {
    pub fn new(pipe: ChildStderr) -> Self {
        ioctl_fionbio(&pipe, true).unwrap();
        let waited_for = rustix::io::dup(&pipe).unwrap();
        let inner = Arc::new(Mutex::new(Inner { pipe, bytes: Vec::new(), is_over: false }));
        let reader = std::thread::spawn({
            let inner = Arc::clone(&inner);
            move || {
                while !inner.lock().unwrap().take() {
                    let _ = poll(&mut [PollFd::new(&waited_for, PollFlags::IN)], None);
                }
            }
        });
        Self { inner, reader: Some(reader) }
    }

    /// All whole lines.
    pub fn text(&self) -> String {
        let mut inner = self.inner.lock().unwrap();
        inner.take();
        let end = inner.bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        String::from_utf8_lossy(&inner.bytes[..end]).into_owned()
    }

    /// Waits until no process can write any more.
    pub fn finish(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
    }
}

impl Inner {
    /// Reads what is in the pipe. Returns whether that was the end.
    fn take(&mut self) -> bool {
        let mut piece = [0; 4096];
        while !self.is_over {
            match self.pipe.read_some(&mut piece) {
                Ok(0) => self.is_over = true,
                Ok(length) => self.bytes.extend_from_slice(&piece[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("the log can't be read: {error}"),
            }
        }
        self.is_over
    }
}
