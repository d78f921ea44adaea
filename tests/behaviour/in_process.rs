//! The server in this process, on a disk that the test provides.

use std::ffi::OsString;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use actix_rt::System;
use pagecast::config::{ProcessInputs, SystemFileReader, load};
use pagecast::files::storage::Storage;
use pagecast::lifecycle::reload::ReloadRequests;
use pagecast::server::{Listeners, Signals, serve};
use pagecast::sys::system_facts::system_facts;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::site::{PATIENCE, Reply, Site, connect};

/// A running server in this process, stopped when dropped.
pub struct InProcess {
    pub address: SocketAddr,
    /// Address of the TLS listener.
    pub tls: Option<SocketAddr>,
    stop: UnboundedSender<()>,
    serving: Option<JoinHandle<()>>,
    directory: tempfile::TempDir,
}

impl InProcess {
    /// Serves `site` from `storage`, with the site's environment.
    pub fn serve(site: Site, storage: Arc<dyn Storage>) -> Self {
        let (directory, environment) = site.into_parts();
        let root = directory.path().as_os_str().to_owned();
        let (stop, stops) = unbounded_channel();
        let (sender, receiver) = mpsc::channel();
        let variables: Vec<_> = environment
            .into_iter()
            .map(|(name, value)| (OsString::from(name), OsString::from(value)))
            .chain([("PAGECAST_ROOT".into(), root)])
            .collect();
        let serving = std::thread::spawn(move || {
            let variables = variables.into_iter().collect();
            let given = ProcessInputs { variables, facts: system_facts(), ..ProcessInputs::default() };
            let loaded = load(&given, Vec::new(), &SystemFileReader).expect("a configuration");
            System::new().block_on(async {
                let listeners = Listeners::bind(&loaded.config, &loaded.limits).expect("a socket");
                sender.send(listeners.urls().map(str::to_owned).collect::<Vec<_>>()).unwrap();
                let signals = Signals { stops, reloads: ReloadRequests::default() };
                serve(&loaded, given, listeners, signals, storage).await.expect("a server");
            });
        });
        let urls = receiver.recv_timeout(PATIENCE).expect("a server that starts");
        let find = |scheme: &str| urls.iter().find_map(|url| url.strip_prefix(scheme)?.parse().ok());
        let address = find("http://").unwrap_or_else(|| panic!("a TCP address: {urls:?}"));
        let tls = find("https://");
        Self { address, tls, stop, serving: Some(serving), directory }
    }

    /// The document root.
    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    pub fn connect(&self) -> TcpStream {
        self.connect_from(1)
    }

    /// A connection from 127.0.0.`host`: another host is another client.
    pub fn connect_from(&self, host: u8) -> TcpStream {
        connect(self.address, Some([127, 0, 0, host]), None)
    }

    /// Requests `target` on a connection of its own and does not read the response.
    pub fn ask_from(&self, host: u8, target: &str) -> TcpStream {
        let mut stream = self.connect_from(host);
        write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        stream
    }

    /// The response; `None` if the connection ends before a head.
    pub fn get(&self, target: &str) -> Option<Reply> {
        self.get_with(target, "")
    }

    /// The same with more header lines, each ending in CRLF.
    pub fn get_with(&self, target: &str, lines: &str) -> Option<Reply> {
        let mut stream = self.connect();
        write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n").unwrap();
        Reply::read(&mut stream, false)
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        // The second request to stop cuts responses under way.
        let _ = self.stop.send(());
        let _ = self.stop.send(());
        if let Some(serving) = self.serving.take() {
            let ended = serving.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the server panicked");
        }
    }
}
