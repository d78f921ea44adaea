//! The dashboard in a browser, beside a server under load.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::chromium::Browser;
use crate::client::ReadSome;
use crate::site::{Server, Site, pattern};

#[test]
#[ignore = "needs chromium: apt-get install chromium"]
fn the_page_shows_live_data_and_requests_nothing_from_elsewhere() {
    let server = site().serve();
    let _load = Load::on(&server);
    let mut browser = Browser::start();
    browser.show(1280, "dark");
    assert_eq!(browser.open(&page(&server)), 200);
    browser.wait_until("Number(document.getElementById('requests').textContent.replace(/[,k]/g, '')) > 0");
    browser.wait_until("document.querySelectorAll('#downloads tr').length > 0");
    browser.wait_until("document.querySelectorAll('#busy tr').length >= 4");
    browser.wait_until(
        "document.querySelector('#spark-requests .line').getAttribute('d').split('L').length > 3",
    );
    browser.wait_until("document.querySelectorAll('#troubles tr').length > 0");
    assert_eq!(browser.text("document.getElementById('link').textContent"), "Live");
    let names = browser.value("[...document.querySelectorAll('#busy bdi')].map(name => name.textContent)");
    assert!(names.as_array().unwrap().iter().any(|name| name == &format!("/{HOSTILE}")), "{names}");
    assert_eq!(browser.value("document.images.length + document.scripts.length"), 2);
    let downloads = browser.text("document.getElementById('downloads').textContent");
    assert!(downloads.contains("/artifacts/big.iso") && downloads.contains("127.0.0.1"), "{downloads}");
    let troubles = browser.text("document.getElementById('troubles').textContent");
    assert!(troubles.contains("Queries that look like an attack"), "{troubles}");
    assert_eq!(browser.text("document.getElementById('verdict').dataset.level"), "warn");
    assert_eq!(browser.text("document.querySelector('#issues .word').textContent"), "Warning");
    assert_eq!(browser.complaints(), [""; 0]);
    let asked = browser.asked();
    assert!(asked.len() >= 5 && asked.iter().all(|url| url.starts_with(&page(&server))), "{asked:?}");
    // Rows stay the same elements from second to second, so that a selection stays.
    browser.value("document.querySelector('#busy tr').id = 'marked'");
    let seen = browser.text("document.getElementById('as-of').textContent");
    browser.wait_until(&format!("document.getElementById('as-of').textContent !== '{seen}'"));
    assert_eq!(browser.value("document.querySelectorAll('#busy #marked').length"), 1);
}

#[test]
fn every_kind_of_refusal_has_its_description() {
    let server = site().serve();
    let script = server.get_admin("/dashboard.js").text();
    let status: serde_json::Value = serde_json::from_slice(&server.get_admin("/status").body).unwrap();
    for group in ["refused", "faults", "closed"] {
        for kind in status[group].as_object().unwrap().keys() {
            assert!(script.contains(&format!("\"{group}.{kind}\": [")), "{group}.{kind}");
        }
    }
}

#[test]
#[ignore = "needs chromium: apt-get install chromium"]
fn the_colour_scheme_follows_the_system_or_the_switch() {
    let server = site().serve();
    let mut browser = Browser::start();
    let ground = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number).reduce((a, b) => a + b) < 200";
    for (scheme, is_dark) in [("light", false), ("dark", true)] {
        browser.show(900, scheme);
        browser.open(&page(&server));
        assert_eq!(browser.value(ground), is_dark, "{scheme}");
    }
    for (choice, is_dark) in [("light", false), ("dark", true), ("auto", true)] {
        let choose = "const scheme = document.getElementById('scheme'); scheme.value = CHOICE; \
                      scheme.dispatchEvent(new Event('change'))";
        browser.value(&format!("{{ {} }}", choose.replace("CHOICE", &format!("'{choice}'"))));
        assert_eq!(browser.value(ground), is_dark, "{choice}");
        browser.open(&page(&server));
        browser.wait_until("document.documentElement.dataset.link === 'live'");
        assert_eq!(browser.value(ground), is_dark, "{choice}, after a reload");
    }
}

