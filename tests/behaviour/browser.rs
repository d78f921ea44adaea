//! Listings and error pages in a browser.

use std::fs;
use std::time::{Duration, UNIX_EPOCH};

use crate::chromium::Browser;
use crate::site::Site;

#[test]
#[ignore = "needs chromium: apt-get install chromium"]
fn the_keyboard_reaches_everything_in_order() {
    let server = site().serve();
    let mut browser = Browser::start();
    browser.show(900, "light");
    assert_eq!(browser.load(&server, "/docs/guide/"), 200);
    let expected = [
        "../../",
        "../",
        "?sort=name&order=desc",
        "?sort=size&order=desc",
        "?sort=date&order=desc",
        "../",
        "./sub/",
        "./a10.txt",
        "./b2.txt",
        "./b10.txt",
        "?archive=tar",
        "?archive=tar.zst",
        "?archive=zip",
        "?format=json",
    ];
    for href in expected {
        browser.press("Tab");
        assert_eq!(browser.text("document.activeElement.getAttribute('href') ?? ''"), href);
        let outline = browser.text(
            "document.activeElement.matches(':focus-visible') + ' ' + \
             getComputedStyle(document.activeElement).outlineStyle + ' ' + \
             getComputedStyle(document.activeElement).outlineWidth",
        );
        assert_eq!(outline, "true solid 3px", "the focus on {href} is to be seen");
    }
}

#[test]
#[ignore = "needs chromium: apt-get install chromium"]
fn enter_on_a_column_sorts_by_it_and_enter_again_the_other_way_round() {
    let server = site().serve();
    let mut browser = Browser::start();
    browser.load(&server, "/docs/guide/");
    assert_eq!(browser.text(SHOWN), "sub a10.txt b2.txt b10.txt");
    for (column, order, shown) in [
        ("size", "descending", "b10.txt b2.txt a10.txt sub"),
        ("size", "ascending", "sub a10.txt b2.txt b10.txt"),
        ("date", "descending", "b2.txt a10.txt b10.txt sub"),
        ("date", "ascending", "sub b10.txt a10.txt b2.txt"),
        ("name", "ascending", "sub a10.txt b2.txt b10.txt"),
        ("name", "descending", "sub b10.txt b2.txt a10.txt"),
    ] {
        browser.value(&format!("document.querySelector('thead .{column} a').focus()"));
        browser.press("Enter");
        browser.wait_until(&format!(
            "document.readyState === 'complete' && \
             document.querySelector('thead .{column}').getAttribute('aria-sort') === '{order}'"
        ));
        assert_eq!(browser.text(SHOWN), shown, "{column} {order}");
        assert_eq!(browser.value("document.querySelectorAll('[aria-sort]').length"), 1);
    }
}

#[test]
#[ignore = "needs chromium: apt-get install chromium"]
fn the_page_is_dark_for_those_who_like_it_dark() {
    let server = site().serve();
    let mut browser = Browser::start();
    for (scheme, is_dark) in [("light", false), ("dark", true)] {
        browser.show(900, scheme);
        browser.load(&server, "/docs/guide/");
        for (element, property, is_ground) in
            [("body", "backgroundColor", true), ("table", "backgroundColor", true), ("body", "color", false)]
        {
            let colour = format!("getComputedStyle(document.querySelector('{element}')).{property}");
            let lightness = browser.value(&format!(
                "{colour}.match(/\\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 765"
            ));
            let lightness = lightness.as_f64().unwrap();
            let wanted = if is_ground == is_dark { 0.0..0.25 } else { 0.75..1.01 };
            assert!(wanted.contains(&lightness), "{scheme} {element} {property}: {lightness}");
        }
    }
}

#[test]
#[ignore = "needs chromium: apt-get install chromium"]
fn a_narrow_screen_is_wide_enough() {
    let long = format!("{}.txt", "a-long-name-without-a-blank".repeat(6));
    let server = site().file(&format!("docs/guide/{long}"), b"x").serve();
    let mut browser = Browser::start();
    for (width, target) in
        [(360, "/docs/guide/"), (360, "/"), (320, "/docs/guide/?sort=date"), (1280, "/docs/guide/")]
    {
        browser.show(width, "light");
        browser.load(&server, target);
        let widths = browser.value("[document.documentElement.scrollWidth, innerWidth]");
        assert_eq!(widths[0], widths[1], "{target} at {width}");
        assert_eq!(widths[1], width);
    }
}

