//! `pagecast compress` and `pagecast verify`, as publishers of a tree use them.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::cli::{run, stderr, stdout};
use crate::site::{PATIENCE, Site, pattern};

#[test]
fn every_compressible_file_gets_three_sidecars_that_decode_to_it() {
    let site =
        Site::with([("a.html", &prose(3_000)), ("d/b.json", &prose(5_000)), ("d/e/c.svg", &prose(1_024))]);
    let date = UNIX_EPOCH + Duration::new(315_532_801, 5);
    for name in ["a.html", "d/b.json", "d/e/c.svg"] {
        let path = site.path().join(name);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(date).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    }
    let output = compress(&site, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stderr(&output), "", "no bar where there is no terminal");
    assert!(stdout(&output).starts_with("3 files, 9 sidecars written, 0 skipped "), "{}", stdout(&output));
    for name in ["a.html", "d/b.json", "d/e/c.svg"] {
        let original = std::fs::read(site.path().join(name)).unwrap();
        for suffix in SUFFIXES {
            let sidecar = site.path().join(format!("{name}{suffix}"));
            assert_eq!(decoded(&sidecar), original, "{}", sidecar.display());
            let metadata = std::fs::metadata(&sidecar).unwrap();
            assert_eq!(metadata.modified().unwrap(), date);
            assert_eq!(metadata.mode() & 0o7777, 0o640);
        }
    }
    assert_eq!(names(site.path()).len(), 12);
    assert_eq!(compress(&site, &["--check"]).status.code(), Some(0));
    assert_eq!(verify(&site, &[]).status.code(), Some(0));
}

#[test]
fn other_files_get_no_sidecars_and_check_does_not_report_them() {
    let site = Site::with([
        ("small.txt", &prose(1_023)),
        ("noise.txt", &pattern(4_096, 1)),
        ("photo.png", &prose(4_096)),
        ("archive.tar.gz", &prose(4_096)),
        ("page.html.br", &prose(4_096)),
        (".hidden.html", &prose(4_096)),
        (".git/page.html", &prose(4_096)),
        ("unknown", &prose(4_096)),
    ]);
    let outside = Site::with([("target.html", &prose(4_096))]);
    symlink(outside.path().join("target.html"), site.path().join("link.html")).unwrap();
    symlink(outside.path(), site.path().join("directory")).unwrap();
    let before = names(site.path());
    for arguments in [&["--check"][..], &[]] {
        let output = compress(&site, arguments);
        assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
        assert_eq!(names(site.path()), before);
    }
    assert_eq!(names(outside.path()), ["target.html"]);
}

#[test]
fn hidden_and_small_files_are_compressed_if_the_settings_say_so() {
    let site =
        Site::with([(".well-known/a.txt", &prose(2_000)), (".b.txt", &prose(2_000)), ("c.txt", &prose(200))]);
    assert_eq!(compress(&site, &["--codings=gzip"]).status.code(), Some(0));
    assert!(site.path().join(".well-known/a.txt.gz").exists());
    assert!(!site.path().join(".b.txt.gz").exists());
    let all = ["--codings=gzip", "--dotfiles=allow", "--compress-from=100"];
    assert_eq!(compress(&site, &all).status.code(), Some(0));
    assert!(site.path().join(".b.txt.gz").exists() && site.path().join("c.txt.gz").exists());
    assert_eq!(names(site.path()).len(), 6, "gzip alone");
}

#[test]
fn a_second_run_writes_only_what_is_older_than_its_original() {
    let site = Site::with([("a.txt", &prose(2_000)), ("b.txt", &prose(2_000))]);
    compress(&site, &[]);
    let inode = |name: &str| std::fs::metadata(site.path().join(name)).unwrap().ino();
    let before = [inode("a.txt.br"), inode("b.txt.br")];
    std::fs::write(site.path().join("b.txt"), prose(3_000)).unwrap();
    set_age(&site.path().join("b.txt"), -5);
    let check = compress(&site, &["--check"]);
    assert_eq!(check.status.code(), Some(1));
    let older = |suffix| format!("b.txt{suffix}: older than its original\n");
    assert!(
        stdout(&check).starts_with(&[older(".br"), older(".gz"), older(".zst")].concat()),
        "{}",
        stdout(&check)
    );
    assert_eq!([inode("a.txt.br"), inode("b.txt.br")], before, "check writes nothing");
    let output = compress(&site, &[]);
    assert!(
        stdout(&output).starts_with("2 files, 3 sidecars written, 3 skipped (3 present, "),
        "{}",
        stdout(&output)
    );
    assert_eq!(inode("a.txt.br"), before[0]);
    assert_eq!(decoded(&site.path().join("b.txt.br")), prose(3_000));
}

