//! What a service manager is told (sd_notify(3)), and its watchdog.
//!
//! Nothing is told where nobody listens (`NOTIFY_SOCKET`), nor once a successor speaks for the service: what this process
//! said would be taken for the successor's word.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sd_notify::NotifyState;

/// It serves: at first, and after [`reloading`].
pub fn ready() {
    if !IS_STOPPING.load(Ordering::Relaxed) {
        tell(&[NotifyState::Ready]);
    }
}

/// The configuration is read again; [`ready`] says that it is done, whatever came of it.
pub fn reloading() {
    if IS_STOPPING.load(Ordering::Relaxed) {
        return;
    }
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => log::warn!("the service manager can't be told of a reload: {error}"),
    }
}

/// It stops. Of a reload under way nothing more is told.
pub fn stopping() {
    IS_STOPPING.store(true, Ordering::Relaxed);
    tell(&[NotifyState::Stopping, NotifyState::Status("Finishing what is under way")]);
}

/// A line for whoever asks how it is.
pub fn status(text: &str) {
    tell(&[NotifyState::Status(text)]);
}

/// This process is the service from now on, and not its predecessor.
pub fn succeed() {
    tell(&[NotifyState::MainPid(std::process::id()), NotifyState::Ready]);
}

/// Whether a successor speaks for the service from now on.
pub fn set_silent(is_silent: bool) {
    IS_SILENT.store(is_silent, Ordering::Relaxed);
}

/// The service manager's watchdog: it is told that all is well while every worker's event loop turns.
#[derive(Clone)]
pub struct Watchdog {
    /// The time without a word after which the manager acts.
    timeout: Duration,
    hearts: Arc<Mutex<Vec<Arc<AtomicU64>>>>,
}

impl Watchdog {
    /// The watchdog that this process is to feed, as the environment or the predecessor says.
    pub fn find(of_predecessor: Option<Duration>) -> Option<Self> {
        let timeout = sd_notify::watchdog_enabled().or(of_predecessor)?;
        (timeout >= TIMEOUT_MIN).then(|| Self { timeout, hearts: Arc::default() })
    }

    /// The time without a word after which the manager acts.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The heart of one event loop, which beats on it as long as it turns.
    pub fn heart(&self) -> impl Future<Output = ()> + 'static {
        let heart = Arc::new(AtomicU64::new(1));
        self.hearts.lock().push(Arc::clone(&heart));
        let every = self.timeout / BEATS;
        async move {
            loop {
                heart.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(every).await;
            }
        }
    }

    /// Feeds the watchdog at half its time, whenever all hearts have beaten since the last time.
    pub async fn feed(self) {
        let mut ticks = tokio::time::interval(self.timeout / 2);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last = Vec::new();
        loop {
            ticks.tick().await;
            if self.all_have_beaten(&mut last) {
                tell(&[NotifyState::Watchdog]);
            } else {
                log::error!("a worker has not moved for {:?}: the watchdog is not fed", self.timeout / 2);
            }
        }
    }

    fn all_have_beaten(&self, last: &mut Vec<u64>) -> bool {
        let now: Vec<u64> = self.hearts.lock().iter().map(|heart| heart.load(Ordering::Relaxed)).collect();
        let before = last.iter().copied().chain(std::iter::repeat(0));
        let all = now.iter().zip(before).all(|(now, before)| *now > before);
        *last = now;
        all
    }
}

fn tell(states: &[NotifyState<'_>]) {
    let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|_| !IS_SILENT.load(Ordering::Relaxed)) else {
        return;
    };
    let text: String = states.iter().map(|state| format!("{state}\n")).collect();
    if let Err(error) = send(&name, text.as_bytes()) {
        log::warn!("the service manager can't be told {:?}: {error}", text.trim_end());
    }
}

/// Sends one datagram. A name that begins with `@` is abstract, which the crate's own sending does not know.
fn send(name: &OsStr, text: &[u8]) -> io::Result<()> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.send_to_addr(text, &address).map(drop)
}

static IS_SILENT: AtomicBool = AtomicBool::new(false);
static IS_STOPPING: AtomicBool = AtomicBool::new(false);

/// Beats of a heart within the watchdog's time: four for each time that it is fed.
const BEATS: u32 = 8;

/// A time that short is no watchdog's.
const TIMEOUT_MIN: Duration = Duration::from_millis(10);

/// For a manager that does not read: its word must not hold up what is served.
const PATIENCE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_fed_only_while_every_heart_beats() {
        let watchdog = Watchdog { timeout: Duration::from_secs(8), hearts: Arc::default() };
        let hearts: Vec<_> = (0..2).map(|_| Arc::new(AtomicU64::new(0))).collect();
        watchdog.hearts.lock().extend(hearts.iter().cloned());
        let mut last = Vec::new();
        for (beats, expected) in [
            ([0, 0], false),
            ([1, 1], true),
            ([1, 0], false),
            ([0, 1], false),
            ([0, 0], false),
            ([3, 1], true),
        ] {
            for (heart, beats) in hearts.iter().zip(beats) {
                heart.fetch_add(beats, Ordering::Relaxed);
            }
            assert_eq!(watchdog.all_have_beaten(&mut last), expected, "{beats:?}");
        }
    }

    #[test]
    fn a_manager_is_told_by_path_and_by_abstract_name() {
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
