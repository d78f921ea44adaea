//! Bodies of unknown length, made chunk by chunk on a thread that may block.

use std::any::Any;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;
use tokio::task::JoinHandle;

use crate::sys::blocking_pool::BlockingPool;

/// A body that is made while it is sent.
///
/// The next chunk is made while the last one is sent, and no further one until the connection wants it: a slow client holds
/// two chunks, and no thread.
///
/// Decision: docs/decisions/023-streamed-bodies.md.
pub(crate) struct StreamedBody {
    state: State,
    /// The chunk that was made before the response began.
    first: Option<Bytes>,
    pool: Arc<BlockingPool>,
}

/// Makes the chunks of a body, which may be empty. May block. An error means that the body cannot be finished: the response is
/// then cut.
struct ChunkSource {
    chunks: Box<dyn Iterator<Item = io::Result<Bytes>> + Send>,
    /// Permits that are held as long as chunks may follow.
    _permits: Box<dyn Any + Send>,
}

enum State {
    Idle(ChunkSource),
    /// Makes the next chunk; the source comes back unless it has ended.
    Working(JoinHandle<(Option<ChunkSource>, Option<io::Result<Bytes>>)>),
    Done,
}

impl StreamedBody {
    /// Makes chunks until they have `enough` bytes, so that a short body is whole before its response begins. Blocks. The others
    /// are made on `pool`.
    ///
    /// # Errors
    /// Those of `chunks`.
    pub(crate) fn begin(
        mut chunks: impl Iterator<Item = io::Result<Bytes>> + Send + 'static,
        permits: impl Send + 'static,
        enough: usize,
        pool: &Arc<BlockingPool>,
    ) -> io::Result<Self> {
        let (mut first, pool) = (Bytes::new(), Arc::clone(pool));
        while first.len() < enough {
            first = match chunks.next().transpose()? {
                Some(chunk) if first.is_empty() => chunk,
                Some(chunk) => [first, chunk].concat().into(),
                None => return Ok(Self { state: State::Done, first: Some(first), pool }),
            };
        }
        let rest = ChunkSource { chunks: Box::new(chunks), _permits: Box::new(permits) };
        Ok(Self { state: State::Idle(rest), first: Some(first), pool })
    }

    /// Returns the body, with its length if it is whole.
    pub(crate) fn into_body(mut self) -> BoxBody {
        match self.state {
            State::Done => BoxBody::new(self.first.take().unwrap_or_default()),
            _ => BoxBody::new(self),
        }
    }

    fn work(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Done) {
            State::Idle(mut source) => State::Working(self.pool.run(move || match source.chunks.next() {
                Some(Ok(chunk)) => (Some(source), Some(Ok(chunk))),
                // The source is dropped here and not on a worker.
                ended => (None, ended),
            })),
            other => other,
        };
    }
}

impl MessageBody for StreamedBody {
    type Error = io::Error;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, io::Error>>> {
        let this = &mut *self;
        loop {
            this.work();
            if let Some(first) = this.first.take().filter(|first| !first.is_empty()) {
                return Poll::Ready(Some(Ok(first)));
            }
            let State::Working(job) = &mut this.state else { return Poll::Ready(None) };
            let done = ready!(Pin::new(job).poll(cx));
            // A panic has been logged by its hook.
            let (source, chunk) = done.unwrap_or_else(|error| (None, Some(Err(io::Error::other(error)))));
            this.state = source.map_or(State::Done, State::Idle);
            if !matches!(&chunk, Some(Ok(chunk)) if chunk.is_empty()) {
                this.work();
                return Poll::Ready(chunk);
            }
        }
    }
}

