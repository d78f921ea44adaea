//! TLS settings and certificates that all handshakes share.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use tokio::sync::Semaphore;

use crate::config::{Config, TlsVersion};
use crate::net::tls::certificates::Certificates;
use crate::telemetry::log_throttle::SampledCounter;

/// State shared by all TLS listeners: rustls configuration, certificates, permits for handshakes and counters.
pub struct Tls {
    /// The settings of every session.
    pub(super) config: Arc<ServerConfig>,
    current: Arc<CurrentCertificates>,
    handshakes_at_once: usize,
    /// The permits of handshakes that may still begin.
    pub(super) permits: Semaphore,
    /// Completed handshakes.
    pub(super) handshakes: AtomicU64,
    failures: SampledCounter,
    /// Failed reloads of certificates.
    pub(crate) bad_certificates: AtomicU64,
}

/// Counts of handshakes and certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsCounts {
    /// Completed handshakes since the start.
    pub(crate) handshakes: u64,
    /// Failed handshakes since the start.
    pub(crate) failures: u64,
    /// Handshakes under way.
    pub(crate) in_progress: usize,
    /// Most handshakes under way at once.
    pub(crate) limit: usize,
    /// Failed reloads of certificates since the start.
    pub(crate) bad_certificates: u64,
    /// The first name of each certificate, and its last valid second in seconds since the Unix epoch.
    pub(crate) certificates: Vec<(String, i64)>,
}

impl Tls {
    /// The TLS settings of `config` with `certificates`.
    ///
    /// # Errors
    /// If the system has no random numbers for the keys of session tickets.
    pub(crate) fn new(config: &Config, certificates: Certificates) -> io::Result<Self> {
        let current = Arc::new(CurrentCertificates(ArcSwap::from_pointee(certificates)));
        let at_once = config.tls.tls_handshakes.as_usize();
        Ok(Self {
            config: Arc::new(server_config(config, &current)?),
            current,
            handshakes_at_once: at_once,
            permits: Semaphore::new(at_once.min(Semaphore::MAX_PERMITS)),
            handshakes: AtomicU64::default(),
            failures: SampledCounter::default(),
            bad_certificates: AtomicU64::default(),
        })
    }

    /// The certificates in effect.
    pub(crate) fn certificates(&self) -> Arc<Certificates> {
        self.current.0.load_full()
    }

    /// Replaces the certificates of handshakes from now on. Sessions under way keep theirs.
    pub(crate) fn replace(&self, certificates: Certificates) {
        self.current.0.store(Arc::new(certificates));
    }

    /// Counts and logs a failed handshake with the peer named by `peer`.
    pub(super) fn count_failure(&self, peer: impl FnOnce() -> String, reason: &str) {
        let (number, is_due) = self.failures.count();
        let level = if is_due { log::Level::Warn } else { log::Level::Debug };
        if log::log_enabled!(level) {
            log::log!(level, "{}: a TLS handshake failed, number {number}: {reason}", peer());
        }
    }

    /// Counts of handshakes and certificates.
    pub(crate) fn counts(&self) -> TlsCounts {
        TlsCounts {
            handshakes: self.handshakes.load(Ordering::Relaxed),
            failures: self.failures.get(),
            in_progress: self.handshakes_at_once.saturating_sub(self.permits.available_permits()),
            limit: self.handshakes_at_once,
            bad_certificates: self.bad_certificates.load(Ordering::Relaxed),
            certificates: self.certificates().expiries().collect(),
        }
    }
}

/// A session can be resumed on any worker: tickets hold all that it needs, and their keys are shared and change every
/// few hours. Requests before the end of a handshake (0-RTT) are never accepted: an eavesdropper could replay them.
///
/// Decision: docs/decisions/042-tls-library.md.
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
    // The first one that the client offers, too, is negotiated.
    let http2 = config.http2.http2.is_on().then_some(ALPN_HTTP2);
    server.alpn_protocols = http2.into_iter().chain([ALPN_HTTP11]).map(<[u8]>::to_vec).collect();
    Ok(server)
}

/// The ALPN name of HTTP/2 (RFC 9113 §3.2).
pub(crate) const ALPN_HTTP2: &[u8] = b"h2";

/// The ALPN name of HTTP/1.1 (RFC 7301 §6).
const ALPN_HTTP11: &[u8] = b"http/1.1";

/// The certificates of new handshakes.
#[derive(Debug)]
struct CurrentCertificates(ArcSwap<Certificates>);

impl ResolvesServerCert for CurrentCertificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load().choose(hello.server_name()))
    }
}
