//! Samples the numbers once a second for the dashboard: rates, latencies, downloads, busy files, problems.
//!
//! The last minutes are kept even if no dashboard is open, so that a new one shows what led to the present state.

mod figures;
mod rates;
mod sample;
mod snapshot;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use actix_web::web::Bytes;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use self::rates::{BusyFiles, Downloads};
use self::sample::Sample;
use self::snapshot::{ChartPoint, Recent, Snapshot, summarize};
use super::context::ServerContext;
use super::readings::Readings;
use super::status::{all_series, status_of};
use crate::admin::slots::AdminSlot;
use crate::sys::own_thread::run_on_own_thread;

/// Sends a snapshot once a second to all subscribers. Lives on the admin thread.
///
/// Decision: docs/decisions/038-dashboard-sampler.md.
pub(crate) struct Sampler {
    server: Arc<ServerContext>,
    snapshots: watch::Sender<Bytes>,
    history: RefCell<SampleHistory>,
}

/// Points and samples of the last minutes.
#[derive(Default)]
struct SampleHistory {
    points: VecDeque<ChartPoint>,
    /// Oldest first.
    samples: VecDeque<Sample>,
    downloads: Downloads,
    busy: BusyFiles,
}

/// Receives the events of one dashboard. Frees its slot when dropped.
pub(crate) struct Subscriber {
    snapshots: watch::Receiver<Bytes>,
    /// The points of the last minutes, as an event.
    history: Option<Bytes>,
    _slot: AdminSlot,
}

impl Sampler {
    pub(crate) fn new(server: Arc<ServerContext>) -> Self {
        Self { server, snapshots: watch::Sender::new(Bytes::new()), history: RefCell::default() }
    }

    /// Samples once a second for as long as it is polled.
    pub(crate) async fn run(&self) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.sample();
        }
    }

    /// Finds the files with the most requests, for as long as it is polled and there are subscribers.
    pub(crate) async fn find_busy_files(&self) {
        loop {
            while self.snapshots.receiver_count() == 0 {
                tokio::time::sleep(EVERY).await;
            }
            let (files, started) = (self.server.warmup.files(), Instant::now());
            let busiest = run_on_own_thread(move || files.busiest_names(BUSY_FILES)).await;
            let took = started.elapsed();
            if let Some(busiest) = busiest {
                self.history.borrow_mut().busy.put(busiest, Instant::now());
            }
            // With millions of names, reading them takes at most a hundredth of the time.
            tokio::time::sleep(FIND_EVERY.max(took * 100)).await;
        }
    }

    /// Adds a subscriber. `None` if there are too many.
    pub(crate) fn subscribe(&self) -> Option<Subscriber> {
        let slot = self.server.subscribers.take()?;
        let mut snapshots = self.snapshots.subscribe();
        snapshots.mark_unchanged();
        let points = &self.history.borrow().points;
        let history = Some(event(
            "history",
            &serde_json::json!({ "every_ms": EVERY.as_millis() as u64, "points": points }),
        ));
        Some(Subscriber { snapshots, history, _slot: slot })
    }

    fn sample(&self) {
        let readings = Readings::new(&self.server);
        let series = all_series(&readings);
        let now = Sample::new(&readings, &series, Instant::now());
        let has_subscribers = self.snapshots.receiver_count() > 0;
        let history = &mut *self.history.borrow_mut();
        let at_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        let at_ms = u64::try_from(at_ms).unwrap_or(u64::MAX);
        history.add_point(at_ms, &now);
        let transfers = if has_subscribers { self.server.metrics.transfers() } else { Vec::new() };
        let downloads = history.downloads.update(transfers, now.at);
        // Sent even if empty: a subscriber that comes before the next one must not take this one for new.
        let event = match has_subscribers {
            false => Bytes::new(),
            true => event(
                "snapshot",
                &Snapshot {
                    at_ms,
                    point: history.points.back(),
                    recent: history.recent().map(|recent| Recent::between(&now, recent)),
                    troubles: summarize(&now, history.samples.front(), history.samples.back()),
                    downloads_under_way: self.server.metrics.transfer_count(),
                    downloads,
                    busy: history.busy.files(),
                    activities: readings.activities,
                    status: status_of(&series),
                },
            ),
        };
        self.snapshots.send_replace(event);
        push_bounded(&mut history.samples, now, SAMPLES);
    }
}

impl SampleHistory {
    /// Adds the chart point of `now`, which is not kept yet.
    fn add_point(&mut self, at_ms: u64, now: &Sample) {
        if let Some((last, recent)) = self.samples.back().zip(self.recent()) {
            let point = ChartPoint::between(at_ms, now, last, recent);
            push_bounded(&mut self.points, point, POINTS);
        }
    }

    /// The sample of ten seconds ago, or the oldest.
    fn recent(&self) -> Option<&Sample> {
        self.samples.get(self.samples.len().saturating_sub(RECENT))
    }
}

impl Subscriber {
    /// Waits for the next event. `None` if there is none for a while.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        if let Some(history) = self.history.take() {
            return Some(history);
        }
        let snapshots = &mut self.snapshots;
        let next = tokio::time::timeout(SILENCE_MAX, async {
            loop {
                snapshots.changed().await.ok()?;
                let snapshot = snapshots.borrow_and_update().clone();
                if !snapshot.is_empty() {
                    return Some(snapshot);
                }
            }
        });
        next.await.ok()?
    }
}

/// Adds `item`, and drops the oldest one if there are more than `max`.
fn push_bounded<T>(items: &mut VecDeque<T>, item: T, max: usize) {
    items.push_back(item);
    if items.len() > max {
        items.pop_front();
    }
}

/// Formats an event of an event stream (WHATWG HTML §9.2).
fn event(name: &str, data: &impl Serialize) -> Bytes {
    // Compact JSON contains no newlines.
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("event: {name}\ndata: {data}\n\n").into()
}

const EVERY: Duration = Duration::from_secs(1);

/// Seconds for which chart points are kept.
const POINTS: usize = 300;

/// Seconds for which samples are kept: the range of "within the last minute".
const SAMPLES: usize = 60;

/// Seconds over which latencies and shares are computed.
const RECENT: usize = 10;

/// Interval between searches for busy files.
const FIND_EVERY: Duration = Duration::from_secs(3);

const BUSY_FILES: usize = 12;

/// Time without an event after which a keep-alive is sent.
const SILENCE_MAX: Duration = Duration::from_secs(5);