#[test]
#[ignore = "needs chromium: apt-get install chromium"]
fn the_page_fits_narrow_screens() {
    let server = site().serve();
    let _load = Load::on(&server);
    let mut browser = Browser::start();
    for width in [320, 360, 600, 768, 1024, 1920] {
        browser.show(width, "light");
        browser.open(&page(&server));
        browser.wait_until("document.querySelectorAll('#busy tr').length >= 4");
        browser.wait_until("document.querySelectorAll('#downloads tr').length > 0");
        let widths = browser.value("[document.documentElement.scrollWidth, innerWidth]");
        assert_eq!((&widths[0], &widths[1]), (&width.into(), &width.into()));
    }
}

#[test]
#[ignore = "needs chromium: apt-get install chromium"]
fn the_keyboard_reaches_every_control_and_questions_are_answered_with_it() {
    let server = site().serve();
    let mut browser = Browser::start();
    browser.show(1000, "light");
    browser.open(&page(&server));
    browser.wait_until("document.documentElement.dataset.link === 'live'");
    let focused = "const at = document.activeElement; at.id || at.dataset.act || at.getAttribute('href')";
    let focused = format!("(() => {{ {} }})()", focused.replace("; at.id", "; return at.id"));
    for expected in [
        "#verdict",
        "freeze",
        "scheme",
        "drain",
        "purge",
        "reload",
        "/status",
        "/metrics",
        "/debug/config?format=text",
        "/debug/cache",
        "/readyz",
    ] {
        browser.press("Tab");
        assert_eq!(browser.text(&focused), expected);
        assert_eq!(browser.value("document.activeElement.matches(':focus-visible')"), true, "{expected}");
        assert_ne!(
            browser.text("getComputedStyle(document.activeElement).outlineStyle"),
            "none",
            "{expected}"
        );
    }
    let every = browser.value("document.querySelectorAll('button, select, a').length");
    let hidden = browser.value("document.querySelectorAll('[hidden], dialog button').length > 0");
    assert_eq!(
        (every, hidden),
        (14.into(), true.into()),
        "every control but those of the dialog was reached"
    );

    browser.value("document.getElementById('drain').focus()");
    browser.press("Enter");
    assert_eq!(browser.text(&focused), "ask-no", "nothing happens by a second Enter");
    browser.press("Escape");
    assert_eq!(browser.value("document.getElementById('ask').open"), false);
    assert_eq!(browser.text(&focused), "drain", "the focus is where it was");
    assert_eq!(server.get_admin("/readyz").status, 200);
    browser.press("Enter");
    browser.press("Tab");
    assert_eq!(browser.text(&focused), "ask-yes");
    browser.press("Enter");
    browser.wait_until("document.getElementById('ask-outcome').textContent === 'Readiness fails now.'");
    assert_eq!(server.get_admin("/readyz").status, 503);
    browser.press("Escape");
    browser.wait_until("document.getElementById('issues').textContent.includes('Drained by an operator')");
    browser.wait_until("document.getElementById('drain').hidden && !document.getElementById('ready').hidden");
    browser.value("document.getElementById('ready').focus()");
    browser.press("Enter");
    browser.press("Tab");
    browser.press("Enter");
    browser
        .wait_until("document.getElementById('ask-outcome').textContent.startsWith('Readiness is restored')");
    assert_eq!(server.get_admin("/readyz").status, 200);
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
#[ignore = "needs chromium: apt-get install chromium"]
fn the_results_of_a_purge_and_a_reload_are_shown() {
    let server = site().config("idle_timeout = '7s'").serve();
    for _ in 0..3 {
        server.get("/index.html");
    }
    let mut browser = Browser::start();
    browser.open(&page(&server));
    browser.wait_until("document.documentElement.dataset.link === 'live'");
    let outcome =
        |text: &str| format!("document.getElementById('ask-outcome').textContent.includes({text:?})");
    browser.value("document.querySelector('[data-act=purge]').click()");
    browser.value("document.getElementById('ask-yes').click()");
    browser.wait_until(&outcome("Enter a glob"));
    browser.write("[");
    browser.value("document.getElementById('ask-yes').click()");
    browser.wait_until(&outcome("which has a [ without its ]"));
    browser.value("document.getElementById('globs').value = '*.html\\n/none/**'");
    browser.value("document.getElementById('ask-yes').click()");
    browser.wait_until(&outcome("1 name and 1 file purged."));
    browser.press("Escape");
    std::fs::write(server.root.join(".pagecast.toml"), "idle_timeout = '8s'\nnames = 99").unwrap();
    browser.value("document.querySelector('[data-act=reload]').click()");
    browser.value("document.getElementById('ask-yes').click()");
    browser.wait_until(&outcome("idle_timeout = 8s (was 7s)"));
    browser.wait_until(&outcome("names = 99 needs a restart; until then it stays 65536."));
    browser.press("Escape");
    std::fs::write(server.root.join(".pagecast.toml"), "idle_timeout = '<b>'").unwrap();
    browser.value("document.querySelector('[data-act=reload]').click()");
    browser.value("document.getElementById('ask-yes').click()");
    browser.wait_until(&outcome("Nothing has changed: the configuration is wrong."));
    browser.wait_until(&outcome("idle_timeout: the value \"<b>\""));
    assert_eq!(browser.value("document.querySelectorAll('#ask-outcome b').length"), 0);
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
#[ignore = "needs chromium: apt-get install chromium"]
fn a_lost_connection_is_shown_and_restored() {
    let site = site();
    let first = site.start(site.command(), " ready: ");
    let mut browser = Browser::start();
    browser.open(&page(&first));
    browser.wait_until("document.documentElement.dataset.link === 'live'");
    browser.wait_until("document.getElementById('as-of').textContent !== '–'");
    let address = first.admin.unwrap();
    drop(first);
    browser.wait_until("document.documentElement.dataset.link === 'lost'");
    browser.wait_until("!document.getElementById('lost').hidden");
    let message = browser.text("document.getElementById('lost').textContent");
    assert!(
        message.starts_with("Connection lost.") && message.contains("These values are from "),
        "{message}"
    );
    assert!(browser.text("document.title").contains("lost"));
    let mut command = site.command();
    command.env("PAGECAST_ADMIN_LISTEN", address.to_string());
    let _second = site.start(command, " ready: ");
    browser.wait_until("document.documentElement.dataset.link === 'live'");
    browser.wait_until("document.getElementById('lost').hidden");
    browser.wait_until("!document.title.includes('lost')");
}

#[test]
#[ignore = "needs chromium: apt-get install chromium"]
fn a_browser_sends_the_token_as_its_password() {
    let token = "correct-horse-battery-staple";
    let server = site().env("PAGECAST_ADMIN_TOKEN", token).serve();
    let mut browser = Browser::start();
    assert_eq!(browser.open(&page(&server)), 401);
    let url = page(&server).replace("http://", &format!("http://operator:{token}@"));
    assert_eq!(browser.open(&url), 200);
    browser.wait_until("document.documentElement.dataset.link === 'live'");
    browser.value("document.querySelector('[data-act=drain]').click()");
    browser.value("document.getElementById('ask-yes').click()");
    browser.wait_until("document.getElementById('ask-outcome').textContent === 'Readiness fails now.'");
    assert_eq!(server.get_admin("/readyz").status, 503);
}

/// Screenshots for the README, if `PAGECAST_SCREENSHOTS` names a directory.
#[test]
#[ignore = "needs chromium: apt-get install chromium"]
fn screenshots_can_be_taken() {
    let directory = std::env::var_os("PAGECAST_SCREENSHOTS").map(PathBuf::from);
    let server = site().serve();
    let _load = Load::on(&server);
    let mut browser = Browser::start();
    browser.show(1280, "light");
    browser.open(&page(&server));
    let seconds = if directory.is_some() { 75 } else { 3 };
    let line = "(document.querySelector('#spark-requests .line').getAttribute('d') ?? '').split('L').length";
    for _ in 0..seconds {
        std::thread::sleep(Duration::from_millis(if directory.is_some() { 1000 } else { 200 }));
    }
    browser.wait_until(&format!("{line} >= 3"));
    for (name, width, height, scheme) in [
        ("dashboard-light", 1280, 1120, "light"),
        ("dashboard-dark", 1280, 1120, "dark"),
        ("dashboard-phone", 360, 1500, "dark"),
    ] {
        browser.show(width, scheme);
        browser.wait_until("document.querySelectorAll('#busy tr').length >= 4");
        std::thread::sleep(Duration::from_millis(300));
        let picture = browser.picture(width, height);
        assert!(picture.starts_with(b"\x89PNG"), "{name}");
        if let Some(directory) = &directory {
            std::fs::write(directory.join(format!("{name}.png")), picture).unwrap();
        }
    }
}

/// Clients of a server, until it is dropped.
struct Load {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Small and large files, missing and refused ones, and slow readers.
    fn on(server: &Server) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let address = server.address;
        let mut threads = Vec::new();
        let mut spawn = |work: Box<dyn Fn(&AtomicBool) + Send>| {
            let is_over = Arc::clone(&is_over);
            threads.push(std::thread::spawn(move || work(&is_over)));
        };
        for _ in 0..4 {
            spawn(Box::new(move |is_over| ask_around(address, is_over)));
        }
        for rate in [60_000, 250_000, 900_000] {
            spawn(Box::new(move |is_over| read_slowly(address, rate, is_over)));
        }
        Self { is_over, threads }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Sends various requests on one connection, a few hundred a second.
fn ask_around(address: SocketAddr, is_over: &AtomicBool) {
    let Ok(mut stream) = TcpStream::connect(address) else { return };
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut buffer = vec![0; 1 << 20];
    for turn in 0_u32.. {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        let target = match turn % 40 {
            0..20 => "/index.html",
            20..28 => "/assets/app.js",
            28..33 => "/assets/site.css",
            33 => "/images/hero.avif",
            34 => "/releases/tool-2.4.1.tar.zst",
            35..38 => "/%3Cimg%20src=x%20onerror=alert(1)%3E.html",
            38 => "/old/page.php",
            _ if turn % 400 == 399 => "/?q=%3Cscript%3Ealert(1)%3C/script%3E",
            _ => "/favicon.ico",
        };
        // In waves of some seconds.
        std::thread::sleep(Duration::from_millis(1 + u64::from(turn / 80 % 5)));
        let asked = write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
        let read = asked.is_ok() && matches!(stream.read_some(&mut buffer), Ok(1..));
        if !read {
            match TcpStream::connect(address) {
                Ok(again) => stream = again,
                Err(_) => return,
            }
        }
    }
}

/// Downloads a large file at `rate` bytes a second, again and again.
fn read_slowly(address: SocketAddr, rate: usize, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(32 * 1024).unwrap();
        if socket.connect(&address.into()).is_err() {
            return;
        }
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let _ = stream.write_all(b"GET /artifacts/big.iso HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let mut piece = vec![0; rate / 20];
        while !is_over.load(Ordering::Relaxed) && stream.read_exact(&mut piece).is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The address of the page.
fn page(server: &Server) -> String {
    format!("http://{}/", server.admin.unwrap())
}

fn site() -> Site {
    let text = "a line of some text that is a page\n".repeat(40);
    let site = Site::with([
        ("index.html", text.as_bytes()),
        ("assets/app.js", text.as_bytes()),
        ("assets/site.css", text.as_bytes()),
        (HOSTILE, text.as_bytes()),
    ]);
    site.file("images/hero.avif", &pattern(300_000, 1))
        .file("releases/tool-2.4.1.tar.zst", &pattern(700_000, 2))
        .file("artifacts/big.iso", &pattern(16 << 20, 3))
        .env("PAGECAST_ADMIN_LISTEN", "127.0.0.1:0")
        .env("PAGECAST_QUERY_FILTER", "on")
        .env("PAGECAST_MAX_CONNECTIONS", "48")
        .env("PAGECAST_HANDLES", "32")
        .env("PAGECAST_CACHE_BYTES", "96MiB")
        .env("PAGECAST_HEAP_BYTES", "1MiB")
}

/// A name that would run a script if it were not escaped.
const HOSTILE: &str = "<img src=x onerror=alert(1)>.html";