#[test]
fn an_original_rebuilt_with_a_constant_date_gets_new_sidecars() {
    let site = Site::with([("a.txt", &prose(2_000)), ("b.txt", &prose(2_000))]);
    let date = UNIX_EPOCH + Duration::from_secs(315_532_801);
    let build = |name: &str, bytes: &[u8]| {
        std::fs::write(site.path().join(name), bytes).unwrap();
        let file = std::fs::File::options().write(true).open(site.path().join(name)).unwrap();
        file.set_modified(date).unwrap();
    };
    for name in ["a.txt", "b.txt"] {
        build(name, &prose(2_000));
    }
    compress(&site, &["--codings=br"]);
    std::thread::sleep(Duration::from_millis(20));
    build("a.txt", &prose(2_000));
    build("b.txt", &prose(2_001));
    let check = compress(&site, &["--check", "--codings=br"]);
    assert_eq!(stdout(&check).lines().next(), Some("b.txt.br: does not match its original"));
    let output = compress(&site, &["--codings=br"]);
    assert!(stdout(&output).starts_with("2 files, 1 sidecar written, 1 skipped "), "{}", stdout(&output));
    assert_eq!(decoded(&site.path().join("b.txt.br")), prose(2_001));
    assert_eq!(verify(&site, &[]).status.code(), Some(0));
}

#[test]
fn a_sidecar_of_an_older_original_that_shrinks_no_more_is_removed() {
    let site = Site::with([("a.txt", &pattern(2_000, 1)), ("a.txt.gz", b"of another time")]);
    set_age(&site.path().join("a.txt.gz"), 60);
    assert_eq!(
        stdout(&compress(&site, &["--check"])).lines().next(),
        Some("a.txt.gz: older than its original")
    );
    assert_eq!(compress(&site, &[]).status.code(), Some(0));
    assert_eq!(names(site.path()), ["a.txt"]);
}

#[test]
fn check_lists_what_is_missing_and_writes_nothing() {
    let site = Site::with([("z.css", &prose(2_000)), ("a/b.js", &prose(2_000))]);
    let output = compress(&site, &["--check", "--codings=br,gzip"]);
    assert_eq!(output.status.code(), Some(1));
    let expected = "a/b.js.br: missing\na/b.js.gz: missing\nz.css.br: missing\nz.css.gz: missing\n\
                    2 files, 0 present, 4 sidecars to write\n";
    assert_eq!(stdout(&output), expected);
    assert_eq!(names(site.path()), ["a/b.js", "z.css"]);
}

#[test]
fn the_same_files_get_the_same_sidecars_with_any_number_of_threads() {
    let trees = ["1", "4"].map(|threads| {
        let site = Site::new();
        let site = (0..6).fold(site, |site, n| site.file(&format!("{n}.txt"), &prose(1_500 * (n + 1))));
        assert_eq!(compress(&site, &["--threads", threads]).status.code(), Some(0));
        let bytes = names(site.path()).into_iter().map(|name| std::fs::read(site.path().join(name)).unwrap());
        bytes.collect::<Vec<_>>()
    });
    assert_eq!(trees[0].len(), 24);
    assert_eq!(trees[0], trees[1]);
}

#[test]
fn a_sidecar_that_cannot_be_written_is_reported_and_the_others_are_written() {
    let site = Site::with([("closed/a.txt", &prose(2_000)), ("open/b.txt", &prose(2_000))]).unprivileged();
    std::fs::set_permissions(site.path().join("closed"), PermissionsExt::from_mode(0o555)).unwrap();
    let output = compress(&site, &["--codings=gzip"]);
    assert_eq!(output.status.code(), Some(1));
    let message = stderr(&output);
    assert!(message.starts_with("pagecast: closed/a.txt.gz: Permission denied"), "{message}");
    assert_eq!(names(site.path()), ["closed/a.txt", "open/b.txt", "open/b.txt.gz"]);
}

