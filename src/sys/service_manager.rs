//! Notifications to the service manager (sd_notify(3)), and its watchdog.
//!
//! Nothing is sent without `NOTIFY_SOCKET`, or once a successor notifies for the service: the manager would take messages of
//! this process for those of the successor.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sd_notify::NotifyState;

/// Reports that the service is ready: after the start, and after [`reloading`].
pub fn ready() {
    if !IS_STOPPING.load(Ordering::Relaxed) {
        notify(&[NotifyState::Ready]);
    }
}

/// Reports that the configuration is being reloaded. [`ready`] follows when it is done, also if it failed.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        _ if IS_STOPPING.load(Ordering::Relaxed) => {}
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => log::warn!("cannot notify the service manager of a reload: {error}"),
    }
}

/// Reports that the service is stopping. Later calls of [`ready`] and [`reloading`] are ignored.
pub fn stopping() {
    IS_STOPPING.store(true, Ordering::Relaxed);
    notify(&[NotifyState::Stopping, NotifyState::Status("Finishing requests in progress")]);
}

/// Sets the status line of the service.
pub fn status(text: &str) {
    notify(&[NotifyState::Status(text)]);
}

/// Reports that this process replaces its predecessor as the main process.
pub fn succeed() {
    notify(&[NotifyState::MainPid(std::process::id()), NotifyState::Ready]);
}

/// Turns notifications off while a successor notifies for the service, or on again.
pub fn set_silent(is_silent: bool) {
    IS_SILENT.store(is_silent, Ordering::Relaxed);
}

/// The watchdog of the service manager, fed while the event loops of all workers run.
#[derive(Clone)]
pub struct Watchdog {
    /// The time without a notification after which the manager acts.
    pub timeout: Duration,
    /// For each event loop, whether it has run since the last time, which the loop sets.
    heartbeats: Arc<Mutex<Vec<Arc<AtomicBool>>>>,
}

impl Watchdog {
    /// The watchdog that the environment or the predecessor names; `None` if there is none.
    pub fn find(of_predecessor: Option<Duration>) -> Option<Self> {
        let timeout = sd_notify::watchdog_enabled().or(of_predecessor)?;
        (timeout >= TIMEOUT_MIN).then(|| Self { timeout, heartbeats: Arc::default() })
    }

    /// A task for one more event loop, to be spawned on it. It counts as long as the loop runs.
    pub fn heartbeat(&self) -> impl Future<Output = ()> + 'static {
        let has_run = Arc::new(AtomicBool::new(true));
        self.heartbeats.lock().push(Arc::clone(&has_run));
        let every = self.timeout / BEATS;
        async move {
            loop {
                has_run.store(true, Ordering::Relaxed);
                tokio::time::sleep(every).await;
            }
        }
    }

    /// Notifies the watchdog at half its timeout if all event loops have run since the last time. Never returns.
    pub async fn feed(self) {
        let mut ticks = tokio::time::interval(self.timeout / 2);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.all_have_run() {
                notify(&[NotifyState::Watchdog]);
            } else {
                log::error!(
                    "the event loop of a worker has not run for {:?}: the watchdog is not notified",
                    self.timeout / 2
                );
            }
        }
    }

    fn all_have_run(&self) -> bool {
        let heartbeats = self.heartbeats.lock();
        heartbeats.iter().filter(|has_run| !has_run.swap(false, Ordering::Relaxed)).count() == 0
    }
}

fn notify(states: &[NotifyState<'_>]) {
    let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|_| !IS_SILENT.load(Ordering::Relaxed)) else {
        return;
    };
    let text: String = states.iter().map(|state| format!("{state}\n")).collect();
    if let Err(error) = send(&name, text.as_bytes()) {
        log::warn!("cannot notify the service manager of {:?}: {error}", text.trim_end());
    }
}

/// Sends one datagram. A name that begins with `@` is abstract, which `sd_notify` does not support.
fn send(name: &OsStr, text: &[u8]) -> io::Result<()> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    socket.send_to_addr(text, &address).map(drop)
}

static IS_SILENT: AtomicBool = AtomicBool::new(false);
static IS_STOPPING: AtomicBool = AtomicBool::new(false);

/// Heartbeats within the timeout of the watchdog: four for each notification.
const BEATS: u32 = 8;

/// A shorter timeout is ignored.
const TIMEOUT_MIN: Duration = Duration::from_millis(10);

/// Time limit for a notification, so that a manager that does not read cannot delay requests.
const SEND_TIMEOUT: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_notified_only_while_every_event_loop_runs() {
        let watchdog = Watchdog { timeout: Duration::from_secs(8), heartbeats: Arc::default() };
        let heartbeats: Vec<_> = (0..2).map(|_| Arc::new(AtomicBool::new(false))).collect();
        watchdog.heartbeats.lock().extend(heartbeats.iter().cloned());
        for (beats, expected) in [
            ([0, 0], false),
            ([1, 1], true),
            ([1, 0], false),
            ([0, 1], false),
            ([0, 0], false),
            ([3, 1], true),
        ] {
            for (has_run, beats) in heartbeats.iter().zip(beats) {
                (0..beats).for_each(|_| has_run.store(true, Ordering::Relaxed));
            }
            assert_eq!(watchdog.all_have_run(), expected, "{beats:?}");
        }
    }

    #[test]
    fn a_manager_is_notified_by_path_and_by_abstract_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("pagecast-test-{}", std::process::id());
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        for (socket, address) in [(by_path, path.into_os_string()), (by_name, format!("@{name}").into())] {
            send(&address, b"READY=1\n").unwrap();
            let mut got = [0; 64];
            let length = socket.recv(&mut got).unwrap();
            assert_eq!(&got[..length], b"READY=1\n");
        }
    }
}
