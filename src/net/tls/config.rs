//! TLS as it is configured: certificates by name, and what every handshake has in common.
//!
//! | room           | what it knows                                                     |
//! |----------------|-------------------------------------------------------------------|
//! | `certificates` | chains and keys as their files hold them                          |
//! | `names`        | which of them a client asks for                                   |
//! | `validity`     | until when a certificate is valid                                 |

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{Config, TlsVersion};
use crate::net::tls::certificates::Certificates;
use crate::telemetry::log_throttle::SampledCounter;

/// What all TLS listeners share. Cheap to clone; every clone is the same.
#[derive(Clone)]
pub struct Tls {
    inner: Arc<Inner>,
}

struct Inner {
    config: Arc<ServerConfig>,
    current: Arc<CurrentCertificates>,
    handshakes_at_once: usize,
    turns: Arc<Semaphore>,
    handshakes: AtomicU64,
    failures: SampledCounter,
    bad_certificates: AtomicU64,
}

/// What became of handshakes and certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsCounts {
    /// Handshakes that ended in a session since the start.
    pub(crate) handshakes: u64,
    /// Handshakes that did not.
    pub(crate) failures: u64,
    /// Handshakes under way.
    pub(crate) in_progress: usize,
    /// As many may be.
    pub(crate) limit: usize,
    /// How often certificates were read anew and would not do, since the start.
    pub(crate) bad_certificates: u64,
    /// The first name of each certificate, and the second of the Unix epoch after which it is no longer valid.
    pub(crate) certificates: Vec<(String, i64)>,
}

impl Tls {
    /// What `config` says, with these certificates.
    ///
    /// # Errors
    /// Where the system has no random numbers for the keys of tickets.
    pub(crate) fn new(config: &Config, certificates: Certificates) -> io::Result<Self> {
        let current = Arc::new(CurrentCertificates(ArcSwap::from_pointee(certificates)));
        let at_once = config.tls.tls_handshakes.as_usize();
        let inner = Inner {
            config: Arc::new(server_config(config, &current)?),
            current,
            handshakes_at_once: at_once,
            turns: Arc::new(Semaphore::new(at_once.min(Semaphore::MAX_PERMITS))),
            handshakes: AtomicU64::new(0),
            failures: SampledCounter::default(),
            bad_certificates: AtomicU64::new(0),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The certificates in effect.
    pub(crate) fn certificates(&self) -> Arc<Certificates> {
        self.inner.current.0.load_full()
    }

    /// From now on handshakes find `certificates`. Sessions under way keep what they have.
    pub(crate) fn replace(&self, certificates: Certificates) {
        self.inner.current.0.store(Arc::new(certificates));
    }

    /// Certificates were read anew and will not do.
    pub(crate) fn count_bad_certificates(&self) {
        self.inner.bad_certificates.fetch_add(1, Ordering::Relaxed);
    }

    /// What every session begins with.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.inner.config)
    }

    /// Waits for a place among the handshakes under way; none where the server has ended.
    pub(crate) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.inner.turns).acquire_owned().await.ok()
    }

    /// A handshake has ended in a session.
    pub(crate) fn count_handshake(&self) {
        self.inner.handshakes.fetch_add(1, Ordering::Relaxed);
    }

    /// The handshake with somebody has failed.
    pub(crate) fn count_failure(&self, who: impl FnOnce() -> String, why: &str) {
        let (number, is_told) = self.inner.failures.count();
        let level = if is_told { log::Level::Warn } else { log::Level::Debug };
        if log::log_enabled!(level) {
            log::log!(level, "{}: a TLS handshake failed, number {number}: {why}", who());
        }
    }

    /// What became of handshakes and certificates.
    pub(crate) fn counts(&self) -> TlsCounts {
        let inner = &self.inner;
        let limit = inner.handshakes_at_once;
        TlsCounts {
            handshakes: inner.handshakes.load(Ordering::Relaxed),
            failures: inner.failures.get(),
            in_progress: limit.saturating_sub(inner.turns.available_permits()),
            limit,
            bad_certificates: inner.bad_certificates.load(Ordering::Relaxed),
            certificates: self.certificates().expiries().collect(),
        }
    }
}

/// Every worker's sessions are resumed by every other one: tickets hold all that a session needs, and their keys are shared and
/// changed every few hours. Requests before the end of a handshake (0-RTT) are never taken: who hears them can repeat them.
fn server_config(config: &Config, current: &Arc<CurrentCertificates>) -> io::Result<ServerConfig> {
    let versions = match config.tls.tls_min_version {
        TlsVersion::V12 => &[&TLS13, &TLS12][..],
        TlsVersion::V13 => &[&TLS13],
    };
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .map_err(io::Error::other)?;
    let certificates = Arc::clone(current) as Arc<dyn ResolvesServerCert>;
    let mut server = builder.with_no_client_auth().with_cert_resolver(certificates);
    server.ticketer = aws_lc_rs::Ticketer::new().map_err(io::Error::other)?;
    server.session_storage = Arc::new(NoServerSessionStorage {});
    // The first that the client offers as well is taken.
    let http2 = config.http2.http2.is_on().then_some(ALPN_HTTP2);
    server.alpn_protocols = http2.into_iter().chain([ALPN_HTTP11]).map(<[u8]>::to_vec).collect();
    Ok(server)
}

/// What a client says that speaks HTTP/2 (RFC 9113 §3.2).
pub(crate) const ALPN_HTTP2: &[u8] = b"h2";

/// And HTTP/1.1 (RFC 7301 §6).
const ALPN_HTTP11: &[u8] = b"http/1.1";

/// The certificates that handshakes find.
#[derive(Debug)]
struct CurrentCertificates(ArcSwap<Certificates>);

impl ResolvesServerCert for CurrentCertificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load().choose(hello.server_name()))
    }
}
