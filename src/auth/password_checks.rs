//! Password checks, which are limited in number, and a cache of right passwords.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use moka::future::Cache;
use sha2::Sha256;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::credential_files::passwords::{PasswordHash, Passwords};
use crate::http::credentials::Login;
use crate::limits::clients::{ClientState, CountedSlot};
use crate::sys::blocking_pool::BlockingPool;
use crate::sys::gcra::{Quota, RateClock};
use crate::sys::random::random_key;
use crate::telemetry::metrics::counter::Counter;

/// Threads that check passwords, and a queue for them.
///
/// Decision: docs/decisions/029-password-checks.md.
pub(crate) struct PasswordChecks {
    pool: BlockingPool,
    /// Maximum number of concurrent checks.
    pub(crate) threads: usize,
    permits: Arc<Semaphore>,
    /// Checks that wait for a thread.
    pub(crate) waiting: AtomicUsize,
    /// Checks that had to wait for a thread.
    pub(crate) waits: Counter,
    /// Checks for which no thread became free in time.
    pub(crate) refused: Counter,
}

/// Logins whose passwords were right, by keyed hashes: neither names nor passwords are stored, and only this process has the key.
pub(super) struct VerifiedPasswords {
    right: Cache<[u8; 32], Arc<str>>,
    key: [u8; 32],
}

/// A client, and the limit on its wrong attempts.
#[derive(Clone)]
pub(super) struct ClientAttempts {
    pub(super) client: Arc<ClientState>,
    /// `None`: no limit.
    pub(super) rate: Option<Quota>,
    pub(super) clock: RateClock,
}

impl ClientAttempts {
    /// Seconds until the client may try again, because it had too many wrong attempts; `None` if it may now.
    pub(super) fn wait(&self) -> Option<u64> {
        self.rate.and(self.client.attempts.wait(self.clock.now()))
    }

    pub(super) fn count_wrong(&self) {
        if let Some(rate) = self.rate {
            self.client.attempts.count_wrong(rate, self.clock.now());
        }
    }
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
        client: &ClientAttempts,
    ) -> Result<Arc<str>, NoCheck> {
        let is_too_long = login.password.len() > PASSWORD_MAX || login.name.len() > PASSWORD_MAX;
        let found = passwords.get(&login.name);
        // An unknown name takes as long as some known one, always the same.
        let stand_in = || passwords.select(self.number_of(&login.name));
        let hash = if is_too_long { None } else { found.map(|(_, hash)| hash).or_else(stand_in) };
        let Some(hash) = hash.cloned() else {
            client.count_wrong();
            return Err(NoCheck::Wrong);
        };
        let name = found.map(|(name, _)| Arc::clone(name));
        let key = self.digest(&login);
        let check = async move {
            let is_right = checks.run(hash, login.password, name.is_some(), client.clone()).await?;
            name.filter(|_| is_right).ok_or(NoCheck::Wrong)
        };
        self.right.try_get_with(key, check).await.map_err(|why| *why)
    }

    fn digest(&self, login: &Login) -> [u8; 32] {
        // A name contains no colon.
        self.mac(&[&login.name, b":", &login.password])
    }

    /// A number for a name that only this process can compute. No login has the same digest: it contains a colon.
    fn number_of(&self, name: &[u8]) -> u64 {
        self.mac(&[name]).first_chunk().map_or(0, |number| u64::from_ne_bytes(*number))
    }

    fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.key).unwrap_or_else(|_| Hmac::new(&Default::default()));
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    }
}

impl PasswordChecks {
    pub(super) fn new(threads: usize) -> io::Result<Self> {
        let threads = threads.max(1);
        Ok(Self {
            pool: BlockingPool::new("pagecast-login", threads, NICENESS)?,
            threads,
            permits: Arc::new(Semaphore::new(threads)),
            waiting: AtomicUsize::new(0),
            waits: Counter::default(),
            refused: Counter::default(),
        })
    }

