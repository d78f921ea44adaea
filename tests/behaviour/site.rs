//! A directory, the real server that serves it, and the responses that clients get.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::client::ReadSome;
use crate::log_pipe::LogPipe;

/// How long a test waits for an event; no test asserts that it comes faster.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A site to be served: a temporary directory and the server's environment.
pub struct Site {
    directory: tempfile::TempDir,
    environment: Vec<(String, String)>,
    open_files: Option<u64>,
    is_privileged: bool,
}

/// A running server, ended when dropped.
pub struct Server {
    pub root: PathBuf,
    pub address: SocketAddr,
    pub admin: Option<SocketAddr>,
    /// Address of the TLS listener.
    pub tls: Option<SocketAddr>,
    child: Child,
    log: LogPipe,
    _directory: Option<tempfile::TempDir>,
}

/// One response.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Site {
    pub fn new() -> Self {
        let site = Self {
            directory: tempfile::tempdir().unwrap(),
            environment: Vec::new(),
            open_files: None,
            is_privileged: true,
        };
        site.env("PAGECAST_LISTEN", "127.0.0.1:0")
            .env("PAGECAST_ADMIN_LISTEN", "off")
            .env("PAGECAST_WORKERS", "2")
            .env("PAGECAST_DRAIN_DELAY", "0")
    }

    /// A site of these files.
    pub fn with<const N: usize>(files: [(&str, &[u8]); N]) -> Self {
        files.into_iter().fold(Self::new(), |site, (name, bytes)| site.file(name, bytes))
    }

    pub fn file(self, name: &str, bytes: &[u8]) -> Self {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
        self
    }

    /// Serves with this configuration file as well.
    pub fn config(self, toml: &str) -> Self {
        let path = self.path().join(".pagecast.toml");
        std::fs::write(&path, toml).unwrap();
        self.env("PAGECAST_CONFIG", path.to_str().unwrap())
    }

    /// Sets a variable of the server's environment; a later value beats an earlier one.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Removes a variable that was set before.
    pub fn without_env(mut self, name: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self
    }

    /// Limits the open files of the server, hard and soft.
    pub fn open_files(mut self, count: u64) -> Self {
        self.open_files = Some(count);
        self
    }

    /// Makes permissions apply to the server even if the tests are run by root.
    pub fn unprivileged(mut self) -> Self {
        self.is_privileged = !rustix::process::geteuid().is_root();
        self
    }

    /// The document root.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The directory, and the server's environment: for a server in this process.
    pub fn into_parts(self) -> (tempfile::TempDir, Vec<(String, String)>) {
        (self.directory, self.environment)
    }

    /// The command that serves it.
    pub fn command(&self) -> Command {
        let program = env!("CARGO_BIN_EXE_pagecast");
        let mut command = match self.open_files {
            Some(count) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -n {count} && exec \"$0\" \"$@\""), program]);
                shell
            }
            None if !self.is_privileged => {
                let mut without = Command::new("setpriv");
                without.args(["--bounding-set=-all", program]);
                without
            }
            None => Command::new(program),
        };
        command.env_clear().env("PAGECAST_ROOT", self.path());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// Starts the server and waits until it is ready.
    pub fn serve(self) -> Server {
        self.launch(" ready: ")
    }

    /// Starts the server and waits until its log has `text` in it.
    pub fn launch(self, text: &str) -> Server {
        let mut server = self.start(self.command(), text);
        server._directory = Some(self.directory);
        server
    }

    /// Starts a server of this site by `command`, beside others, and waits until its log has `text` in it. The site must
    /// outlive it.
    pub fn start(&self, mut command: Command, text: &str) -> Server {
        let mut child = command.spawn().unwrap();
        let log = LogPipe::new(child.stderr.take().unwrap());
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut server = Server {
            root: self.path().to_owned(),
            address: nowhere,
            admin: None,
            tls: None,
            child,
            log,
            _directory: None,
        };
        server.wait_for_log(text);
        server.address = server.address_after("listening on http://").unwrap_or(nowhere);
        server.admin = server.address_after("admin on http://");
        server.tls = server.address_after("listening on https://");
        server
    }
}

