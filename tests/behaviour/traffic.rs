//! pagecast in use: behind the proxies of the example configurations, and with clients that resume downloads.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::client::{Client, patterned};
use crate::site::{PATIENCE, Server, Site, connect};

const LARGE: usize = 3 * 1024 * 1024;
/// Long enough for eight segments of at least a mebibyte.
const SEGMENTED: usize = 9 * 1024 * 1024;

#[test]
#[ignore = "needs haproxy: apt-get install haproxy"]
fn haproxy_spreads_the_example_configuration_over_two_servers_and_survives_one() {
    let (a, mut b) = (site(), site());
    let front = free_address();
    let mut command = program("haproxy");
    command.arg("-db").arg("-f").arg(project().join("config/haproxy.cfg"));
    command.env("FRONTEND", front.to_string());
    command.env("SERVER_A", a.address.to_string()).env("SERVER_B", b.address.to_string());
    let _haproxy = Running::start(&mut command);
    let mut client = client_of(front);
    asks_all(&mut client);
    b.signal("TERM");
    // It goes on serving while it drains, and then the other one takes its requests: the client notices nothing. Entity tags differ
    // between the two, so that only bodies are compared.
    while b.is_running() {
        asks_for_bodies(&mut client);
    }
    assert!(b.wait().success());
    asks_all(&mut client);
}

#[test]
#[ignore = "needs haproxy: apt-get install haproxy"]
fn haproxy_names_its_client_in_the_proxy_protocol_and_in_headers() {
    for (mode, options, protocol) in [
        ("tcp", "send-proxy check check-send-proxy inter 100ms", "require"),
        (
            "tcp",
            "send-proxy-v2 proxy-v2-options crc32c,unique-id check check-send-proxy inter 100ms",
            "require",
        ),
        ("http", "check inter 100ms", "off"),
    ] {
        let server = Site::with([("a.txt", b"hello")])
            .env("PAGECAST_TRUSTED_PROXIES", "127.0.0.1")
            .env("PAGECAST_PROXY_PROTOCOL", protocol)
            .env("PAGECAST_CLIENT_REQUESTS", "1/h")
            .serve();
        let (front, directory) = (free_address(), tempfile::tempdir().unwrap());
        let config = directory.path().join("haproxy.cfg");
        let forwards = if mode == "http" { "option forwardfor" } else { "" };
        let text = format!(
            "defaults\n mode {mode}\n {forwards}\n timeout connect 5s\n timeout client 20s\n timeout server 20s\n\
             frontend f\n bind {front}\n default_backend b\n\
             backend b\n server s {} {options}\n",
            server.address
        );
        fs::write(&config, text).unwrap();
        let mut command = program("haproxy");
        let _haproxy = Running::start(command.arg("-db").arg("-f").arg(&config));
        drop(client_of(front));
        for (last, expected) in [(2, 200), (2, 429), (3, 200), (3, 429)] {
            let stream = connect(front, Some([127, 0, 0, last]), None);
            let status = Client { stream }.ask("GET", "/a.txt", "").status;
            assert_eq!(status, expected, "127.0.0.{last} by {options}");
        }
    }
}

#[test]
#[ignore = "needs nginx: apt-get install nginx"]
fn nginx_forwards_with_the_example_configuration() {
    let server = site();
    let front = free_address();
    let prefix = tempfile::tempdir().unwrap();
    let example = fs::read_to_string(project().join("config/nginx.conf")).unwrap();
    let changed = example
        .replace("127.0.0.1:8000", &front.to_string())
        .replace("127.0.0.1:8080", &server.address.to_string());
    assert_ne!(changed, example);
    let config = prefix.path().join("nginx.conf");
    fs::write(&config, changed).unwrap();
    let mut command = program("nginx");
    command.arg("-p").arg(prefix.path()).arg("-c").arg(&config).args(["-g", "daemon off;"]);
    let _nginx = Running::start(&mut command);
    asks_all(&mut client_of(front));
}

#[test]
#[ignore = "needs curl: apt-get install curl"]
fn curl_resumes_a_download() {
    let server = site();
    let download = Download::begun(1_234_567);
    let mut command = program("curl");
    command.args(["--silent", "--show-error", "--fail", "--continue-at", "-", "--write-out", "%{http_code}"]);
    let output = command.arg("--output").arg(&download.file).arg(url(&server, "large.bin")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "206", "{output:?}");
    download.is(LARGE);
}

#[test]
#[ignore = "needs curl: apt-get install curl"]
fn curl_fetches_only_what_has_changed() {
    let server = site();
    let download = Download::begun(0);
    let tags = download.file.with_extension("etag");
    for expected in ["200", "304"] {
        let mut command = program("curl");
        command.args(["--silent", "--show-error", "--fail", "--write-out", "%{http_code}"]);
        command.arg("--etag-compare").arg(&tags).arg("--etag-save").arg(&tags);
        let output =
            command.arg("--output").arg(&download.file).arg(url(&server, "large.bin")).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{output:?}");
        download.is(LARGE);
    }
}

