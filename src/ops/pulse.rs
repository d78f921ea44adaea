//! What the dashboard is told, once a second: how much is done, how fast, by whom, and what goes wrong.
//!
//! The last minutes are kept whether anybody listens or not, so that whoever opens the page sees what led to the present.
//!
//! | room       | what it knows                                                     |
//! |------------|-------------------------------------------------------------------|
//! | `sample`   | counters at one moment, and what changed between two of them      |
//! | `snapshot` | the words of it, as JSON                                          |
//! | `rates`    | how fast each download is, and how often each file is asked for   |

mod rates;
mod sample;
mod snapshot;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use actix_web::web::Bytes;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::MissedTickBehavior;

use self::rates::{BusyFiles, Downloads};
use self::sample::{Lookups, Sample};
use self::snapshot::{Point, Snapshot};
use super::status::Gauges;
use crate::ledger::Ledger;
use crate::warmth::{Warmth, aside};

/// A heart that beats once a second, for all who listen. On the admin thread; every clone is the same.
#[derive(Clone)]
pub(crate) struct Pulse {
    inner: Rc<Inner>,
}

struct Inner {
    ledger: Ledger,
    gauges: Gauges,
    warmth: Warmth,
    beats: watch::Sender<Bytes>,
    seats: Arc<Semaphore>,
    seats_max: usize,
    memory: RefCell<Memory>,
}

/// What is kept of the last minutes.
#[derive(Default)]
struct Memory {
    points: VecDeque<Point>,
    /// The oldest first.
    samples: VecDeque<Sample>,
    downloads: Downloads,
    busy: BusyFiles,
}

/// One who listens; makes room when dropped.
pub(crate) struct Seat {
    beats: watch::Receiver<Bytes>,
    /// What led to the present, as an event.
    history: Option<Bytes>,
    _permit: OwnedSemaphorePermit,
}

impl Pulse {
    /// A pulse for at most `seats` who listen at once.
    pub(crate) fn new(ledger: Ledger, gauges: Gauges, warmth: Warmth, seats: usize) -> Self {
        let inner = Inner {
            ledger,
            gauges,
            warmth,
            beats: watch::Sender::new(Bytes::new()),
            seats: Arc::new(Semaphore::new(seats)),
            seats_max: seats,
            memory: RefCell::default(),
        };
        Self { inner: Rc::new(inner) }
    }

    /// Beats for as long as it is polled.
    pub(crate) async fn beat(&self) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.inner.beat();
        }
    }

    /// Finds out which files are asked for most, for as long as it is polled and somebody wants to know.
    pub(crate) async fn look_for_busy_files(&self) {
        loop {
            let mut listening = self.inner.beats.subscribe();
            // The first beat that somebody hears.
            while self.inner.beats.receiver_count() < 2 {
                if listening.changed().await.is_err() {
                    return;
                }
            }
            drop(listening);
            let (files, begun) = (self.inner.warmth.files(), Instant::now());
            let Some(busiest) = aside(move || files.busiest(BUSY_FILES)).await else { continue };
            let took = begun.elapsed();
            self.inner.memory.borrow_mut().busy.put(busiest, Instant::now());
            // Where there are millions of names, looking at all of them takes a hundredth of the time at most.
            tokio::time::sleep(LOOK_EVERY.max(took * 100)).await;
        }
    }

    /// A seat among those who listen; none where all are taken.
    pub(crate) fn seat(&self) -> Option<Seat> {
        let permit = Arc::clone(&self.inner.seats).try_acquire_owned().ok()?;
        let mut beats = self.inner.beats.subscribe();
        beats.mark_unchanged();
        let points = &self.inner.memory.borrow().points;
        let history = Some(event(
            "history",
            &serde_json::json!({ "every_ms": EVERY.as_millis() as u64, "points": points }),
        ));
        Some(Seat { beats, history, _permit: permit })
    }

    /// Waits until nobody listens any more.
    pub(crate) async fn all_left(&self) {
        let all = u32::try_from(self.inner.seats_max).unwrap_or(u32::MAX);
        // It is never closed.
        let _ = self.inner.seats.acquire_many(all).await;
    }
}

impl Inner {
    fn beat(&self) {
        let status = self.gauges.read();
        let sample = Sample::take(self.ledger.totals(), self.lookups(), &status, Instant::now());
        let is_heard = self.beats.receiver_count() > 0;
        let memory = &mut *self.memory.borrow_mut();
        let at_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        let at_ms = u64::try_from(at_ms).unwrap_or(u64::MAX);
        if let Some(last) = memory.samples.back() {
            let recent = memory.samples.get(memory.samples.len().saturating_sub(RECENT)).unwrap_or(last);
            memory.points.push_back(Point::between(at_ms, &sample, last, recent));
            if memory.points.len() > POINTS {
                memory.points.pop_front();
            }
        }
        let transfers = if is_heard { self.ledger.transfers() } else { Vec::new() };
        let downloads = memory.downloads.look(transfers, sample.at);
        if is_heard {
            let snapshot = Snapshot {
                at_ms,
                point: memory.points.back(),
                recent: memory
                    .samples
                    .get(memory.samples.len().saturating_sub(RECENT))
                    .map(|before| snapshot::Recent::between(&sample, before)),
                troubles: snapshot::troubles(&sample, memory.samples.front(), memory.samples.back()),
                downloads_under_way: self.ledger.transfers_under_way(),
                downloads,
                busy: memory.busy.shown(),
                activities: self.gauges.guard.activities(),
                status: &status,
            };
            self.beats.send_replace(event("snapshot", &snapshot));
        } else {
            self.beats.send_replace(Bytes::new());
        }
        memory.samples.push_back(sample);
        if memory.samples.len() > SAMPLES {
            memory.samples.pop_front();
        }
    }
}

impl Inner {
    /// A worker's own short cut comes before the cache of names that all share.
    fn lookups(&self) -> Lookups {
        let (own, shared) = (self.ledger.lookup_counts(), self.gauges.files.counts().name_cache);
        Lookups { hits: own.hits() + shared.hits, misses: shared.misses }
    }
}

impl Seat {
    /// The next event, once there is one; none where nothing was to be said for a while.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        if let Some(history) = self.history.take() {
            return Some(history);
        }
        let heard = tokio::time::timeout(SILENCE_MAX, self.beats.wait_for(|beat| !beat.is_empty())).await;
        let beat = heard.ok()?.ok()?.clone();
        self.beats.mark_unchanged();
        Some(beat)
    }
}

/// An event, in the format of an event stream (WHATWG HTML §9.2).
fn event(name: &str, data: &impl Serialize) -> Bytes {
    // JSON has no line ends of its own.
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("event: {name}\ndata: {data}\n\n").into()
}

const EVERY: Duration = Duration::from_secs(1);

/// Seconds of which points are kept.
const POINTS: usize = 300;

/// Seconds of which all counters are kept: as far back as "within the last minute" goes.
const SAMPLES: usize = 60;

/// Seconds over which latencies and shares are taken.
const RECENT: usize = 10;

/// How often busy files are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(3);

const BUSY_FILES: usize = 12;

/// After so long without an event there is another sign of life.
const SILENCE_MAX: Duration = Duration::from_secs(5);
