//! Password checks: how many at once, and which passwords were right lately.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use moka::future::Cache;
use sha2::Sha256;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{PasswordHash, Passwords};
use crate::http::credentials::Login;
use crate::sys::blocking_pool::BlockingPool;
use crate::sys::random::random_key;

/// Threads that check passwords, and a queue for them.
///
/// Decision: docs/decisions/029-password-checks.md.
pub(super) struct PasswordChecks {
    pool: BlockingPool,
    threads: usize,
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    waits: AtomicU64,
    refused: AtomicU64,
}

/// Counts of password checks, now and since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckCounts {
    /// Checks under way.
    pub under_way: usize,
    /// How many there may be at once.
    pub limit: usize,
    /// Checks that wait for a thread.
    pub waiting: usize,
    /// Checks that had to wait for a thread.
    pub waits: u64,
    /// Checks that found none in time.
    pub refused: u64,
}

/// Passwords that were right, by a hash that nobody can make who does not have this process's key. Neither a name nor a password is
/// kept.
pub(super) struct VerifiedPasswords {
    right: Cache<[u8; 32], Arc<str>>,
    key: [u8; 32],
}

/// What a check has to know and do about its client.
pub(super) struct CheckAttempt {
    /// True if the client may still try; called again once there is a thread.
    pub(super) is_still_allowed: Box<dyn Fn() -> bool + Send>,
    /// Called if the password is wrong, even after the client has gone.
    pub(super) count_wrong: Box<dyn FnOnce() + Send>,
}

/// Why a name and a password identify no user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoCheck {
    /// Unknown name or wrong password.
    Wrong,
    /// The client was wrong too often meanwhile.
    NotAllowed,
    /// No thread became free in time.
    Busy,
}

impl VerifiedPasswords {
    /// Remembers right passwords for `time`.
    pub(super) fn new(time: Duration) -> Self {
        let entries = if time.is_zero() { 0 } else { KNOWN_MAX };
        let right = Cache::builder().max_capacity(entries).time_to_live(time).build();
        Self { right, key: random_key() }
    }

    /// Returns the user's name if the password is right. Concurrent requests with the same login share one check.
    ///
    /// # Errors
    /// Why the user is not known.
    pub(super) async fn name_of(
        &self,
        login: Login,
        passwords: &Passwords,
        checks: &PasswordChecks,
        attempt: CheckAttempt,
    ) -> Result<Arc<str>, NoCheck> {
        if login.password.len() > PASSWORD_MAX || login.name.len() > PASSWORD_MAX {
            (attempt.count_wrong)();
            return Err(NoCheck::Wrong);
        }
        let key = self.digest(&login);
        let found = passwords.get(&login.name).map(|(name, hash)| (Arc::clone(name), Arc::clone(hash)));
        // An unknown name costs what some known one does, and always the same.
        let stand_in = || passwords.select(self.number_of(&login.name)).cloned();
        let (name, hash) = match found {
            Some((name, hash)) => (Some(name), Some(hash)),
            None => (None, stand_in()),
        };
        let Some(hash) = hash else {
            (attempt.count_wrong)();
            return Err(NoCheck::Wrong);
        };
        let check = async move {
            let is_right = checks.run(hash, login.password, name.is_some(), attempt).await?;
            name.filter(|_| is_right).ok_or(NoCheck::Wrong)
        };
        self.right.try_get_with(key, check).await.map_err(|why| *why)
    }

    fn digest(&self, login: &Login) -> [u8; 32] {
        let mut mac = self.mac();
        // The name has no colon in it.
        mac.update(&login.name);
        mac.update(b":");
        mac.update(&login.password);
        mac.finalize().into_bytes().into()
    }

    /// A number for a name that only this process can compute. No login has the same digest: there is no colon.
    fn number_of(&self, name: &[u8]) -> u64 {
        let mut mac = self.mac();
        mac.update(name);
        let digest: [u8; 32] = mac.finalize().into_bytes().into();
        digest.first_chunk().map_or(0, |number| u64::from_ne_bytes(*number))
    }

    fn mac(&self) -> Hmac<Sha256> {
        match Hmac::new_from_slice(&self.key) {
            Ok(mac) => mac,
            Err(_) => Hmac::new(&Default::default()),
        }
    }
}