/// A source (a hundred thousand names, an open file) is dropped on a thread that may block.
impl Drop for StreamedBody {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Done => {}
            state => drop(self.pool.run(move || drop(state))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::sync::Semaphore;

    struct Numbers {
        made: Arc<AtomicUsize>,
        fails_at: usize,
        ends_at: usize,
    }

    impl Iterator for Numbers {
        type Item = io::Result<Bytes>;

        fn next(&mut self) -> Option<Self::Item> {
            let number = self.made.fetch_add(1, Ordering::SeqCst);
            match number {
                _ if number == self.fails_at => Some(Err(io::Error::other("broken"))),
                _ if number == self.ends_at => None,
                _ if number % 2 == 1 => Some(Ok(Bytes::new())),
                _ => Some(Ok(Bytes::from(number.to_string()))),
            }
        }
    }

    fn numbers(fails_at: usize, ends_at: usize) -> (Numbers, Arc<AtomicUsize>) {
        let made = Arc::new(AtomicUsize::new(0));
        (Numbers { made: Arc::clone(&made), fails_at, ends_at }, made)
    }

    fn body(numbers: Numbers, permits: &Arc<Semaphore>) -> BoxBody {
        let permit = Arc::clone(permits).try_acquire_owned().unwrap();
        let pool = Arc::new(BlockingPool::new("produced", 1, 0).unwrap());
        StreamedBody::begin(numbers, permit, 1, &pool).unwrap().into_body()
    }

    async fn next(body: &mut BoxBody) -> Option<Result<Bytes, Box<dyn std::error::Error>>> {
        poll_fn(|cx| Pin::new(&mut *body).poll_next(cx)).await
    }

    async fn until(what: impl Fn() -> bool) {
        for _ in 0..500 {
            if what() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it did not come about");
    }

    #[test]
    fn chunks_come_in_order_and_empty_ones_are_skipped() {
        actix_rt::System::new().block_on(async {
            let permits = Arc::new(Semaphore::new(1));
            let mut body = body(numbers(usize::MAX, 5).0, &permits);
            let mut all = Vec::new();
            while let Some(chunk) = next(&mut body).await {
                all.push(chunk.unwrap());
            }
            assert_eq!(all, ["0", "2", "4"]);
            assert!(next(&mut body).await.is_none());
            until(|| permits.available_permits() == 1).await;
        });
    }

    #[test]
    fn an_error_in_the_middle_is_an_error_of_the_body_and_its_end() {
        actix_rt::System::new().block_on(async {
            let permits = Arc::new(Semaphore::new(1));
            let mut body = body(numbers(3, 9).0, &permits);
            assert_eq!(next(&mut body).await.unwrap().unwrap(), "0");
            assert_eq!(next(&mut body).await.unwrap().unwrap(), "2");
            assert_eq!(next(&mut body).await.unwrap().unwrap_err().to_string(), "broken");
            assert!(next(&mut body).await.is_none());
        });
    }

    #[test]
    fn no_more_than_one_chunk_is_made_ahead() {
        actix_rt::System::new().block_on(async {
            let permits = Arc::new(Semaphore::new(1));
            let (numbers, made) = numbers(usize::MAX, 100);
            let mut body = body(numbers, &permits);
            assert_eq!(made.load(Ordering::SeqCst), 1);
            assert_eq!(next(&mut body).await.unwrap().unwrap(), "0");
            until(|| made.load(Ordering::SeqCst) == 2).await;
            tokio::time::sleep(Duration::from_millis(30)).await;
            assert_eq!(made.load(Ordering::SeqCst), 2);
        });
    }

    #[test]
    fn a_body_that_is_dropped_gives_its_permit_back() {
        actix_rt::System::new().block_on(async {
            let permits = Arc::new(Semaphore::new(1));
            let mut body = body(numbers(usize::MAX, 100).0, &permits);
            assert_eq!(next(&mut body).await.unwrap().unwrap(), "0");
            assert_eq!(permits.available_permits(), 0);
            drop(body);
            until(|| permits.available_permits() == 1).await;
        });
    }

    #[test]
    fn a_short_body_is_whole_at_once() {
        actix_rt::System::new().block_on(async {
            let permits = Arc::new(Semaphore::new(1));
            let pool = Arc::new(BlockingPool::new("produced", 1, 0).unwrap());
            let begin = |numbers, enough| {
                let permit = Arc::clone(&permits).try_acquire_owned().unwrap();
                StreamedBody::begin(numbers, permit, enough, &pool)
            };
            let whole = begin(numbers(9, 5).0, 100).unwrap();
            assert!(whole.first.as_deref() == Some(b"024") && matches!(whole.state, State::Done));
            assert_eq!(whole.into_body().size(), BodySize::Sized(3));
            let begun = begin(numbers(9, 5).0, 2).unwrap();
            assert!(begun.first.as_deref() == Some(b"02") && matches!(begun.state, State::Idle(_)));
            assert_eq!(begun.into_body().size(), BodySize::Stream);
            until(|| permits.available_permits() == 1).await;
            assert!(begin(numbers(1, 5).0, 2).is_err());
        });
    }
}