    /// Checks in progress.
    pub(crate) fn under_way(&self) -> usize {
        self.threads.saturating_sub(self.permits.available_permits())
    }

    /// Whether `hash` is that of `password`. Never true for the hash of another name, which only takes as long (`is_known` is
    /// false). A wrong password is counted even if the request is cancelled.
    async fn run(
        &self,
        hash: Arc<PasswordHash>,
        password: Vec<u8>,
        is_known: bool,
        client: ClientAttempts,
    ) -> Result<bool, NoCheck> {
        let permit = self.permit().await.ok_or(NoCheck::Busy)?;
        // Others of its attempts may have been wrong while this one waited.
        if client.wait().is_some() {
            return Err(NoCheck::NotAllowed);
        }
        let job = self.pool.run(move || {
            let _permit = permit;
            let is_right = hash.is_of(&password) & is_known;
            if !is_right {
                client.count_wrong();
            }
            is_right
        });
        // The hook has logged a panic, which admits nobody.
        Ok(job.await.unwrap_or(false))
    }

    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Some(permit);
        }
        let waiting_max = self.threads.saturating_mul(WAITING_PER_THREAD);
        let permit = match CountedSlot::take(self, |checks| &checks.waiting, waiting_max) {
            Some(_waiting) => {
                self.waits.add_shared(1);
                tokio::time::timeout(PERMIT_WAIT, Arc::clone(&self.permits).acquire_owned()).await.ok()
            }
            None => None,
        };
        let permit = permit.and_then(Result::ok);
        if permit.is_none() {
            self.refused.add_shared(1);
        }
        permit
    }
}

/// Maximum number of remembered logins, 150 bytes each.
const KNOWN_MAX: u64 = 4096;

/// A longer name or password is wrong, without a check.
const PASSWORD_MAX: usize = 512;

/// Time for which a check waits for a thread.
const PERMIT_WAIT: Duration = Duration::from_secs(1);

/// Maximum number of waiting checks per thread: more would not get one in time.
const WAITING_PER_THREAD: usize = 32;

