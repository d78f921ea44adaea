//! Helpers for TLS clients: an authority that they trust, certificates, and connections.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use crate::site::{PATIENCE, Reply, Server, Site};

/// A connection of a client that has verified the server.
pub type Secured<S = TcpStream> = StreamOwned<ClientConnection, S>;

/// The authority that every client trusts.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub certificate: CertificateDer<'static>,
    pub pem: String,
}

impl Authority {
    pub fn known() -> &'static Self {
        static KNOWN: OnceLock<Authority> = OnceLock::new();
        KNOWN.get_or_init(|| {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name.push(DnType::CommonName, "an authority");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let certificate = params.self_signed(&key).unwrap();
            let (der, pem) = (certificate.der().clone(), certificate.pem());
            Self { issuer: Issuer::new(params, key), certificate: der, pem }
        })
    }

    /// A certificate for these names and its key, in PEM.
    pub fn issue(&self, names: &[&str]) -> (String, String) {
        self.issue_until(names, 2200)
    }

    /// A certificate that is valid until that year begins.
    pub fn issue_until(&self, names: &[&str], year: i32) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "a server");
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// Certificates and keys as files, beside a site.
pub struct Files {
    pub directory: tempfile::TempDir,
}

impl Files {
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a new pair for these names as `name.pem` and `name.key`, each in one step.
    pub fn issue(&self, name: &str, names: &[&str]) {
        let (certificate, key) = Authority::known().issue(names);
        self.put(&format!("{name}.pem"), &certificate);
        self.put(&format!("{name}.key"), &key);
    }

    pub fn put(&self, name: &str, text: &str) {
        let next = self.path("next");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(next, self.path(name)).unwrap();
    }

    /// Paths of these pairs, in the form of the two settings.
    pub fn lists(&self, names: &[&str]) -> [String; 2] {
        ["pem", "key"].map(|end| {
            let paths = names.iter().map(|name| self.path(&format!("{name}.{end}")).display().to_string());
            paths.collect::<Vec<_>>().join(",")
        })
    }
}

/// The site with a TLS listener and a certificate for `localhost`.
pub fn secured(site: Site) -> (Site, Files) {
    let files = Files::new();
    files.issue("site", &["localhost"]);
    (with_pairs(site, &files, &["site"]), files)
}

/// The site with a TLS listener and these pairs.
pub fn with_pairs(site: Site, files: &Files, names: &[&str]) -> Site {
    let [chains, keys] = files.lists(names);
    site.env("PAGECAST_TLS_LISTEN", "127.0.0.1:0")
        .env("PAGECAST_TLS_CERT", &chains)
        .env("PAGECAST_TLS_KEY", &keys)
}

/// Options of a client.
#[derive(Clone)]
pub struct Wants {
    pub name: &'static str,
    pub config: Arc<ClientConfig>,
}

impl Wants {
    /// A client with these versions and protocols, without session resumption.
    pub fn of(versions: &[&'static SupportedProtocolVersion], protocols: &[&str]) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(Authority::known().certificate.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_protocol_versions(versions).unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        config.resumption = Resumption::disabled();
        Self { name: "localhost", config: Arc::new(config) }
    }

    pub fn usual() -> Self {
        Self::of(&[&TLS13, &TLS12], &[])
    }

    /// The same, with session resumption.
    pub fn resuming(self) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.resumption = Resumption::default();
        Self { config: Arc::new(config), ..self }
    }

    pub fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// A session over `stream` after its handshake.
    pub fn over<S: Read + Write>(&self, stream: S) -> std::io::Result<Secured<S>> {
        let name = ServerName::try_from(self.name).unwrap();
        let connection = ClientConnection::new(Arc::clone(&self.config), name).unwrap();
        let mut secured = StreamOwned::new(connection, stream);
        while secured.conn.is_handshaking() {
            secured.conn.complete_io(&mut secured.sock)?;
        }
        Ok(secured)
    }

    pub fn connect(&self, address: SocketAddr) -> std::io::Result<Secured> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        self.over(stream)
    }

    /// GET `target` on a connection of its own.
    pub fn get(&self, server: &Server, target: &str) -> Reply {
        let mut secured = self.connect(server.tls_address()).expect("a handshake");
        ask(&mut secured, target, "Connection: close\r\n")
    }
}

/// GET `target` with more header lines (each ending in CRLF).
pub fn ask<S: Read + Write>(stream: &mut S, target: &str, lines: &str) -> Reply {
    write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\n{lines}\r\n").unwrap();
    Reply::read(stream, false).expect("a response")
}

/// A connection to the TLS listener, before the first byte.
pub fn connect_raw(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.tls_address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The first message of a client.
pub fn hello() -> Vec<u8> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(Wants::usual().config, name).unwrap();
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// Reads the text of a file of the test.
pub fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}
