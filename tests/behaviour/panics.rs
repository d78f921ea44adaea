//! Other Apps behind the same connections: panics, middleware and streams, in this process.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use actix_http::Request;
use actix_service::{IntoServiceFactory, Service, ServiceFactory, fn_service, map_config};
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{AppConfig, ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{ETAG, HeaderName, HeaderValue};
use actix_web::{App, Error, HttpResponse, web};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use pagecast::config::{
    ByteCount, CachesGroup, Config, ConnectionsGroup, CredentialFiles, DurationSetting, LoadedConfig, OnOff,
    ResolvedLimits, SendingGroup, Symlinks, Toggle, ValueOrigins,
};
use pagecast::files::policy::Rules;
use pagecast::files::{FileSettings, Files, Root};
use pagecast::limits::client_limits::Limits;
use pagecast::net::opening;
use pagecast::net::socket::Socket;
use pagecast::net::worker::Worker;
use pagecast::site::settings::{Site, SiteSettings};
use pagecast::telemetry::metrics::registry::Metrics;

use crate::frames::{self, Raw};
use crate::site::{PATIENCE, Reply, pattern};

const LARGE: usize = 300_000;

#[test]
fn a_panic_costs_only_its_request() {
    let client = Client::of(Change::Nothing);
    for (target, sentence) in [("/panic", "Something failed.\n"), ("/panic-later", "Something failed.\n")] {
        let replies = client.ask(&[target, "/small", target, "/large"]);
        let statuses: Vec<_> = replies.iter().map(|reply| reply.status).collect();
        assert_eq!(statuses, [500, 200, 500, 200], "{target}: the connection goes on");
        assert_eq!(replies[0].text(), sentence);
        assert!(!replies[0].text().contains("on purpose"), "the cause is not for the client");
        assert_eq!(replies[1].text(), "small");
        assert!(replies[3].body == pattern(LARGE, 1));
    }
    assert_eq!(client.ask(&["/small"])[0].text(), "small", "the worker goes on");
}

#[test]
fn a_body_that_fails_or_panics_cuts_only_its_connection() {
    let client = Client::of(Change::Nothing);
    for target in ["/stream-that-fails", "/stream-that-is-short"] {
        let got = client
            .raw(&format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\nGET /small HTTP/1.1\r\nHost: x\r\n\r\n"));
        let text = String::from_utf8_lossy(&got);
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{target}: {text}");
        assert!(text.contains("piece"), "{target}: what there was came: {text}");
        assert!(!text.ends_with("0\r\n\r\n"), "{target}: it does not look finished: {text}");
        assert_eq!(text.matches("HTTP/1.1").count(), 1, "{target}: nothing follows: {text}");
        assert_eq!(client.ask(&["/small"])[0].text(), "small", "the worker goes on");
    }
}

#[test]
fn headers_added_by_a_middleware_are_sent() {
    let client = Client::of(Change::Fields);
    for (target, body) in
        [("/small", b"small".to_vec()), ("/large", pattern(LARGE, 1)), ("/empty", Vec::new())]
    {
        let reply = &client.ask(&[target])[0];
        assert_eq!(reply.status, 200, "{target}");
        assert!(reply.body == body, "{target}");
        assert_eq!(reply.field("x-added"), Some("yes"), "{target}");
        assert_eq!(reply.field("etag"), Some("\"of-the-middleware\""), "{target}");
        let etags = reply.fields.iter().filter(|(name, _)| name == "etag").count();
        assert_eq!(etags, 1, "{target}: its field takes the place of the file's");
        assert!(reply.field("last-modified").is_some(), "{target}: the others stay");
        assert_eq!(reply.content_length(), Some(body.len() as u64));
    }
    let missing = &client.ask(&["/missing"])[0];
    assert_eq!((missing.status, missing.field("x-added")), (404, Some("yes")));
}

#[test]
fn a_body_replaced_by_a_middleware_is_sent() {
    let client = Client::of(Change::Body);
    for target in ["/small", "/large", "/empty", "/missing"] {
        let reply = &client.ask(&[target])[0];
        assert_eq!(reply.text(), "another body", "{target}");
        assert_eq!(reply.content_length(), Some(12), "{target}");
        assert_eq!(reply.field("etag"), None, "{target}: the tag was of other bytes");
        let lengths = reply.fields.iter().filter(|(name, _)| name == "content-length").count();
        assert_eq!(lengths, 1, "{target}");
    }
}

#[test]
fn a_middleware_that_reads_the_body_and_changes_it_gets_the_files_bytes() {
    let client = Client::of(Change::Upside);
    for (target, mut body) in [("/small", b"small".to_vec()), ("/large", pattern(LARGE, 1))] {
        body.reverse();
        let reply = &client.ask(&[target])[0];
        assert_eq!(reply.status, 200, "{target}");
        assert!(reply.body == body, "{target}: {} bytes", reply.body.len());
    }
}

#[test]
fn a_status_changed_by_a_middleware_is_sent() {
    let client = Client::of(Change::Status);
    for (target, body) in
        [("/small", b"small".to_vec()), ("/large", pattern(LARGE, 1)), ("/missing", b"Not found.\n".to_vec())]
    {
        let replies = client.ask(&[target, "/small"]);
        assert_eq!(replies[0].status, 418, "{target}");
        assert!(replies[0].body == body, "{target}: {:?}", replies[0].text().get(..40));
        assert_eq!(replies[1].text(), "small", "{target}: the connection is still in step");
    }
}

#[test]
fn a_stream_is_chunked_for_http_11() {
    let client = Client::of(Change::Nothing);
    let got = client.raw("GET /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let text = String::from_utf8(got).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let head = head.to_ascii_lowercase();
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    assert!(!head.contains("content-length"), "{head}");
    assert_eq!(body, "5\r\nfirst\r\n6\r\nsecond\r\n0\r\n\r\n");
    // The connection goes on after it.
    let two = client.raw(
        "GET /stream HTTP/1.1\r\nHost: x\r\n\r\nGET /small HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    );
    let text = String::from_utf8(two).unwrap();
    assert!(text.ends_with("small") && text.matches("HTTP/1.1 200").count() == 2, "{text}");
}

#[test]
fn a_stream_ends_with_the_connection_for_http_10() {
    let client = Client::of(Change::Nothing);
    let got = client.raw("GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let text = String::from_utf8(got).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let head = head.to_ascii_lowercase();
    assert!(!head.contains("transfer-encoding") && !head.contains("content-length"), "{head}");
    assert!(!head.contains("keep-alive"), "it can't be kept: {head}");
    assert_eq!(body, "firstsecond");
}

#[test]
fn a_cut_stream_resets_an_http_10_connection() {
    let client = Client::of(Change::Nothing);
    let get = |raw: &'static str| {
        client.talk_over(tcp_pair, move |mut stream| {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(raw.as_bytes()).unwrap();
            let mut got = Vec::new();
            let ended = stream.read_to_end(&mut got).map_err(|error| error.kind());
            (String::from_utf8(got).unwrap(), ended.map(|_| ()))
        })
    };
    let (_, ended) = get("GET /stream-that-fails HTTP/1.0\r\n\r\n");
    assert_eq!(ended, Err(ErrorKind::ConnectionReset));
    let (_, ended) = get("GET /stream-that-panics HTTP/1.0\r\n\r\n");
    assert_eq!(ended, Err(ErrorKind::ConnectionReset));
    let (text, ended) = get("GET /stream HTTP/1.0\r\n\r\n");
    assert!(
        text.ends_with("firstsecond") && ended == Ok(()),
        "one that is whole ends well: {ended:?}, {text}"
    );
    // Chunks show by themselves that they are incomplete, so bytes under way need not be lost.
    let (text, ended) = get("GET /stream-that-fails HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(text.ends_with("piece\r\n") && ended == Ok(()), "{ended:?}, {text}");
}

#[test]
fn a_stream_has_no_body_for_head() {
    let client = Client::of(Change::Nothing);
    let got = client.raw(
        "HEAD /stream HTTP/1.1\r\nHost: x\r\n\r\nGET /small HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    );
    let text = String::from_utf8(got).unwrap();
    let (_, rest) = text.split_once("\r\n\r\n").unwrap();
    assert!(rest.starts_with("HTTP/1.1 200 OK\r\n") && rest.ends_with("small"), "{text}");
}

#[test]
fn over_http2_a_panic_costs_only_its_stream() {
    let bodies =
        Client::of(Change::Nothing).ask_by_http2(&["/panic", "/small", "/panic-later", "/large", "/stream"]);
    let large = pattern(LARGE, 1);
    let expected: [&[u8]; 5] =
        [b"Something failed.\n", b"small", b"Something failed.\n", &large, b"firstsecond"];
    for (body, expected) in bodies.iter().zip(expected) {
        assert_eq!(body.as_deref().map(<[u8]>::len), Ok(expected.len()));
        assert!(body.as_deref() == Ok(expected));
    }
}

#[test]
fn over_http2_a_stream_that_fails_is_reset_and_the_others_go_on() {
    let bodies = Client::of(Change::Nothing).ask_by_http2(&["/stream-that-fails", "/small"]);
    assert_eq!(bodies[0], Err("INTERNAL_ERROR"));
    assert_eq!(bodies[1].as_deref(), Ok(&b"small"[..]));
}

#[test]
fn over_http2_changes_by_a_middleware_are_sent() {
    let mut upside = pattern(LARGE, 1);
    upside.reverse();
    for (change, small, large) in [
        (Change::Fields, &b"small"[..], &pattern(LARGE, 1)[..]),
        (Change::Body, b"another body", b"another body"),
        (Change::Upside, b"llams", &upside),
        (Change::Status, b"small", &pattern(LARGE, 1)),
    ] {
        let bodies = Client::of(change).ask_by_http2(&["/small", "/large"]);
        assert!(bodies[0].as_deref() == Ok(small) && bodies[1].as_deref() == Ok(large));
    }
}

/// What the middleware does to each response.
#[derive(Clone, Copy, PartialEq)]
enum Change {
    Nothing,
    Fields,
    Body,
    Upside,
    Status,
}

/// Connects to an App with routes and files in this process.
struct Client {
    change: Change,
}

impl Client {
    fn of(change: Change) -> Self {
        Self { change }
    }

    /// Requests the targets one after the other on one connection.
    fn ask(&self, targets: &[&str]) -> Vec<Reply> {
        let targets: Vec<String> = targets.iter().map(|target| (*target).to_owned()).collect();
        self.talk(move |mut stream| {
            let mut replies = Vec::new();
            for target in targets {
                stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
                replies.push(Reply::read(&mut stream, false).expect("a response"));
            }
            replies
        })
    }

    /// Requests the targets one after the other on one HTTP/2 connection.
    fn ask_by_http2(&self, targets: &[&str]) -> Vec<Result<Vec<u8>, &'static str>> {
        let targets: Vec<String> = targets.iter().map(|target| (*target).to_owned()).collect();
        self.talk(move |stream| {
            let mut client = Raw::over(stream, &[]);
            let asked = (1..).step_by(2).zip(targets);
            asked
                .map(|(stream, target)| {
                    client.send(&frames::ask(stream, &target));
                    client.body(stream)
                })
                .collect()
        })
    }

    /// Sends `raw` and reads everything until the end.
    fn raw(&self, raw: &str) -> Vec<u8> {
        let raw = raw.to_owned();
        self.talk(move |mut stream| {
            stream.write_all(raw.as_bytes()).unwrap();
            let mut got = Vec::new();
            stream.read_to_end(&mut got).expect("the connection ends in time");
            got
        })
    }

    fn talk<T: Send + 'static>(&self, talk: impl FnOnce(UnixStream) -> T + Send + 'static) -> T {
        self.talk_over(unix_pair, talk)
    }

    fn talk_over<S: Send + 'static, T: Send + 'static>(
        &self,
        pair: fn() -> (OwnedFd, S),
        talk: impl FnOnce(S) -> T + Send + 'static,
    ) -> T {
        let change = self.change;
        actix_rt::System::new().block_on(async move {
            let directory = tempfile::tempdir().unwrap();
            for (name, bytes) in
                [("small", b"small".to_vec()), ("large", pattern(LARGE, 1)), ("empty", Vec::new())]
            {
                std::fs::write(directory.path().join(name), bytes).unwrap();
            }
            let files =
                Files::new(Root::open(directory.path(), Symlinks::Inside).unwrap(), &settings(), rules())
                    .unwrap();
            let worker = Worker::new(
                app(files.clone(), change).await,
                files,
                connection_settings(),
                Limits::new(&Config::default(), &ResolvedLimits::default()),
                Metrics::default().worker(),
            );
            let (near, far) = pair();
            let client = tokio::task::spawn_blocking(move || talk(far));
            actix_rt::spawn(opening::serve(worker, Socket::new(near, None), None));
            client.await.unwrap()
        })
    }
}

fn unix_pair() -> (OwnedFd, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    (near.into(), far)
}

fn tcp_pair() -> (OwnedFd, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (near, _) = listener.accept().unwrap();
    near.set_nonblocking(true).unwrap();
    (near.into(), far)
}

async fn app(
    files: Files,
    change: Change,
) -> impl Service<Request, Response = ServiceResponse<BoxBody>, Error = Error> + 'static {
    let (config, limits) = (Config::default(), ResolvedLimits::default());
    let client_limits = Limits::new(&config, &limits);
    let loaded = LoadedConfig {
        config,
        origins: ValueOrigins::default(),
        limits,
        redirects: Arc::default(),
        access: CredentialFiles::default(),
        file: None,
    };
    let settings = SiteSettings::new(&loaded, files, &client_limits, false).unwrap();
    let site = Site::new(settings, Arc::default());
    let app = App::new()
        .route("/panic", web::to(panics))
        .route("/panic-later", web::to(panics_later))
        .route("/stream", web::to(|| async { pieces(vec![Ok("first"), Ok(""), Ok("second")]) }))
        .route("/stream-that-fails", web::to(|| async { pieces(vec![Ok("piece"), Err("on purpose")]) }))
        .route("/stream-that-panics", web::to(|| async { panicking() }))
        .route("/stream-that-is-short", web::to(|| async { short() }))
        .default_service(fn_service(move |request: ServiceRequest| site.clone().serve(request)))
        .wrap_fn(move |request, next| {
            let response = next.call(request);
            async move { apply(change, response.await?).await }
        });
    map_config(app, |()| AppConfig::default()).into_factory().new_service(()).await.expect("an App")
}

async fn apply(change: Change, mut response: ServiceResponse) -> Result<ServiceResponse, Error> {
    match change {
        Change::Nothing => Ok(response),
        Change::Fields => {
            let fields = response.headers_mut();
            fields.insert(HeaderName::from_static("x-added"), HeaderValue::from_static("yes"));
            fields.insert(ETAG, HeaderValue::from_static("\"of-the-middleware\""));
            Ok(response)
        }
        Change::Body => Ok(response.map_body(|_, _| BoxBody::new("another body"))),
        Change::Upside => {
            let (request, response) = response.into_parts();
            let (response, body) = response.into_parts();
            let mut bytes = actix_web::body::to_bytes(body).await.expect("the file's bytes").to_vec();
            bytes.reverse();
            Ok(ServiceResponse::new(request, response.set_body(BoxBody::new(bytes))))
        }
        Change::Status => {
            *response.response_mut().status_mut() = StatusCode::IM_A_TEAPOT;
            Ok(response)
        }
    }
}

async fn panics() -> HttpResponse {
    panic!("on purpose")
}

async fn panics_later() -> HttpResponse {
    tokio::time::sleep(Duration::from_millis(5)).await;
    panic!("on purpose")
}

fn pieces(pieces: Vec<Result<&'static str, &'static str>>) -> HttpResponse {
    let pieces = pieces.into_iter().map(|piece| match piece {
        Ok(text) => Ok(Bytes::from_static(text.as_bytes())),
        Err(why) => Err(std::io::Error::other(why)),
    });
    HttpResponse::Ok().streaming(stream::iter(pieces))
}

/// A body that panics in the middle.
fn panicking() -> HttpResponse {
    let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"piece"))]);
    let rest = stream::once(async { panic!("on purpose") });
    HttpResponse::Ok().streaming(first.chain(rest))
}

