//! What the dashboard is told, once a second: how much is done, how fast, by whom, and what goes wrong.
//!
//! The last minutes are kept whether anybody listens or not, so that whoever opens the page sees what led to the present.
//!
//! | room       | what it knows                                                     |
//! |------------|-------------------------------------------------------------------|
//! | `sample`   | counters at one moment, and what changed between two of them      |
//! | `snapshot` | the words of it, as JSON                                          |
//! | `rates`    | how fast each download is, and how often each file is asked for   |

mod figures;
mod rates;
mod sample;
mod snapshot;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use actix_web::web::Bytes;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use self::rates::{BusyFiles, Downloads};
use self::sample::Sample;
use self::snapshot::{ChartPoint, Recent, Snapshot, troubles};
use super::readings::Gauges;
use super::status::Status;
use crate::admin::slots::AdminSlot;
use crate::files::inventory::CacheInventory;
use crate::lifecycle::warmup::warmer::Warmup;
use crate::sys::own_thread::run_on_own_thread;

/// A heart that beats once a second, for all who listen. On the admin thread; every clone is the same.
#[derive(Clone)]
pub(crate) struct Sampler {
    inner: Rc<Inner>,
}

struct Inner {
    gauges: Gauges,
    warmth: Warmup,
    beats: watch::Sender<Bytes>,
    memory: RefCell<SampleHistory>,
}

/// What is kept of the last minutes.
#[derive(Default)]
struct SampleHistory {
    points: VecDeque<ChartPoint>,
    /// The oldest first.
    samples: VecDeque<Sample>,
    downloads: Downloads,
    busy: BusyFiles,
}

/// One who listens; makes room when dropped.
pub(crate) struct Subscriber {
    beats: watch::Receiver<Bytes>,
    /// What led to the present, as an event.
    history: Option<Bytes>,
    _place: AdminSlot,
}

impl Sampler {
    pub(crate) fn new(gauges: Gauges, warmth: Warmup) -> Self {
        let inner =
            Inner { gauges, warmth, beats: watch::Sender::new(Bytes::new()), memory: RefCell::default() };
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
            let Some(busiest) =
                run_on_own_thread(move || CacheInventory::of(&files).busiest(BUSY_FILES)).await
            else {
                continue;
            };
            let took = begun.elapsed();
            self.inner.memory.borrow_mut().busy.put(busiest, Instant::now());
            // Where there are millions of names, looking at all of them takes a hundredth of the time at most.
            tokio::time::sleep(LOOK_EVERY.max(took * 100)).await;
        }
    }

    /// A seat among those who listen; none where all are taken.
    pub(crate) fn seat(&self) -> Option<Subscriber> {
        let place = self.inner.gauges.admin.watches.take()?;
        let mut beats = self.inner.beats.subscribe();
        beats.mark_unchanged();
        let points = &self.inner.memory.borrow().points;
        let history = Some(event(
            "history",
            &serde_json::json!({ "every_ms": EVERY.as_millis() as u64, "points": points }),
        ));
        Some(Subscriber { beats, history, _place: place })
    }
}

impl Inner {
    fn beat(&self) {
        let readings = self.gauges.read();
        let status = Status::of(&readings);
        let now = Sample::take(&readings, &status, Instant::now());
        let is_heard = self.beats.receiver_count() > 0;
        let memory = &mut *self.memory.borrow_mut();
        let at_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        let at_ms = u64::try_from(at_ms).unwrap_or(u64::MAX);
        memory.note(at_ms, &now);
        let transfers = if is_heard { self.gauges.metrics.transfers() } else { Vec::new() };
        let downloads = memory.downloads.look(transfers, now.at);
        // Who sits down before the next beat does not take this one for new.
        let told = match is_heard {
            false => Bytes::new(),
            true => event(
                "snapshot",
                &Snapshot {
                    at_ms,
                    point: memory.points.back(),
                    recent: memory.recent().map(|recent| Recent::between(&now, recent)),
                    troubles: troubles(&now, memory.samples.front(), memory.samples.back()),
                    downloads_under_way: readings.transfers,
                    downloads,
                    busy: memory.busy.shown(),
                    activities: readings.activities,
                    status: &status,
                },
            ),
        };
        self.beats.send_replace(told);
        memory.keep(now);
    }
}

impl SampleHistory {
    /// Draws the line up to `now`, which is not kept yet.
    fn note(&mut self, at_ms: u64, now: &Sample) {
        let Some((last, recent)) = self.samples.back().zip(self.recent()) else { return };
        let point = ChartPoint::between(at_ms, now, last, recent);
        self.points.push_back(point);
        if self.points.len() > POINTS {
            self.points.pop_front();
        }
    }

    fn keep(&mut self, now: Sample) {
        self.samples.push_back(now);
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
    }

    /// The sample of ten seconds ago, or the oldest.
    fn recent(&self) -> Option<&Sample> {
        self.samples.get(self.samples.len().saturating_sub(RECENT))
    }
}

impl Subscriber {
    /// The next event, once there is one; none where nothing was to be said for a while.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        if let Some(history) = self.history.take() {
            return Some(history);
        }
        let beats = &mut self.beats;
        let heard = tokio::time::timeout(SILENCE_MAX, async {
            loop {
                beats.changed().await.ok()?;
                let beat = beats.borrow_and_update().clone();
                if !beat.is_empty() {
                    return Some(beat);
                }
            }
        });
        heard.await.ok()?
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
