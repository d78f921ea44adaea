//! Bodies of unknown length, made chunk by chunk on a thread that may block.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;

use crate::sys::blocking_pool::BlockingPool;

/// Makes a body chunk by chunk.
pub(crate) trait ChunkSource: Send + 'static {
    /// Returns the next chunk, which may be empty; `None` after the last. Blocks.
    ///
    /// # Errors
    /// If the body cannot be finished: the response is then cut.
    fn next(&mut self) -> io::Result<Option<Bytes>>;
}

/// A body that a producer makes while it is sent.
///
/// The next chunk is made while the last one is sent, and no further one until the connection wants it: a slow client holds
/// two chunks, and no thread.
///
/// Decision: docs/decisions/023-streamed-bodies.md.
pub(crate) struct StreamedBody<P: ChunkSource> {
    state: State<P>,
    /// The chunk that was made before the response began.
    first: Option<Bytes>,
    pool: Arc<BlockingPool>,
}

/// A producer with its permit.
pub(crate) struct Admitted<P> {
    producer: P,
    _permit: OwnedSemaphorePermit,
}

/// A body's first chunk, and the producer of the rest; `None` if that was all.
pub(crate) struct FirstChunk<P> {
    pub(crate) first: Bytes,
    pub(crate) rest: Option<Box<Admitted<P>>>,
}

enum State<P> {
    Idle(Box<Admitted<P>>),
    Working(JoinHandle<ProducedChunk<P>>),
    Done,
}

/// The producer unless it has ended, and its chunk.
type ProducedChunk<P> = (Option<Box<Admitted<P>>>, io::Result<Option<Bytes>>);

impl<P: ChunkSource> FirstChunk<P> {
    /// Makes chunks until they have `enough` bytes, so that a short body is whole before its response begins. Blocks.
    ///
    /// # Errors
    /// Those of the producer.
    pub(crate) fn with(producer: P, permit: OwnedSemaphorePermit, enough: usize) -> io::Result<Self> {
        let mut held = Box::new(Admitted { producer, _permit: permit });
        let mut first = Vec::new();
        while first.len() < enough {
            match held.producer.next()? {
                Some(piece) if first.is_empty() && piece.len() >= enough => {
                    return Ok(Self { first: piece, rest: Some(held) });
                }
                Some(piece) => first.extend_from_slice(&piece),
                None => return Ok(Self { first: first.into(), rest: None }),
            }
        }
        Ok(Self { first: first.into(), rest: Some(held) })
    }
}

impl<P: ChunkSource> StreamedBody<P> {
    /// A body that goes on after `first`, its chunks made on `pool`.
    pub(crate) fn new(first: Bytes, rest: Box<Admitted<P>>, pool: Arc<BlockingPool>) -> Self {
        Self { state: State::Idle(rest), first: Some(first), pool }
    }

    fn work(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Done) {
            State::Idle(mut held) => State::Working(self.pool.run(move || match held.producer.next() {
                Ok(Some(piece)) => (Some(held), Ok(Some(piece))),
                // The producer is dropped here and not on a worker.
                ended => (None, ended),
            })),
            other => other,
        };
    }
}

impl<P: ChunkSource> MessageBody for StreamedBody<P> {
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
            let (held, made) = done.unwrap_or_else(|error| (None, Err(io::Error::other(error))));
            this.state = held.map_or(State::Done, State::Idle);
            match made.transpose() {
                None => return Poll::Ready(None),
                Some(Ok(piece)) if piece.is_empty() => {}
                Some(made) => {
                    this.work();
                    return Poll::Ready(Some(made));
                }
            }
        }
    }
}

impl<P: ChunkSource> Unpin for StreamedBody<P> {}

/// A producer (a hundred thousand names, an open file) is dropped on a thread that may block.
impl<P: ChunkSource> Drop for StreamedBody<P> {
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

    impl ChunkSource for Numbers {
        fn next(&mut self) -> io::Result<Option<Bytes>> {
            let number = self.made.fetch_add(1, Ordering::SeqCst);
            match number {
                _ if number == self.fails_at => Err(io::Error::other("broken")),
                _ if number == self.ends_at => Ok(None),
                _ if number % 2 == 1 => Ok(Some(Bytes::new())),
                _ => Ok(Some(Bytes::from(number.to_string()))),
            }
        }
    }

    fn numbers(fails_at: usize, ends_at: usize) -> (Numbers, Arc<AtomicUsize>) {
        let made = Arc::new(AtomicUsize::new(0));
        (Numbers { made: Arc::clone(&made), fails_at, ends_at }, made)
    }

    fn body(numbers: Numbers, permits: &Arc<Semaphore>) -> StreamedBody<Numbers> {
        let permit = Arc::clone(permits).try_acquire_owned().unwrap();
        let begun = FirstChunk::with(numbers, permit, 1).unwrap();
        let pool = Arc::new(BlockingPool::new("produced", 1, 0).unwrap());
        StreamedBody::new(begun.first, begun.rest.unwrap(), pool)
    }

    async fn next(body: &mut StreamedBody<Numbers>) -> Option<io::Result<Bytes>> {
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
    fn pieces_come_in_order_and_empty_ones_are_passed_over() {
        actix_rt::System::new().block_on(async {
            let permits = Arc::new(Semaphore::new(1));
            let mut body = body(numbers(usize::MAX, 5).0, &permits);
            let mut all = Vec::new();
            while let Some(piece) = next(&mut body).await {
                all.push(piece.unwrap());
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
    fn no_more_than_one_piece_is_made_ahead() {
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
        let permits = Arc::new(Semaphore::new(1));
        let permit = || Arc::clone(&permits).try_acquire_owned().unwrap();
        let whole = FirstChunk::with(numbers(9, 5).0, permit(), 100).unwrap();
        assert!(whole.first == "024" && whole.rest.is_none());
        let begun = FirstChunk::with(numbers(9, 5).0, permit(), 2).unwrap();
        assert!(begun.first == "02" && begun.rest.is_some());
        drop(begun);
        assert!(FirstChunk::with(numbers(1, 5).0, permit(), 2).is_err());
    }
}