impl PasswordChecks {
    pub(super) fn new(threads: usize) -> io::Result<Self> {
        let threads = threads.max(1);
        Ok(Self {
            pool: BlockingPool::new("pagecast-login", threads, NICENESS)?,
            threads,
            places: Arc::new(Semaphore::new(threads)),
            waiting: AtomicUsize::new(0),
            waits: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    pub(super) fn counts(&self) -> CheckCounts {
        CheckCounts {
            under_way: self.threads.saturating_sub(self.places.available_permits()),
            limit: self.threads,
            waiting: self.waiting.load(Ordering::Relaxed),
            waits: self.waits.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    /// Whether `password` is that of `hash`; where the hash only stands in for one (`counts` is false), the answer is no.
    async fn run(
        &self,
        hash: Arc<PasswordHash>,
        password: Vec<u8>,
        counts: bool,
        attempt: CheckAttempt,
    ) -> Result<bool, NoCheck> {
        let place = self.place().await.ok_or(NoCheck::Busy)?;
        if !(attempt.is_still_allowed)() {
            return Err(NoCheck::NotAllowed);
        }
        let count_wrong = attempt.count_wrong;
        let job = self.pool.run(move || {
            let _place = place;
            let is_right = hash.is_of(&password) & counts;
            if !is_right {
                count_wrong();
            }
            is_right
        });
        // A panic has been logged by its hook, and nobody is let in by one.
        Ok(job.await.unwrap_or(false))
    }

    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Some(place);
        }
        let waiting = QueuedCheck::begin(self);
        let place = if waiting.is_one_too_many() {
            None
        } else {
            self.waits.fetch_add(1, Ordering::Relaxed);
            tokio::time::timeout(PLACE_WAIT, Arc::clone(&self.places).acquire_owned()).await.ok()
        };
        let place = place.and_then(Result::ok);
        if place.is_none() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        place
    }
}

/// A check that waits for a thread, until it is dropped.
struct QueuedCheck<'a> {
    checks: &'a PasswordChecks,
    before: usize,
}

impl<'a> QueuedCheck<'a> {
    fn begin(checks: &'a PasswordChecks) -> Self {
        Self { checks, before: checks.waiting.fetch_add(1, Ordering::Relaxed) }
    }

    fn is_one_too_many(&self) -> bool {
        self.before >= self.checks.threads.saturating_mul(WAITING_PER_THREAD)
    }
}

impl Drop for QueuedCheck<'_> {
    fn drop(&mut self) {
        self.checks.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Names with passwords that are known at once, 150 bytes each.
const KNOWN_MAX: u64 = 4096;

/// A longer name or password is wrong, without a check.
const PASSWORD_MAX: usize = 512;

/// How long a check waits for a thread.
const PLACE_WAIT: Duration = Duration::from_secs(1);

/// Most checks that wait for each thread: more would not get one in time.
const WAITING_PER_THREAD: usize = 32;

/// Serving goes before checking.
const NICENESS: i32 = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CredentialFiles;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;

    fn passwords(lines: &[(&str, &str)]) -> Arc<Passwords> {
        let line =
            |(name, password): &(&str, &str)| format!("{name}:{}\n", bcrypt::hash(password, 4).unwrap());
        CredentialFiles::of_passwords(&lines.iter().map(line).collect::<String>()).passwords
    }

    fn login(name: &str, password: &str) -> Login {
        Login { name: name.into(), password: password.into() }
    }

    /// An attempt, and how many of its checks found the password wrong.
    fn attempt(wrong: &Arc<AtomicUsize>) -> CheckAttempt {
        let wrong = Arc::clone(wrong);
        CheckAttempt {
            is_still_allowed: Box::new(|| true),
            count_wrong: Box::new(move || {
                wrong.fetch_add(1, Ordering::Relaxed);
            }),
        }
    }

    #[tokio::test]
    async fn a_name_is_known_by_its_own_password_and_wrong_ones_are_counted() {
        let (checks, known) =
            (PasswordChecks::new(2).unwrap(), VerifiedPasswords::new(Duration::from_secs(60)));
        let passwords = passwords(&[("alice", "one"), ("bob", "two")]);
        let wrong = Arc::new(AtomicUsize::new(0));
        for (name, password, expected) in [
            ("alice", "one", Ok("alice")),
            ("alice", "one", Ok("alice")),
            ("bob", "two", Ok("bob")),
            ("alice", "two", Err(NoCheck::Wrong)),
            ("alice", "", Err(NoCheck::Wrong)),
            ("carol", "one", Err(NoCheck::Wrong)),
            ("dave", "two", Err(NoCheck::Wrong)),
            ("", "one", Err(NoCheck::Wrong)),
            ("alice", &"x".repeat(600), Err(NoCheck::Wrong)),
        ] {
            let found = known.name_of(login(name, password), &passwords, &checks, attempt(&wrong)).await;
            assert_eq!(found.as_deref(), expected.as_deref(), "{name} {password}");
        }
        assert_eq!(wrong.load(Ordering::Relaxed), 6);
        let nobody = Passwords::default();
        let found = known.name_of(login("alice", "two"), &nobody, &checks, attempt(&wrong)).await;
        assert_eq!(found, Err(NoCheck::Wrong));
    }

    #[tokio::test]
    async fn the_same_at_once_is_checked_once_and_what_was_right_not_again() {
        let (checks, known) =
            (PasswordChecks::new(1).unwrap(), VerifiedPasswords::new(Duration::from_secs(60)));
        let passwords = passwords(&[("alice", "one")]);
        let wrong = Arc::new(AtomicUsize::new(0));
        for (password, expected) in [("one", 0), ("two", 1)] {
            let ask = || known.name_of(login("alice", password), &passwords, &checks, attempt(&wrong));
            let found = futures_util::future::join_all((0..20).map(|_| ask())).await;
            assert!(found.iter().all(|found| found.is_ok() == (expected == 0)));
            assert_eq!(wrong.load(Ordering::Relaxed), expected);
        }
        // With no thread to be had what is known is known, and nothing else.
        let _all = checks.places.acquire().await.unwrap();
        let waits = checks.counts().waits;
        assert!(known.name_of(login("alice", "one"), &passwords, &checks, attempt(&wrong)).await.is_ok());
        let other = known.name_of(login("alice", "three"), &passwords, &checks, attempt(&wrong)).await;
        assert_eq!(other, Err(NoCheck::Busy));
        assert_eq!((checks.counts().waits - waits, checks.counts().refused), (1, 1));
    }

    #[tokio::test]
    async fn without_time_nothing_is_known_from_before() {
        let (checks, known) = (PasswordChecks::new(1).unwrap(), VerifiedPasswords::new(Duration::ZERO));
        let passwords = passwords(&[("alice", "one")]);
        let wrong = Arc::new(AtomicUsize::new(0));
        assert!(known.name_of(login("alice", "one"), &passwords, &checks, attempt(&wrong)).await.is_ok());
        let _all = checks.places.acquire().await.unwrap();
        let again = known.name_of(login("alice", "one"), &passwords, &checks, attempt(&wrong)).await;
        assert_eq!(again, Err(NoCheck::Busy));
    }

    #[tokio::test]
    async fn who_was_wrong_too_often_while_waiting_is_not_checked() {
        let (checks, known) =
            (PasswordChecks::new(1).unwrap(), VerifiedPasswords::new(Duration::from_secs(60)));
        let passwords = passwords(&[("alice", "one")]);
        let attempt = CheckAttempt { is_still_allowed: Box::new(|| false), count_wrong: Box::new(|| ()) };
        let found = known.name_of(login("alice", "one"), &passwords, &checks, attempt).await;
        assert_eq!(found, Err(NoCheck::NotAllowed));
    }

    #[tokio::test]
    async fn no_more_wait_than_could_be_served() {
        let checks = PasswordChecks::new(1).unwrap();
        let _all = checks.places.acquire().await.unwrap();
        let first_refused = Mutex::new(None);
        let asks = (0..=WAITING_PER_THREAD).map(|number| {
            let (checks, first_refused) = (&checks, &first_refused);
            async move {
                assert!(checks.place().await.is_none());
                first_refused.lock().unwrap().get_or_insert(number);
            }
        });
        futures_util::future::join_all(asks).await;
        assert_eq!(*first_refused.lock().unwrap(), Some(WAITING_PER_THREAD), "it did not wait");
        assert_eq!(checks.counts().waiting, 0);
    }

    #[tokio::test]
    async fn a_check_that_its_asker_left_counts_all_the_same() {
        let checks = Arc::new(PasswordChecks::new(1).unwrap());
        let was_wrong = Arc::new(AtomicBool::new(false));
        let attempt = CheckAttempt {
            is_still_allowed: Box::new(|| true),
            count_wrong: Box::new({
                let was_wrong = Arc::clone(&was_wrong);
                move || was_wrong.store(true, Ordering::Relaxed)
            }),
        };
        let passwords = passwords(&[("alice", "one")]);
        let hash = Arc::clone(passwords.get(b"alice").unwrap().1);
        {
            let check = std::pin::pin!(checks.run(hash, b"two".to_vec(), true, attempt));
            // Begun, and left.
            let _ = futures_util::poll!(check);
        }
        let _place = checks.places.acquire().await.unwrap();
        assert!(was_wrong.load(Ordering::Relaxed));
    }
}