/// Checks must not delay serving.
const NICENESS: i32 = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CredentialFiles;
    use crate::sys::gcra::SECOND;
    use std::sync::Mutex;
    use std::sync::atomic::Ordering;

    fn passwords(lines: &[(&str, &str)]) -> Arc<Passwords> {
        let line =
            |(name, password): &(&str, &str)| format!("{name}:{}\n", bcrypt::hash(password, 4).unwrap());
        CredentialFiles::of_passwords(&lines.iter().map(line).collect::<String>()).passwords
    }

    fn login(name: &str, password: &str) -> Login {
        Login { name: name.into(), password: password.into() }
    }

    /// A client that may be wrong `burst` times.
    fn client(burst: u64) -> ClientAttempts {
        let rate = Some(Quota::new(3600 * SECOND, burst));
        ClientAttempts { client: Arc::default(), rate, clock: RateClock::default() }
    }

    /// The number of wrong attempts of a client that may be wrong 100 times. Uses up the rest.
    fn wrong_attempts(client: &ClientAttempts) -> usize {
        100 - std::iter::from_fn(|| client.wait().is_none().then(|| client.count_wrong())).count()
    }

    #[tokio::test]
    async fn a_name_is_known_by_its_own_password_and_wrong_ones_are_counted() {
        let (checks, known) =
            (PasswordChecks::new(2).unwrap(), VerifiedPasswords::new(Duration::from_secs(60)));
        let passwords = passwords(&[("alice", "one"), ("bob", "two")]);
        let client = client(100);
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
            let found = known.name_of(login(name, password), &passwords, &checks, &client).await;
            assert_eq!(found.as_deref(), expected.as_deref(), "{name} {password}");
        }
        let nobody = Passwords::default();
        let found = known.name_of(login("alice", "two"), &nobody, &checks, &client).await;
        assert_eq!(found, Err(NoCheck::Wrong));
        assert_eq!(wrong_attempts(&client), 7);
    }

    #[tokio::test]
    async fn concurrent_logins_share_a_check_and_right_passwords_are_remembered() {
        let (checks, known) =
            (PasswordChecks::new(1).unwrap(), VerifiedPasswords::new(Duration::from_secs(60)));
        let passwords = passwords(&[("alice", "one")]);
        for (password, expected) in [("one", 0), ("two", 1)] {
            let client = client(100);
            let ask = || known.name_of(login("alice", password), &passwords, &checks, &client);
            // The check begins when all have asked: one that is over at once is shared by none.
            let permit = checks.permits.acquire().await.unwrap();
            let all = futures_util::future::join_all((0..20).map(|_| ask()));
            let (found, ()) = futures_util::future::join(all, async { drop(permit) }).await;
            assert!(found.iter().all(|found| found.is_ok() == (expected == 0)));
            assert_eq!(wrong_attempts(&client), expected);
        }
        // Without a free thread only remembered passwords are known.
        let _all = checks.permits.acquire().await.unwrap();
        let (client, waits) = (client(100), checks.waits.get());
        assert!(known.name_of(login("alice", "one"), &passwords, &checks, &client).await.is_ok());
        let other = known.name_of(login("alice", "three"), &passwords, &checks, &client).await;
        assert_eq!(other, Err(NoCheck::Busy));
        assert_eq!((checks.waits.get() - waits, checks.refused.get()), (1, 1));
    }

    #[tokio::test]
    async fn without_a_time_no_password_is_remembered() {
        let (checks, known) = (PasswordChecks::new(1).unwrap(), VerifiedPasswords::new(Duration::ZERO));
        let passwords = passwords(&[("alice", "one")]);
        let client = client(100);
        assert!(known.name_of(login("alice", "one"), &passwords, &checks, &client).await.is_ok());
        let _all = checks.permits.acquire().await.unwrap();
        let again = known.name_of(login("alice", "one"), &passwords, &checks, &client).await;
        assert_eq!(again, Err(NoCheck::Busy));
    }

    #[tokio::test]
    async fn a_client_that_was_wrong_too_often_while_it_waited_is_not_checked() {
        let (checks, known) =
            (PasswordChecks::new(1).unwrap(), VerifiedPasswords::new(Duration::from_secs(60)));
        let passwords = passwords(&[("alice", "one")]);
        let client = client(1);
        client.count_wrong();
        let found = known.name_of(login("alice", "one"), &passwords, &checks, &client).await;
        assert_eq!(found, Err(NoCheck::NotAllowed));
    }

    #[tokio::test]
    async fn no_more_checks_wait_than_could_get_a_thread_in_time() {
        let checks = PasswordChecks::new(1).unwrap();
        let _all = checks.permits.acquire().await.unwrap();
        let first_refused = Mutex::new(None);
        let requests = (0..=WAITING_PER_THREAD).map(|number| {
            let (checks, first_refused) = (&checks, &first_refused);
            async move {
                assert!(checks.permit().await.is_none());
                first_refused.lock().unwrap().get_or_insert(number);
            }
        });
        futures_util::future::join_all(requests).await;
        assert_eq!(*first_refused.lock().unwrap(), Some(WAITING_PER_THREAD), "it did not wait");
        assert_eq!(checks.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_check_of_a_cancelled_request_counts() {
        let checks = Arc::new(PasswordChecks::new(1).unwrap());
        let client = client(100);
        let passwords = passwords(&[("alice", "one")]);
        let hash = Arc::clone(passwords.get(b"alice").unwrap().1);
        {
            let check = std::pin::pin!(checks.run(hash, b"two".to_vec(), true, client.clone()));
            // Started, and cancelled.
            let _ = futures_util::poll!(check);
        }
        let _permit = checks.permits.acquire().await.unwrap();
        assert_eq!(wrong_attempts(&client), 1);
    }
}