#[test]
fn a_killed_run_leaves_no_partial_sidecar_and_the_next_one_cleans_up() {
    let site = Site::with([("a.txt", &prose(600_000)), ("b.txt", &prose(2_000)), ("c/d.txt", &prose(3_000))]);
    let mut child =
        command(&site, "compress", &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !names(site.path()).iter().any(|name| name.contains(".pagecast-temporary.")) {
        assert!(
            Instant::now() < deadline && child.try_wait().unwrap().is_none(),
            "it ends before it is killed"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();

    let left = names(site.path());
    assert!(left.iter().any(|name| name.contains(".pagecast-temporary.")), "{left:?}");
    for name in left.iter().filter(|name| SUFFIXES.iter().any(|suffix| name.ends_with(suffix))) {
        let (original, _) = name.rsplit_once('.').unwrap();
        let original = std::fs::read(site.path().join(original)).unwrap();
        assert_eq!(decoded(&site.path().join(name)), original, "{name}");
    }
    assert_eq!(verify(&site, &[]).status.code(), Some(0), "what is hidden is no finding");

    assert_eq!(compress(&site, &["--codings=gzip,zstd"]).status.code(), Some(0));
    let after = names(site.path());
    assert!(after.iter().all(|name| !name.contains("pagecast-temporary")), "{after:?}");
    assert!(after.len() >= 9, "{after:?}");
}

#[test]
fn a_clean_tree_has_no_findings() {
    let site = Site::with([("a.iso", b"abc"), ("a.iso.sha256", ABC), ("d/index.html", b"<p>")]);
    symlink("a.iso", site.path().join("latest.iso")).unwrap();
    symlink(site.path().join("d"), site.path().join("current")).unwrap();
    std::fs::write(site.path().join("a b?#%\u{e9}\\c"), "odd but fine").unwrap();
    std::fs::write(site.path().join(OsStr::from_bytes(b"\xFF")), "so is this").unwrap();
    let sums = [ABC.trim_ascii_end(), b"  ./a.iso\n", ABC.trim_ascii_end(), b" *d/../latest.iso\n"].concat();
    std::fs::write(site.path().join("SHA256SUMS"), sums).unwrap();
    let output = verify(&site, &[]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), String::new()));
    assert_eq!(stderr(&output), "pagecast: 7 files, 9 B compared, 0 findings\n");
}

#[test]
fn each_finding_is_one_line_sorted_by_path() {
    let long = "n".repeat(200);
    let long = format!("{long}/{long}/{long}/{long}/{long}/x");
    let site = Site::with([
        ("wrong.iso", b"abd"),
        ("wrong.iso.sha256", ABC),
        ("blank.iso", b"abc"),
        ("blank.iso.sha256", b"see the wiki\n"),
        ("gone.iso.sha256", ABC),
        ("sums/a", b"abd"),
        ("sums/SHA256SUMS", &sums(&["a", "b", "../../c", "none"])),
        ("a.txt", b"some text"),
        ("a.txt.gz", b"no gzip at all"),
        ("b.txt", b"some text"),
        ("b.txt.zst", &zstd::encode_all(b"some test".as_slice(), 1).unwrap()),
        ("c.txt", b"some text"),
        ("c.txt.br", b"old"),
        ("readyz", b"never seen"),
        (&long, b"too long"),
        (".hidden.sha256", b"nobody asks"),
    ])
    .env("PAGECAST_HEAD_BYTES", "1KiB");
    set_age(&site.path().join("c.txt.br"), 60);
    let fifo = Command::new("mkfifo").arg(site.path().join("fifo")).status().unwrap();
    assert!(fifo.success());
    for (target, name) in
        [("/etc/hostname", "out"), ("none", "dangling"), ("loop", "loop"), ("fifo", "to-fifo")]
    {
        symlink(target, site.path().join(name)).unwrap();
    }
    let output = verify(&site, &["--threads=3"]);
    assert_eq!(output.status.code(), Some(1));
    let shown = stdout(&output);
    let short = |line: &str| line.splitn(3, ": ").take(2).collect::<Vec<_>>().join(": ");
    let too_long = format!("{long}: name-too-long");
    let expected = [
        "a.txt.gz: sidecar-corrupt",
        "b.txt.zst: sidecar-differs",
        "blank.iso.sha256: checksum-unreadable",
        "c.txt.br: sidecar-older",
        "dangling: link-dangling",
        "fifo: special-file",
        "gone.iso.sha256: missing",
        "loop: link-loop",
        &too_long,
        "out: link-outside",
        "readyz: name-taken",
        "sums/SHA256SUMS: checksum-unreadable",
        "sums/a: checksum-mismatch",
        "sums/b: missing",
        "sums/none: missing",
        "to-fifo: special-file",
        "wrong.iso: checksum-mismatch",
    ];
    assert_eq!(shown.lines().map(short).collect::<Vec<_>>(), expected, "{shown}");
    assert!(shown.contains("from byte 7 on"), "{shown}");
    assert_eq!(stdout(&verify(&site, &["--threads=1"])), shown, "the order does not depend on threads");
}

#[test]
fn verify_finds_exactly_what_the_server_does_not_serve() {
    let site = Site::with([("a.txt", b"fine"), ("d/e.txt", b"fine")]).unprivileged();
    symlink("../../etc/hostname", site.path().join("out")).unwrap();
    symlink("none", site.path().join("dangling")).unwrap();
    std::fs::set_permissions(site.path().join("d/e.txt"), PermissionsExt::from_mode(0o0)).unwrap();
    let output = verify(&site, &[]);
    let shown = stdout(&output);
    let found: Vec<_> = shown.lines().filter_map(|line| line.split(": ").next()).collect();
    assert_eq!(found, ["d/e.txt", "dangling", "out"], "{shown}");
    assert!(shown.starts_with("d/e.txt: unreadable: Permission denied"), "{shown}");
    let server = site.serve();
    assert_eq!(server.get("/a.txt").status, 200);
    for path in found {
        assert!(matches!(server.get(&format!("/{path}")).status, 403 | 404), "{path}");
    }
}

#[test]
fn files_denied_on_purpose_are_no_findings() {
    let site = Site::with([(".env", b"secret"), (".env.sha256", ABC)]);
    symlink("none", site.path().join("dangling")).unwrap();
    assert_eq!(verify(&site, &["--symlinks=deny"]).status.code(), Some(0));
    assert_eq!(verify(&site, &["--symlinks=deny", "--dotfiles=allow"]).status.code(), Some(1));
}

#[test]
fn a_directory_that_cannot_be_listed_is_a_finding() {
    let site = Site::with([("closed/a", b"a")]).unprivileged();
    std::fs::set_permissions(site.path().join("closed"), PermissionsExt::from_mode(0o0)).unwrap();
    let output = verify(&site, &[]);
    assert!(stdout(&output).starts_with("closed: unreadable: Permission denied"), "{}", stdout(&output));
    assert_eq!(output.status.code(), Some(1));
    std::fs::set_permissions(site.path().join("closed"), PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn json_output_is_one_document_with_paths_as_text() {
    let site = Site::with([("a\n\"b\".iso", b"abd"), ("a\n\"b\".iso.sha256", ABC)]);
    let dangling = site.path().join(OsStr::from_bytes(b"\xFF %"));
    symlink("none", dangling).unwrap();
    let output = verify(&site, &["--json"]);
    assert_eq!((output.status.code(), stderr(&output)), (Some(1), String::new()));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["root"], site.path().to_str().unwrap());
    assert_eq!((&document["files"], &document["bytes"]), (&2.into(), &3.into()));
    let findings = document["findings"].as_array().unwrap();
    let message: Vec<_> =
        findings.iter().map(|finding| (finding["path"].as_str(), finding["kind"].as_str())).collect();
    assert_eq!(
        message,
        [(Some("a\n\"b\".iso"), Some("checksum-mismatch")), (Some("%FF%20%25"), Some("link-dangling")),]
    );
    assert!(findings[0]["detail"].as_str().unwrap().contains("expected by"), "{document}");
    let clean = verify(&Site::with([("a", b"")]), &["--json"]);
    assert_eq!(clean.status.code(), Some(0));
    let document: serde_json::Value = serde_json::from_slice(&clean.stdout).unwrap();
    assert_eq!(document["findings"], serde_json::json!([]));
}

#[test]
fn an_error_on_the_command_line_exits_with_2() {
    for (arguments, message) in [
        (&["verify", "/nowhere-at-all"][..], "ROOT: the value \"/nowhere-at-all\" cannot be used"),
        (&["compress", "--codings=lzma"], "a comma list of br, zstd and gzip"),
        (&["compress", "--threads=none"], "--threads: the value \"none\""),
        (&["verify", "--check"], "--check is a flag of another command"),
        (&["verify", "--jsn"], "the nearest known name is --json"),
    ] {
        let output = run(Site::new().command().args(arguments).stdout(Stdio::piped()));
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(message), "{arguments:?}: {}", stderr(&output));
    }
    for (word, command) in [("verfy", "verify"), ("compres", "compress")] {
        let output = run(Command::new(env!("CARGO_BIN_EXE_pagecast")).env_clear().arg(word));
        let message = format!("(was the command `{command}` meant?)");
        assert!(stderr(&output).contains(&message), "{}", stderr(&output));
    }
}

#[test]
fn limits_that_a_server_would_refuse_do_not_stop_the_commands() {
    let site = Site::with([("a.txt", b"a")]).env("PAGECAST_HANDLES", "1000").open_files(64);
    assert_eq!(verify(&site, &[]).status.code(), Some(0));
    let output = run(&mut site.command());
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
}

fn compress(site: &Site, arguments: &[&str]) -> Output {
    run(&mut command(site, "compress", arguments))
}

fn verify(site: &Site, arguments: &[&str]) -> Output {
    run(&mut command(site, "verify", arguments))
}

fn command(site: &Site, name: &str, arguments: &[&str]) -> Command {
    let mut command = site.command();
    command.arg(name).args(arguments);
    command
}

/// Compressible text of this length.
fn prose(length: usize) -> Vec<u8> {
    let lines = (0_u64..).map(|n| format!("Line {n} of a page that says {} and goes on.\n", n * n % 977));
    let mut text = Vec::new();
    for line in lines {
        text.extend_from_slice(line.as_bytes());
        if text.len() >= length {
            break;
        }
    }
    text.truncate(length);
    text
}

fn sums(names: &[&str]) -> Vec<u8> {
    let hex = str::from_utf8(ABC).unwrap().trim();
    names.iter().map(|name| format!("{hex}  {name}\n")).collect::<String>().into_bytes()
}

/// Sets the age of a file in seconds.
fn set_age(path: &Path, seconds: i64) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    let by = Duration::from_secs(seconds.unsigned_abs());
    let now = SystemTime::now();
    file.set_modified(if seconds < 0 { now + by } else { now - by }).unwrap();
}

fn decoded(sidecar: &Path) -> Vec<u8> {
    let bytes = std::fs::read(sidecar).unwrap();
    let mut plain = Vec::new();
    match sidecar.extension().and_then(OsStr::to_str) {
        Some("br") => brotli::Decompressor::new(bytes.as_slice(), 4096).read_to_end(&mut plain),
        Some("zst") => zstd::Decoder::new(bytes.as_slice()).unwrap().read_to_end(&mut plain),
        _ => flate2::read::GzDecoder::new(bytes.as_slice()).read_to_end(&mut plain),
    }
    .unwrap_or_else(|error| panic!("{}: {error}", sidecar.display()));
    plain
}

/// All files below `root` by their paths, sorted.
fn names(root: &Path) -> Vec<String> {
    let mut names: Vec<String> = walkdir::WalkDir::new(root)
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| entry.path().strip_prefix(root).unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

const SUFFIXES: [&str; 3] = [".br", ".gz", ".zst"];

/// The SHA-256 checksum of `abc` (FIPS 180-4).
const ABC: &[u8] = b"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n";