impl Server {
    /// A connection to the traffic port, with a generous time-out on reads.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    pub fn tls_address(&self) -> SocketAddr {
        self.tls.expect("a TLS listener")
    }

    /// A connection with a small receive buffer, so that unread bytes stay with the server.
    pub fn connect_narrow(&self) -> TcpStream {
        self.connect_narrow_to(self.address)
    }

    /// The same, to another of its addresses.
    pub fn connect_narrow_to(&self, address: SocketAddr) -> TcpStream {
        connect(address, None, Some(NARROW))
    }

    /// A connection from this loopback address: another address is another client.
    pub fn connect_from(&self, source: [u8; 4]) -> TcpStream {
        connect(self.address, Some(source), None)
    }

    /// The same, with a receive buffer of `receive_buffer` bytes.
    pub fn connect_narrow_from(&self, source: [u8; 4], receive_buffer: usize) -> TcpStream {
        connect(self.address, Some(source), Some(receive_buffer))
    }

    /// Sends `raw` on a connection of its own and reads one response.
    pub fn send(&self, raw: impl AsRef<[u8]>) -> Reply {
        let mut stream = self.connect();
        stream.write_all(raw.as_ref()).unwrap();
        let is_head = raw.as_ref().starts_with(b"HEAD ");
        Reply::read(&mut stream, is_head).expect("a response")
    }

    /// GET `target`, with more header lines (each ending in CRLF).
    pub fn get_with(&self, target: &str, lines: &str) -> Reply {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n"))
    }

    pub fn get(&self, target: &str) -> Reply {
        self.get_with(target, "")
    }

    /// GET `target` from the admin port.
    pub fn get_admin(&self, target: &str) -> Reply {
        self.ask_admin("GET", target, "Host: localhost\r\n")
    }

    /// A request to the admin port, with these header lines (each ending in CRLF) and no others.
    pub fn ask_admin(&self, method: &str, target: &str, lines: &str) -> Reply {
        let mut stream = self.connect_admin();
        write!(stream, "{method} {target} HTTP/1.1\r\nConnection: close\r\nContent-Length: 0\r\n{lines}\r\n")
            .unwrap();
        Reply::read(&mut stream, method == "HEAD").expect("a response")
    }

    /// A connection to the admin port, with a generous time-out on reads.
    pub fn connect_admin(&self) -> TcpStream {
        let stream = TcpStream::connect(self.admin.expect("an admin port")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// GETs `target` until the reply is `as_wanted`; a connection that brings no reply is made anew.
    pub fn get_until(&self, target: &str, as_wanted: impl Fn(&Reply) -> bool) -> Reply {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut stream = self.connect();
            let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(request.as_bytes());
            let reply = Reply::read(&mut stream, false);
            let seen = reply.as_ref().map(|reply| (reply.status, reply.fields.clone()));
            if let Some(reply) = reply.filter(&as_wanted) {
                return reply;
            }
            assert!(Instant::now() < deadline, "{target} is still {seen:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Processor time that the server has used.
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let after_name = stat.rsplit_once(')').unwrap().1;
        let ticks: u64 =
            after_name.split_whitespace().skip(11).take(2).map(|n| n.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
    }

    /// The most memory that the server has had resident, in bytes.
    pub fn resident_max(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Number of descriptors that the server has open to `path`.
    pub fn handles_to(&self, path: &Path) -> usize {
        self.descriptors().iter().filter(|target| *target == path).count()
    }

    /// Number of files below `directory` that the server has open.
    pub fn handles_under(&self, directory: &Path) -> usize {
        let is_file = |target: &&PathBuf| target.starts_with(directory) && *target != directory;
        self.descriptors().iter().filter(is_file).count()
    }

    /// Connections to the traffic port that the server has open.
    pub fn connections(&self) -> usize {
        let sockets: Vec<_> = self.descriptors().iter().filter_map(|target| socket_inode(target)).collect();
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let port = format!(":{:04X}", self.address.port());
        let is_ours = |line: &&str| {
            let columns: Vec<_> = line.split_whitespace().collect();
            columns[1].ends_with(&port)
                && columns[3] != LISTENING
                && sockets.iter().any(|inode| inode == columns[9])
        };
        table.lines().skip(1).filter(is_ours).count()
    }

    /// Number of all open descriptors of the server.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    fn descriptors(&self) -> Vec<PathBuf> {
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap();
        descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok()).collect()
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Sends a signal by its name: `TERM`, `INT`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// Sends SIGHUP, and waits until the log has `text` once more.
    #[track_caller]
    pub fn hang_up(&mut self, text: &str) {
        let before = self.log().matches(text).count();
        self.signal("HUP");
        let deadline = Instant::now() + PATIENCE;
        while self.log().matches(text).count() == before {
            assert!(self.is_running(), "it ended; its log:\n{}", self.log());
            assert!(Instant::now() < deadline, "no {text:?} in the log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the end of the process.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.read_rest_of_log();
                return status;
            }
            assert!(Instant::now() < deadline, "the server does not end; its log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Standard error of the server so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    pub fn wait_for_log(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.log().contains(text) {
            let ended = self.child.try_wait().unwrap();
            if ended.is_some() {
                self.read_rest_of_log();
            }
            assert!(ended.is_none(), "the server ended with {ended:?}; its log:\n{}", self.log());
            assert!(Instant::now() < deadline, "no {text:?} in the log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Reads the log of an ended server to its end.
    fn read_rest_of_log(&mut self) {
        self.log.finish();
    }

    fn address_after(&self, text: &str) -> Option<SocketAddr> {
        // In JSON the line goes on after it.
        let address = |line: &str| line.split_once(text)?.1.split('"').next()?.trim().parse().ok();
        self.log().lines().find_map(address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Reply {
    /// Reads one response; `None` if the connection ends before its head does.
    ///
    /// A body cut short is returned as far as it came: compare its length with `Content-Length`.
    pub fn read(stream: &mut impl Read, is_head: bool) -> Option<Self> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_some(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return None,
            }
        }
        let text = String::from_utf8(head).expect("a head in ASCII");
        let mut lines = text.trim_end().split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let fields: Vec<_> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut reply = Self { status, fields, body: Vec::new() };
        let has_body = !is_head && status >= 200 && status != 204 && status != 304;
        if has_body {
            let length = reply.content_length().unwrap_or(u64::MAX);
            let _ = stream.take(length).read_to_end(&mut reply.body);
        }
        Some(reply)
    }

    /// The value of a header, by its name in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn content_length(&self) -> Option<u64> {
        self.field("content-length")?.parse().ok()
    }

    /// Whether the body is as long as the head says.
    pub fn is_complete(&self) -> bool {
        self.content_length() == Some(self.body.len() as u64)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Bytes that identify their position in a file and their version. A shorter pattern is the beginning of a longer one.
pub fn pattern(length: usize, version: u8) -> Vec<u8> {
    static WORDS: OnceLock<Vec<u8>> = OnceLock::new();
    let words = WORDS.get_or_init(|| {
        let mixed = |word: u64| word.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) ^ word;
        (0..PATTERN_WORDS).flat_map(|word| mixed(word).to_le_bytes()).collect()
    });
    // Versions are the same sequence of words, each from another word on.
    let start = usize::from(version) * 8 * 5;
    words[start..start + length].to_vec()
}

/// 8 bytes each: slightly more than the longest file that is made of them.
const PATTERN_WORDS: u64 = 17 * 1024 * 1024 / 8;

/// The number in `socket:[NUMBER]`.
fn socket_inode(target: &Path) -> Option<String> {
    Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
}

/// The state of a listening socket in `/proc/net/tcp`.
const LISTENING: &str = "0A";

/// Receive buffer of a narrow client.
pub const NARROW: usize = 16 * 1024;

/// A connection to `address`, from the address `source` and with a receive buffer of `receive_buffer` bytes, where they are given.
pub fn connect(address: SocketAddr, source: Option<[u8; 4]>, receive_buffer: Option<usize>) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes).unwrap();
    }
    if let Some(source) = source {
        socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    }
    socket.connect(&address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}