#[test]
#[ignore = "needs chromium: apt-get install chromium"]
fn names_run_nothing_and_are_shown_as_they_are() {
    let names = [
        "<img src=x onerror=alert(1)>",
        "<script>alert(1)<script>.txt",
        "\"onmouseover=\"alert(1)",
        "&lt;b&gt;",
        "javascript:alert(1)",
    ];
    let server =
        names.iter().fold(site(), |site, name| site.file(&format!("bad/{name}"), name.as_bytes())).serve();
    let mut browser = Browser::start();
    browser.load(&server, "/bad/");
    let shown = browser.value("[...document.querySelectorAll('tbody th a')].map(link => link.textContent)");
    let mut shown: Vec<_> = shown.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let mut expected = names;
    shown.sort_unstable();
    expected.sort_unstable();
    assert_eq!(shown, expected);
    assert_eq!(browser.value("document.scripts.length + document.images.length"), 0);
    assert_eq!(browser.complaints(), [""; 0]);
    let address = browser.text("location.href");
    for name in names {
        let link =
            format!("[...document.querySelectorAll('tbody a')].find(link => link.textContent === {name:?})");
        assert!(browser.text(&format!("{link}.href")).starts_with(&address), "{name}");
        browser.value(&format!("{link}.click()"));
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(browser.complaints(), [""; 0], "{name}");
        browser.load(&server, "/bad/");
    }
}

#[test]
#[ignore = "needs chromium: apt-get install chromium"]
fn the_page_keeps_to_its_own_policy_which_stops_what_it_should() {
    let server = site().serve();
    let mut browser = Browser::start();
    for target in ["/", "/docs/guide/", "/docs/guide/?sort=size&order=asc"] {
        assert_eq!(browser.load(&server, target), 200);
        assert_eq!(browser.complaints(), [""; 0], "{target}");
        assert_eq!(browser.text("getComputedStyle(document.querySelector('table')).borderStyle"), "solid");
    }
    for (what, expected) in [
        (
            "document.body.append(Object.assign(document.createElement('script'), {textContent: 'ran = true'}))",
            "script",
        ),
        (
            "document.body.append(Object.assign(document.createElement('style'), {textContent: 'a { color: red }'}))",
            "style",
        ),
        ("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"ran = true\">')", "script"),
    ] {
        browser.load(&server, "/");
        browser.value(what);
        browser.wait_for_complaint("Content Security Policy", expected);
        assert_eq!(browser.text("typeof ran"), "undefined");
    }
}

#[test]
#[ignore = "needs chromium: apt-get install chromium"]
fn an_error_page_is_shown_with_its_status() {
    let page = include_bytes!("../../static/404.html");
    let server = site().file("404.html", page).serve();
    let mut browser = Browser::start();
    for (width, scheme) in [(900, "light"), (900, "dark"), (360, "light")] {
        browser.show(width, scheme);
        assert_eq!(browser.load(&server, "/docs/none/such.html"), 404);
        assert_eq!(browser.text("document.querySelector('h1').textContent"), "There is nothing here.");
        assert_eq!(browser.value("document.documentElement.scrollWidth"), width);
        assert_eq!(browser.complaints(), [""; 0]);
        assert_eq!(
            browser.value("performance.getEntriesByType('resource').length"),
            0,
            "it needs nothing else"
        );
    }
}

/// Names of the entries in the order shown.
const SHOWN: &str = "[...document.querySelectorAll('tbody bdi')].map(name => name.textContent).join(' ')";

fn site() -> Site {
    let site = Site::with([
        ("docs/guide/a10.txt", b"12"),
        ("docs/guide/b2.txt", b"123"),
        ("docs/guide/b10.txt", b"1234"),
        ("docs/guide/sub/x", b"x"),
    ])
    .env("PAGECAST_LISTING", "on");
    for (name, seconds) in [("a10.txt", 3000), ("b2.txt", 4000), ("b10.txt", 2000), ("sub", 1000)] {
        let date = UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds);
        fs::File::open(site.path().join("docs/guide").join(name)).unwrap().set_modified(date).unwrap();
    }
    site
}
