//! TLS: which clients can connect, with which certificate, and that responses are the same as over plain HTTP.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use pagecast::files::storage::Slow;
use rustls::ProtocolVersion::{TLSv1_2, TLSv1_3};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConnection, HandshakeKind, StreamOwned};

use crate::client::ReadSome;
use crate::handover::{Upgrades, activated};
use crate::in_process::InProcess;
use crate::secured::{Authority, Files, Secured, Wants, ask, connect_raw, hello, secured, text, with_pairs};
use crate::site::{Reply, Server, Site, pattern};

const LONG: usize = 10 * 1024 * 1024 + 77;

#[test]
fn both_versions_serve_every_kind_of_file() {
    let (small, heap, long) = (pattern(1000, 1), pattern(16 * 1024, 2), pattern(LONG, 3));
    let site = Site::with([("small", &small), ("heap", &heap), ("long", &long), ("empty", b"")]);
    let (site, _files) = secured(site);
    let server = site.serve();
    for (version, spoken) in [(&TLS13, TLSv1_3), (&TLS12, TLSv1_2)] {
        let mut client = Wants::of(&[version], &[]).connect(server.tls_address()).unwrap();
        assert_eq!(client.conn.protocol_version(), Some(spoken));
        for (target, bytes) in [("/small", &small), ("/heap", &heap), ("/long", &long), ("/empty", &vec![])] {
            let reply = ask(&mut client, target, "");
            assert_eq!(reply.status, 200, "{target}");
            assert!(reply.body == *bytes, "{target} over {spoken:?}");
        }
        let mut head = |target: &str| {
            write!(client, "HEAD {target} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            Reply::read(&mut client, true).unwrap().content_length()
        };
        assert_eq!(head("/long"), Some(LONG as u64));
        let part = ask(&mut client, "/long", "Range: bytes=70000-9000000\r\n");
        assert!(part.status == 206 && part.body == long[70_000..=9_000_000], "{spoken:?}");
        let parts = ask(&mut client, "/long", "Range: bytes=0-9,100000-299999,-5\r\n");
        assert!(parts.status == 206 && parts.is_complete());
        let tag = ask(&mut client, "/small", "").field("etag").unwrap().to_owned();
        assert_eq!(ask(&mut client, "/small", &format!("If-None-Match: {tag}\r\n")).status, 304);
        assert_eq!(ask(&mut client, "/missing", "").status, 404);
        assert_eq!(ask(&mut client, "/small", "Connection: close\r\n").body, small);
        assert_eq!(client.read_some(&mut [0; 8]).unwrap(), 0, "a close that says that all has come");
    }
    assert_eq!(server.get("/small").body, small, "plain HTTP goes on beside TLS");
}

#[test]
fn older_versions_than_configured_are_refused() {
    let (site, _files) = secured(Site::with([("a", b"a")]));
    let server = site.env("PAGECAST_TLS_MIN_VERSION", "1.3").serve();
    assert!(Wants::of(&[&TLS12], &[]).connect(server.tls_address()).is_err());
    assert_eq!(Wants::of(&[&TLS13], &[]).get(&server, "/a").text(), "a");
}

#[test]
fn a_request_sent_with_the_last_handshake_message_is_answered() {
    let long = pattern(300_000, 1);
    let (site, _files) = secured(Site::with([("a", b"a"), ("long", &long)]));
    let server = site.serve();
    for version in [&TLS13, &TLS12] {
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = ClientConnection::new(Wants::of(&[version], &[]).config, name).unwrap();
        client.writer().write_all(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut client = StreamOwned::new(client, connect_raw(&server));
        assert!(Reply::read(&mut client, false).unwrap().body == long, "{version:?}");
        assert_eq!(ask(&mut client, "/a", "").text(), "a");
    }
}

#[test]
fn pipelined_requests_are_answered_in_their_order_whatever_their_records() {
    let (site, _files) = secured(Site::with([("a", b"first"), ("b", &pattern(300_000, 1))]));
    let server = site.serve();
    let requests = "GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n".repeat(20);
    for size in [1, 7, 100, requests.len()] {
        let mut client = Wants::usual().connect(server.tls_address()).unwrap();
        for record in requests.as_bytes().chunks(size) {
            client.write_all(record).unwrap();
        }
        for _ in 0..20 {
            assert_eq!(Reply::read(&mut client, false).unwrap().text(), "first");
            assert!(Reply::read(&mut client, false).unwrap().body == pattern(300_000, 1), "{size}");
        }
    }
}

#[test]
fn a_slow_reader_gets_every_byte_and_a_drain_waits_for_it() {
    let long = pattern(LONG, 1);
    let (site, _files) = secured(Site::with([("long", &long)]));
    let mut server = site.serve();
    let mut client = narrow(&server);
    write!(client, "GET /long HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut reply = Reply::read(&mut client, true).unwrap();
    server.signal("TERM");
    server.wait_for_log("stopping");
    let mut piece = vec![0; 100_000];
    while reply.body.len() < LONG {
        let read = client.read_some(&mut piece).expect("no end before the last byte");
        reply.body.extend_from_slice(&piece[..read]);
    }
    assert!(reply.body == long);
    drop(client);
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
}

#[test]
fn a_file_that_changes_while_it_is_sent_cuts_the_connection_visibly() {
    for change in ["truncated", "overwritten"] {
        let long = pattern(LONG, 1);
        let (site, _files) = secured(Site::with([("long", &long)]));
        let server = site.serve();
        let mut client = narrow(&server);
        write!(client, "GET /long HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut reply = Reply::read(&mut client, true).unwrap();
        let file = OpenOptions::new().write(true).open(server.root.join("long")).unwrap();
        match change {
            "truncated" => file.set_len(1000).unwrap(),
            _ => (&file).write_all(&pattern(1000, 2)).unwrap(),
        }
        let ended = client.read_to_end(&mut reply.body);
        let why = ended.expect_err("no close that says that all has come").kind();
        assert!(matches!(why, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{change}: {why:?}");
        assert!(reply.body.len() < LONG && long.starts_with(&reply.body), "{change}");
        assert_eq!(server.get("/long").status, 200, "the server lives on");
    }
}

#[test]
fn a_file_that_is_replaced_while_it_is_sent_is_sent_in_its_old_version() {
    let long = pattern(LONG, 1);
    let (site, _files) = secured(Site::with([("long", &long)]));
    let server = site.serve();
    let mut client = narrow(&server);
    write!(client, "GET /long HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut reply = Reply::read(&mut client, true).unwrap();
    std::fs::write(server.root.join("next"), b"new").unwrap();
    std::fs::rename(server.root.join("next"), server.root.join("long")).unwrap();
    reply.body = vec![0; LONG];
    client.read_exact(&mut reply.body).unwrap();
    assert!(reply.body == long);
}

#[test]
fn cold_files_are_read_off_the_workers_and_sent_in_full() {
    let long = pattern(3 * 1024 * 1024, 1);
    let (site, _files) = secured(Site::with([("long", &long)]));
    let slow = Slow::new(Duration::from_millis(2), 64 << 20);
    let server = InProcess::serve(site, slow.clone());
    for environment in ["mapped", "again"] {
        slow.forget();
        let mut client = Wants::usual().connect(server.tls.expect("a TLS listener")).unwrap();
        assert!(ask(&mut client, "/long", "").body == long, "{environment}");
    }
    assert!(slow.reads() > 0);
    assert_eq!(slow.cold_sends(), 0, "no worker has waited for the disk");
}

#[test]
fn a_client_gets_the_certificate_for_its_server_name() {
    let files = Files::new();
    let pairs: [(&str, &[&str]); 3] = [
        ("first", &["first.test", "localhost"]),
        ("wild", &["*.example.com"]),
        ("www", &["www.example.com", "example.com"]),
    ];
    for (name, names) in pairs {
        files.issue(name, names);
    }
    let server = with_pairs(Site::with([("a", b"a")]), &files, &["first", "wild", "www"]).serve();
    for (asked, expected) in [
        ("first.test", "first"),
        ("localhost", "first"),
        ("a.example.com", "wild"),
        ("B.Example.COM", "wild"),
        ("www.example.com", "www"),
        ("example.com", "www"),
    ] {
        let client = Wants::usual().named(asked).connect(server.tls_address()).expect(asked);
        let shown = client.conn.peer_certificates().unwrap()[0].to_vec();
        let pem = text(&files.path(&format!("{expected}.pem")));
        assert_eq!(shown, der(&pem), "{asked}");
    }
    for unknown in ["unknown.test", "a.b.example.com"] {
        let refused = Wants::usual().named(unknown).connect(server.tls_address()).unwrap_err().to_string();
        assert!(
            refused.contains("first.test"),
            "it got the first one, which is not for {unknown}: {refused}"
        );
    }
    let without_name = Wants::usual().named("127.0.0.1").connect(server.tls_address()).unwrap_err();
    assert!(without_name.to_string().contains("first.test"), "{without_name}");
}

#[test]
fn sessions_are_resumed_by_every_worker_in_both_versions() {
    let (site, _files) = secured(Site::with([("a", b"a")]));
    let server = site.serve();
    for version in [&TLS13, &TLS12] {
        let wants = Wants::of(&[version], &[]).resuming();
        let mut kinds = Vec::new();
        for _ in 0..8 {
            let mut client = wants.connect(server.tls_address()).unwrap();
            assert_eq!(ask(&mut client, "/a", "Connection: close\r\n").text(), "a");
            assert_eq!(client.read_some(&mut [0]).unwrap(), 0);
            kinds.push(client.conn.handshake_kind().unwrap());
        }
        assert_eq!(kinds[0], HandshakeKind::Full);
        assert!(kinds[1..].iter().all(|kind| *kind == HandshakeKind::Resumed), "{version:?}: {kinds:?}");
    }
}

#[test]
fn http11_is_negotiated_and_a_client_without_a_common_protocol_is_refused() {
    let (site, _files) = secured(Site::with([("a", b"a")]));
    let server = site.env("PAGECAST_HTTP2", "off").serve();
    let agreed = |protocols: &[&str]| {
        let client = Wants::of(&[&TLS13], protocols).connect(server.tls_address());
        client.map(|client| client.conn.alpn_protocol().map(<[u8]>::to_vec))
    };
    assert_eq!(agreed(&[]).unwrap(), None);
    assert_eq!(agreed(&["http/1.1"]).unwrap(), Some(b"http/1.1".to_vec()));
    assert_eq!(agreed(&["ftp", "http/1.1"]).unwrap(), Some(b"http/1.1".to_vec()));
    assert_eq!(agreed(&["h2", "http/1.1"]).unwrap(), Some(b"http/1.1".to_vec()), "HTTP/2 is off");
    assert!(agreed(&["ftp"]).is_err());
}

#[test]
fn a_slow_handshake_is_cut_off() {
    let (site, _files) = secured(Site::with([("a", b"a")]));
    let mut server = site.env("PAGECAST_TLS_HANDSHAKE_TIMEOUT", "200ms").serve();
    let hello = hello();
    for (said, what) in [
        (&b""[..], "nothing"),
        (&hello[..1], "a byte"),
        (&hello[..hello.len() / 2], "half"),
        (&hello, "one message"),
    ] {
        let mut stream = connect_raw(&server);
        stream.write_all(said).unwrap();
        let mut came = Vec::new();
        let ended = stream.read_to_end(&mut came);
        assert!(ended.is_ok() || ended.unwrap_err().kind() == ErrorKind::ConnectionReset, "{what}");
        assert_eq!(came.is_empty(), said.len() < hello.len(), "{what}");
    }
    assert_eq!(Wants::usual().get(&server, "/a").text(), "a");
    server.wait_for_log("a TLS handshake failed, number 1: it took longer than tls_handshake_timeout");
    assert!(!server.log().contains("number 2"), "the first is logged, and every thousandth");
}

#[test]
fn handshakes_beyond_the_limit_wait_and_stalled_ones_give_way() {
    let (site, _files) = secured(Site::with([("a", b"a")]));
    let server = site.env("PAGECAST_TLS_HANDSHAKES", "1").serve();
    let begun = Instant::now();
    let mut still = connect_raw(&server);
    still.write_all(&hello()).unwrap();
    assert_eq!(still.read_some(&mut [0]).unwrap(), 1, "its handshake is under way");
    let mut silent = connect_raw(&server);
    silent.write_all(&hello()[..20]).unwrap();
    assert_eq!(Wants::usual().get(&server, "/a").text(), "a");
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[test]
fn input_that_is_not_tls_gets_a_400_or_an_alert() {
    let (site, _files) = secured(Site::with([("a", b"a")]));
    let mut server = site.env("PAGECAST_DEFER_ACCEPT", "off").serve();
    let mut probe = connect_raw(&server);
    probe.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(
        probe.read_some(&mut [0]).unwrap(),
        0,
        "who only looks whether the port is open is no failure"
    );
    for (request, has_body) in
        [("GET / HTTP/1.1\r\nHost: x\r\n\r\n", true), ("HEAD / HTTP/1.0\r\n\r\n", false)]
    {
        let mut stream = connect_raw(&server);
        stream.write_all(request.as_bytes()).unwrap();
        let reply = Reply::read(&mut stream, !has_body).unwrap();
        assert_eq!((reply.status, reply.field("connection")), (400, Some("close")));
        assert_eq!(reply.text(), if has_body { "This port speaks TLS. Please use https.\n" } else { "" });
        assert_eq!(stream.read_some(&mut [0]).unwrap(), 0);
    }
    server.wait_for_log("number 1: the client sent plain HTTP");
    let garbage: [&[u8]; 4] =
        [&[0; 64], &[0xff; 64], b"\x16\x03\x01\xff\xff garbage", b"\x80\x2e\x01\x00\x02"];
    for bytes in garbage {
        let mut stream = connect_raw(&server);
        stream.write_all(bytes).unwrap();
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut came = Vec::new();
        let _ = stream.read_to_end(&mut came);
        assert!(came.is_empty() || came[0] == 0x15, "an alert, if anything: {came:?}");
    }
    let mut plain = server.connect();
    plain.write_all(&hello()).unwrap();
    assert_eq!(Reply::read(&mut plain, false).unwrap().status, 400);
    assert_eq!(Wants::usual().get(&server, "/a").text(), "a");
}

#[test]
fn a_tampered_record_ends_the_connection_with_an_alert() {
    let (site, _files) = secured(Site::with([("a", b"a")]));
    let server = site.serve();
    let mut client = Wants::usual().connect(server.tls_address()).unwrap();
    assert_eq!(ask(&mut client, "/a", "").text(), "a");
    client.conn.writer().write_all(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut record = Vec::new();
    client.conn.write_tls(&mut record).unwrap();
    *record.last_mut().unwrap() ^= 1;
    client.sock.write_all(&record).unwrap();
    let ended = client.read_some(&mut [0; 100]).unwrap_err();
    assert!(ended.to_string().contains("BadRecordMac"), "{ended}");
    assert_eq!(Wants::usual().get(&server, "/a").text(), "a");
}

#[test]
fn configuration_errors_are_reported_at_start() {
    let files = Files::new();
    files.issue("good", &["localhost"]);
    files.issue("other", &["localhost"]);
    files.put("empty.pem", "");
    files.put("words.pem", "not a certificate\n");
    files.put("encrypted.key", &text(&files.path("good.key")).replace("PRIVATE", "ENCRYPTED PRIVATE"));
    let path = |name: &str| files.path(name).display().to_string();
    let (good, key, other) = (path("good.pem"), path("good.key"), path("other.key"));
    let both = format!("{good},{good}");
    let ended = Site::new().env("PAGECAST_LISTEN", "off").command().output().unwrap();
    let log = String::from_utf8_lossy(&ended.stderr);
    assert!(
        ended.status.code() == Some(2) && log.contains("leave nothing to listen on: give one of them"),
        "{log}"
    );
    for (cert, key_file, listen, code, message) in [
        ("off", "off", "127.0.0.1:0", 2, "PAGECAST_TLS_LISTEN=127.0.0.1:0 needs a certificate".to_owned()),
        (&good, "off", "127.0.0.1:0", 2, "requires its private key: set PAGECAST_TLS_KEY".to_owned()),
        ("off", &key, "127.0.0.1:0", 2, "requires its certificate: set PAGECAST_TLS_CERT".to_owned()),
        (&both, &key, "127.0.0.1:0", 2, "a key for each certificate: there are 2 and 1".to_owned()),
        (&good, &key, "127.0.0.1:1", 2, "PAGECAST_LISTEN=127.0.0.1:1 both want 127.0.0.1:1".to_owned()),
        (
            &good,
            &other,
            "127.0.0.1:0",
            1,
            format!("{other}: the key does not belong to the certificate in {good}"),
        ),
        (
            &path("empty.pem"),
            &key,
            "127.0.0.1:0",
            1,
            "empty.pem: contains no certificate: it is empty".to_owned(),
        ),
        (
            &path("words.pem"),
            &key,
            "127.0.0.1:0",
            1,
            "words.pem: contains no certificate: it has no PEM section".to_owned(),
        ),
        (
            &key,
            &key,
            "127.0.0.1:0",
            1,
            "good.key: contains no certificate: it contains PRIVATE KEY".to_owned(),
        ),
        (
            &good,
            &good,
            "127.0.0.1:0",
            1,
            "good.pem: contains no private key: it contains CERTIFICATE".to_owned(),
        ),
        (
            &good,
            &path("encrypted.key"),
            "127.0.0.1:0",
            1,
            "encrypted.key: the private key is encrypted".to_owned(),
        ),
        (&path("none.pem"), &key, "127.0.0.1:0", 1, "none.pem: can't be read: No such file".to_owned()),
        ("/", &key, "127.0.0.1:0", 1, "/: can't be read: not a regular file".to_owned()),
    ] {
        let site = Site::new()
            .env("PAGECAST_LISTEN", listen)
            .env("PAGECAST_TLS_LISTEN", listen)
            .env("PAGECAST_TLS_CERT", cert)
            .env("PAGECAST_TLS_KEY", key_file);
        let ended = site.command().output().unwrap();
        let log = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(code), "{message}: {log}");
        assert!(log.contains(&message), "{message}: {log}");
    }
}

#[test]
fn a_server_may_have_tls_listeners_only() {
    let (site, _files) = secured(Site::with([("a", b"a")]).env("PAGECAST_LISTEN", "off"));
    let server = site.env("PAGECAST_ADMIN_LISTEN", "127.0.0.1:0").serve();
    assert_eq!(Wants::usual().get(&server, "/a").text(), "a");
    assert_eq!(Wants::usual().get(&server, "/readyz").status, 200);
    assert!(
        !server.log().contains("http://127.0.0.1:8080") && !server.log().contains("listening on http://")
    );
    let config: serde_json::Value = serde_json::from_slice(&server.get_admin("/debug/config").body).unwrap();
    assert!(config.to_string().contains("\"off\""), "{config}");
}

#[test]
fn an_expired_certificate_is_served_with_a_warning() {
    let files = Files::new();
    let (certificate, key) = Authority::known().issue_until(&["localhost"], 2020);
    files.put("site.pem", &certificate);
    files.put("site.key", &key);
    let server = with_pairs(Site::with([("a", b"a")]), &files, &["site"]).serve();
    assert!(server.log().contains("site.pem: the certificate of localhost has expired "), "{}", server.log());
    let refused = Wants::usual().connect(server.tls_address()).unwrap_err().to_string();
    assert!(refused.contains("expired"), "{refused}");
}

#[test]
fn certificates_are_reloaded_when_their_files_change_unless_they_are_bad() {
    let (site, files) = secured(Site::with([("a", b"a")]));
    let mut server = site.serve();
    let mut kept = Wants::usual().connect(server.tls_address()).unwrap();
    let first = shown(&server);
    files.put("site.key", &Authority::known().issue(&["localhost"]).1);
    server.wait_for_log("not reloaded: the set of certificates stays as it was");
    assert!(
        server.log().contains("site.key: the key does not belong to the certificate in"),
        "{}",
        server.log()
    );
    assert_eq!(shown(&server), first);
    files.issue("site", &["localhost", "new.test"]);
    server.wait_for_log("certificates replaced: localhost");
    assert_ne!(shown(&server), first);
    assert_eq!(server.log().matches("stays as it was").count(), 1, "{}", server.log());
    assert_eq!(ask(&mut kept, "/a", "").text(), "a", "who is connected stays so");
}

#[test]
fn certificates_of_a_reload_that_failed_for_another_reason_are_installed_by_themselves() {
    let (site, files) = secured(Site::with([("a", b"a")]).config(""));
    let mut server = site.serve();
    let first = shown(&server);
    // The watcher installs what it saw twice, a second apart: the reload reads the new files before that.
    std::fs::write(server.root.join(".pagecast.toml"), "access_log = '/nowhere/access.log'").unwrap();
    files.issue("site", &["localhost", "new.test"]);
    server.signal("HUP");
    server.wait_for_log("not reloaded: the configuration stays as it was");
    server.wait_for_log("certificates replaced: localhost");
    assert_ne!(shown(&server), first);
}

#[test]
fn a_symlink_with_a_new_target_is_a_change() {
    let files = Files::new();
    for name in ["one", "two"] {
        std::fs::create_dir(files.path(name)).unwrap();
        files.issue(&format!("{name}/site"), &["localhost"]);
    }
    let lead_to = |name: &str| {
        std::os::unix::fs::symlink(name, files.path("next")).unwrap();
        std::fs::rename(files.path("next"), files.path("data")).unwrap();
    };
    lead_to("one");
    let mut server = with_pairs(Site::with([("a", b"a")]), &files, &["data/site"]).serve();
    let first = shown(&server);
    lead_to("two");
    server.wait_for_log("certificates replaced");
    assert_ne!(shown(&server), first);
}

#[test]
fn certificates_are_reloaded_on_sighup_and_a_bad_one_refuses_the_whole_reload() {
    let (site, files) = secured(Site::with([("a", b"a")]));
    files.issue("other", &["localhost"]);
    let file = |name: &str| {
        let [chains, keys] = files.lists(&[name]);
        format!("tls_cert = {chains:?}\ntls_key = {keys:?}\n")
    };
    let site = site.config(&file("site"));
    // Variables take precedence over the file.
    let site = without_pairs(site);
    let mut server = site.serve();
    let first = shown(&server);
    let config = server.root.join(".pagecast.toml");
    files.put("bad.pem", "");
    files.put("bad.key", "");
    std::fs::write(&config, file("bad") + "idle_timeout = '5s'").unwrap();
    server.signal("HUP");
    server.wait_for_log("not reloaded: the configuration stays as it was");
    assert!(server.log().contains("bad.pem: contains no certificate"), "{}", server.log());
    assert_eq!(shown(&server), first);
    std::fs::write(&config, file("other")).unwrap();
    server.signal("HUP");
    server.wait_for_log("certificates replaced: localhost");
    server.wait_for_log("reloaded ");
    assert_ne!(shown(&server), first);
}

#[test]
fn plain_http_is_redirected_and_tls_responses_have_hsts() {
    let (site, _files) = secured(Site::with([("a", b"a")]));
    let site =
        site.env("PAGECAST_HTTPS_REDIRECT", "on").env("PAGECAST_STRICT_TRANSPORT_SECURITY", "max-age=60");
    let server = site.serve();
    let moved = server.get("/a");
    assert_eq!((moved.status, moved.field("location")), (301, Some("https://x/a")));
    assert_eq!(moved.field("strict-transport-security"), None);
    let reply = Wants::usual().get(&server, "/a");
    assert_eq!((reply.status, reply.text().as_str()), (200, "a"));
    assert_eq!(reply.field("strict-transport-security"), Some("max-age=60"));
    assert!(!server.log().contains("no trusted proxy"), "{}", server.log());
}

#[test]
fn transport_security_is_sent_over_tls_and_not_over_plain_http() {
    let (site, _files) = secured(Site::with([("a", b"a")]));
    let server = site.env("PAGECAST_STRICT_TRANSPORT_SECURITY", "max-age=60").serve();
    assert!(!server.log().contains("strict_transport_security"), "{}", server.log());
    for target in ["/a", "/none"] {
        let secure = Wants::usual().get(&server, target);
        assert_eq!(secure.field("strict-transport-security"), Some("max-age=60"), "{target}");
        assert_eq!(server.get(target).field("strict-transport-security"), None, "{target}");
    }
}

#[test]
fn a_proxy_names_its_client_before_the_handshake() {
    let (site, _files) = secured(Site::with([("a", b"a")]));
    let site = site.env("PAGECAST_TRUSTED_PROXIES", "127.0.0.1").env("PAGECAST_PROXY_PROTOCOL", "require");
    let server = site.env("PAGECAST_CLIENT_CONNECTIONS", "1").serve();
    let connect = |client: &str| {
        let mut stream = connect_raw(&server);
        write!(stream, "PROXY TCP4 {client} 192.0.2.9 1 443\r\n").unwrap();
        Wants::usual().over(stream)
    };
    let mut first = connect("192.0.2.1").unwrap();
    assert_eq!(ask(&mut first, "/a", "").text(), "a");
    let refused = connect("192.0.2.1").unwrap_err().to_string();
    assert!(refused.contains("InternalError"), "an alert: {refused}");
    assert_eq!(ask(&mut connect("192.0.2.2").unwrap(), "/a", "").text(), "a");
}

#[test]
fn unix_and_inherited_sockets_can_use_tls() {
    let (site, _files) = secured(Site::with([("a", b"a")]));
    let path = site.path().join("s");
    let server = site.env("PAGECAST_TLS_LISTEN", &format!("unix:{}", path.display())).serve();
    let mut client = Wants::usual().over(UnixStream::connect(&path).unwrap()).unwrap();
    assert_eq!(ask(&mut client, "/a", "").text(), "a");
    drop(server);
    for (name, by_address) in [("https", false), ("", true)] {
        let (site, _files) = secured(Site::with([("a", b"a")]));
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let listen = if by_address { address.to_string() } else { "off".to_owned() };
        let site = site.env("PAGECAST_TLS_LISTEN", &listen);
        let server = site.start(activated(&site, [Some(socket.into()), None], "1", name), " ready: ");
        assert_eq!(server.tls, Some(address), "{}", server.log());
        assert_eq!(Wants::usual().get(&server, "/a").text(), "a");
    }
    let site = Site::new();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let ended = activated(&site, [Some(socket.into()), None], "1", "https").output().unwrap();
    let log = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code() == Some(1) && log.contains("there is no certificate"), "{log}");
}

#[test]
fn a_successor_takes_over_the_tls_listeners() {
    let (site, _files) = secured(Site::with([("a", b"a"), ("long", &pattern(LONG, 1))]));
    let up = Upgrades::new(site);
    let mut old = up.first();
    let mut download = narrow(&old);
    write!(download, "GET /long HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut reply = Reply::read(&mut download, true).unwrap();
    let new = up.next();
    assert_eq!((new.address, new.tls), (old.address, old.tls), "{}", new.log());
    assert_eq!(Wants::usual().get(&new, "/a").text(), "a");
    assert_eq!(new.get("/a").text(), "a");
    reply.body = vec![0; LONG];
    download.read_exact(&mut reply.body).unwrap();
    assert!(reply.body == pattern(LONG, 1));
    drop(download);
    assert_eq!(old.wait().code(), Some(0), "{}", old.log());
}

#[test]
fn when_connections_are_scarce_unfinished_handshakes_are_closed_first() {
    let (site, _files) = secured(Site::with([("a", b"a")]));
    let server = site.env("PAGECAST_MAX_CONNECTIONS", "4").serve();
    let mut kept: Vec<_> = (0..2).map(|_| Wants::usual().connect(server.tls_address()).unwrap()).collect();
    for client in &mut kept {
        // Twice: a normal client.
        assert_eq!(ask(client, "/a", "").text(), "a");
        assert_eq!(ask(client, "/a", "").text(), "a");
    }
    let unfinished: Vec<TcpStream> = (0..2).map(|_| connect_raw(&server)).collect();
    for mut stream in &unfinished {
        stream.write_all(&hello()[..50]).unwrap();
    }
    // They are kept for a second, as normal clients are after each response.
    std::thread::sleep(Duration::from_millis(1100));
    for client in &mut kept {
        assert_eq!(ask(client, "/a", "").text(), "a");
    }
    let newcomers = [(); 2].map(|()| Wants::usual().connect(server.tls_address()).expect("a place"));
    drop(newcomers);
    for client in &mut kept {
        assert_eq!(ask(client, "/a", "").text(), "a");
    }
}

#[test]
fn a_stalled_client_is_cut_off() {
    let (site, _files) = secured(Site::with([("long", &pattern(LONG, 1))]));
    let mut server = site.env("PAGECAST_STALL_TIMEOUT", "300ms").env("PAGECAST_LOG", "debug").serve();
    let mut client = narrow(&server);
    write!(client, "GET /long HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let _ = Reply::read(&mut client, true).unwrap();
    server.wait_for_log("the client took nothing for stall_timeout");
    let mut rest = Vec::new();
    assert!(client.read_to_end(&mut rest).is_err() && rest.len() < LONG);
}

#[test]
fn a_paced_download_keeps_to_its_rate() {
    let (site, _files) = secured(Site::with([("x", &pattern(600_000, 1))]));
    let server = site.env("PAGECAST_RATE_CLIENT", "400KiB").serve();
    let begun = Instant::now();
    assert!(Wants::usual().get(&server, "/x").body == pattern(600_000, 1));
    assert!(begun.elapsed() > Duration::from_millis(1000), "{:?}", begun.elapsed());
}

#[test]
#[ignore = "needs openssl: apt-get install openssl"]
fn openssl_can_connect() {
    let (site, files) = secured(Site::with([("a", b"what openssl reads")]));
    let server = site.serve();
    let authority = files.path("authority");
    std::fs::write(&authority, &Authority::known().pem).unwrap();
    for version in ["-tls1_2", "-tls1_3"] {
        let mut command = Command::new("openssl");
        command.args([
            "s_client",
            "-quiet",
            "-verify_return_error",
            "-verify_hostname",
            "localhost",
            version,
        ]);
        command.args(["-servername", "localhost", "-connect", &server.tls_address().to_string()]);
        command.arg("-CAfile").arg(&authority);
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let request = b"GET /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        child.stdin.as_mut().unwrap().write_all(request).unwrap();
        let ended = child.wait_with_output().unwrap();
        let out = String::from_utf8_lossy(&ended.stdout);
        assert!(
            out.starts_with("HTTP/1.1 200 OK") && out.ends_with("what openssl reads"),
            "{version}: {out}"
        );
    }
    let old = Command::new("openssl")
        .args(["s_client", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"])
        .args(["-connect", &server.tls_address().to_string()])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert!(!old.status.success(), "1.1 is not spoken");
}

#[test]
#[ignore = "needs curl: apt-get install curl"]
fn curl_can_connect() {
    let long = pattern(LONG, 1);
    let (site, files) = secured(Site::with([("long", &long)]));
    let server = site.serve();
    let authority = files.path("authority");
    std::fs::write(&authority, &Authority::known().pem).unwrap();
    let port = server.tls_address().port();
    for arguments in [&["--tlsv1.3"][..], &["--tls-max", "1.2"], &["--range", "0-99999"]] {
        let fetched = Command::new("curl")
            .args(["-sSf", "--cacert", authority.to_str().unwrap()])
            .args(["--resolve", &format!("localhost:{port}:127.0.0.1")])
            .args(arguments)
            .arg(format!("https://localhost:{port}/long"))
            .output()
            .unwrap();
        let expected = if arguments[0] == "--range" { &long[..100_000] } else { &long };
        assert!(fetched.stdout == expected, "{arguments:?}: {}", String::from_utf8_lossy(&fetched.stderr));
    }
}

/// A client with a small receive buffer, so that unread bytes stay with the server.
fn narrow(server: &Server) -> Secured {
    Wants::usual().over(server.connect_narrow_to(server.tls_address())).unwrap()
}

/// The certificate that a new connection gets.
fn shown(server: &Server) -> Vec<u8> {
    let client = Wants::usual().connect(server.tls_address()).expect("a handshake");
    client.conn.peer_certificates().unwrap()[0].to_vec()
}

fn der(pem: &str) -> Vec<u8> {
    use rustls::pki_types::pem::PemObject;
    rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

/// The site with the pairs that its configuration file names.
fn without_pairs(site: Site) -> Site {
    site.without_env("PAGECAST_TLS_CERT").without_env("PAGECAST_TLS_KEY")
}