/// A body that is shorter than its length.
fn short() -> HttpResponse {
    let pieces = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"piece"))]);
    HttpResponse::Ok().body(actix_web::body::SizedStream::new(10, pieces).boxed())
}

fn rules() -> Arc<Rules> {
    Rules::new(&Config::default())
}

fn settings() -> FileSettings {
    let limits = ResolvedLimits {
        handles: 16,
        mappings: 100,
        cache_bytes: 1 << 30,
        heap_bytes: 1 << 20,
        ..ResolvedLimits::default()
    };
    FileSettings::of(
        &Config {
            caches: CachesGroup { watch: OnOff::Off, ..CachesGroup::default() }.into(),
            ..Config::default()
        },
        &limits,
    )
}

fn connection_settings() -> Arc<Config> {
    let connections = ConnectionsGroup {
        idle_timeout: DurationSetting::seconds(10),
        stall_timeout: DurationSetting::seconds(10),
        linger_timeout: DurationSetting::millis(200),
        min_rate: Toggle::Off,
        ..ConnectionsGroup::default()
    };
    let sending = SendingGroup {
        disk_timeout: DurationSetting::seconds(10),
        long_rate: ByteCount::bytes(0),
        ..SendingGroup::default()
    };
    Config { connections: connections.into(), sending: sending.into(), ..Config::default() }.into()
}