#[test]
#[ignore = "needs wget: apt-get install wget"]
fn wget_resumes_a_download() {
    let server = site();
    let download = Download::begun(2_000_001);
    let mut command = program("wget");
    command.args(["--no-config", "--server-response", "--tries=1", "--continue", "--output-document"]);
    let output = command.arg(&download.file).arg(url(&server, "large.bin")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains(" 206 "), "{output:?}");
    download.is(LARGE);
}

#[test]
#[ignore = "needs aria2c: apt-get install aria2"]
fn aria2_puts_a_file_together_from_eight_segments() {
    let server = site();
    let download = Download::begun(0);
    let mut command = program("aria2c");
    command.args([
        "--no-conf",
        "--max-tries=1",
        "--split=8",
        "--max-connection-per-server=8",
        "--min-split-size=1M",
    ]);
    command.args(["--allow-overwrite=true", "--file-allocation=none"]);
    command
        .arg("--dir")
        .arg(download.file.parent().unwrap())
        .arg("--out")
        .arg(download.file.file_name().unwrap());
    let output = command.arg(url(&server, "segmented.bin")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    download.is(SEGMENTED);
}

fn site() -> Server {
    Site::with([
        ("a.txt", b"alpha"),
        ("d/index.html", b"<p>d"),
        ("middle.bin", &patterned(40 * 1024)),
        ("large.bin", &patterned(LARGE)),
        ("segmented.bin", &patterned(SEGMENTED)),
    ])
    .env("PAGECAST_DRAIN_DELAY", "3s")
    .serve()
}

fn asks_for_bodies(client: &mut Client) {
    for target in ["/a.txt", "/a.txt?other", "/a.txt?another", "/a.txt?one-more"] {
        let reply = client.ask("GET", target, "");
        assert_eq!((reply.status, reply.text().as_str()), (200, "alpha"), "{target}");
    }
    let reply = client.ask("GET", "/middle.bin", "");
    assert!(reply.status == 200 && reply.body == patterned(40 * 1024), "{}", reply.status);
}

/// Checks what passes through a proxy unchanged: bodies, heads, ranges, conditions, redirects, errors.
fn asks_all(client: &mut Client) {
    asks_for_bodies(client);
    let large = patterned(LARGE);
    let whole = client.ask("GET", "/large.bin", "");
    assert!(whole.status == 200 && whole.body == large, "{}", whole.status);
    let etag = whole.field("etag").unwrap();
    let known = client.ask("GET", "/large.bin", &format!("If-None-Match: {etag}\r\n"));
    assert_eq!(known.status, 304);
    let part = client.ask("GET", "/large.bin", &format!("Range: bytes=-1000000\r\nIf-Range: {etag}\r\n"));
    assert!(part.status == 206 && part.body == large[LARGE - 1_000_000..], "{}", part.status);
    let head = client.ask("HEAD", "/large.bin", "");
    assert_eq!((head.status, head.content_length()), (200, Some(LARGE as u64)));
    let parts = client.ask("GET", "/large.bin", "Range: bytes=0-9,1000-1009\r\n");
    assert!(parts.field("content-type").unwrap().starts_with("multipart/byteranges; "), "{parts:?}");
    assert_eq!(client.ask("GET", "/large.bin", "Range: bytes=99999999-\r\n").status, 416);
    assert_eq!(client.ask("GET", "/d?x", "").field("location"), Some("/d/?x"));
    assert_eq!(client.ask("GET", "/none", "").status, 404);
    assert_eq!(client.ask("POST", "/a.txt", "Content-Length: 0\r\n").status, 405);
}

/// A client's directory with a download that stopped after `length` bytes.
struct Download {
    file: PathBuf,
    _directory: tempfile::TempDir,
}

impl Download {
    fn begun(length: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("downloaded.bin");
        if length > 0 {
            fs::write(&file, patterned(length)).unwrap();
        }
        Self { file, _directory: directory }
    }

    fn is(&self, length: usize) {
        let found = fs::read(&self.file).unwrap();
        assert!(found == patterned(length), "{} bytes, not the {length} that they should be", found.len());
    }
}

/// A program beside the server, terminated when dropped.
pub struct Running(Child);

impl Running {
    pub fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Not by SIGKILL, which would leave a program's own children behind.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// An external program, also found in the directories for administrators.
pub fn program(name: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("env");
    command.arg(format!("PATH={path}:/usr/sbin:/sbin")).arg(name);
    for proxy in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(proxy);
    }
    command
}

pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn url(server: &Server, name: &str) -> String {
    format!("http://{}/{name}", server.address)
}

pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A client of a proxy, once the proxy has found its servers.
fn client_of(front: SocketAddr) -> Client {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Ok(stream) = TcpStream::connect(front) {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut client = Client { stream };
            if client.ask("GET", "/a.txt", "").status == 200 {
                return client;
            }
        }
        assert!(Instant::now() < deadline, "nobody serves at {front}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
