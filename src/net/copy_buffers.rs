//! Reusable buffers for file content that HTTP/2 copies.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

/// Buffers that are used again: new memory would have to be mapped and cleared each time. One pool per worker.
#[derive(Default)]
pub(super) struct CopyBuffers(RefCell<Vec<Vec<u8>>>);

/// Bytes in a pooled buffer. Dropping them returns the buffer to its pool.
pub(super) struct PooledBytes {
    buffer: Vec<u8>,
    left: Range<usize>,
    pool: Rc<CopyBuffers>,
}

impl CopyBuffers {
    /// Returns `length` bytes, at most [`BUFFER`], written by `fill`.
    ///
    /// # Errors
    /// Those of `fill`.
    pub(super) fn filled<E>(
        self: &Rc<Self>,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<PooledBytes, E> {
        let buffer = self.0.borrow_mut().pop().unwrap_or_else(|| vec![0; BUFFER]);
        let mut bytes = PooledBytes { left: 0..length.min(buffer.len()), buffer, pool: Rc::clone(self) };
        fill(&mut bytes.buffer[bytes.left.clone()])?;
        Ok(bytes)
    }
}

impl PooledBytes {
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.buffer[self.left.clone()]
    }

    /// Drops the first `count` bytes.
    pub(super) fn advance(&mut self, count: usize) {
        self.left.start += count;
    }
}

impl Drop for PooledBytes {
    fn drop(&mut self) {
        let mut kept = self.pool.0.borrow_mut();
        if kept.len() < BUFFERS_MAX {
            kept.push(std::mem::take(&mut self.buffer));
        }
    }
}

/// Length of a buffer: what is read of a file at once.
pub(super) const BUFFER: usize = 64 * 1024;

/// Buffers that a worker keeps.
const BUFFERS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_reused_and_only_some_are_kept() {
        let pool = Rc::<CopyBuffers>::default();
        let fill = |byte: u8| {
            let filled = pool.filled(100, |bytes| {
                bytes.fill(byte);
                Ok::<_, ()>(())
            });
            filled.unwrap_or_else(|()| panic!())
        };
        let many: Vec<PooledBytes> = (0..2 * u8::try_from(BUFFERS_MAX).unwrap()).map(fill).collect();
        assert!(many.iter().zip(0..).all(|(bytes, byte)| bytes.as_slice() == [byte; 100]));
        drop(many);
        assert_eq!(pool.0.borrow().len(), BUFFERS_MAX);
        drop(fill(7));
        assert_eq!(pool.0.borrow().len(), BUFFERS_MAX);
        assert!(pool.filled(100, |_| Err("the disk")).is_err());
        assert_eq!(pool.0.borrow().len(), BUFFERS_MAX, "a failed read loses no buffer");
    }
}
