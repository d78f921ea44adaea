//! The command line and the configuration, as the user of the program sees them.

use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::site::{PATIENCE, Site};

#[test]
fn all_errors_are_reported_together_before_any_address_is_bound() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let site = Site::new();
    let socket = site.path().join("never.sock");
    let file = site.path().join("bad.toml");
    std::fs::write(&file, "idle_timeot = '1s'\nstall_timeout = 5\n").unwrap();
    let listen = format!("unix:{},{}", socket.display(), taken.local_addr().unwrap());
    let site = site
        .env("PAGECAST_LISTEN", &listen)
        .env("PAGECAST_CONFIG", file.to_str().unwrap())
        .env("PAGECAST_WORKES", "2")
        .env("PAGECAST_HEAD_TIMEOUT", "soon")
        .env("PAGECAST_HANDLES", "1");
    let output = run(site.command().args(["--lgo=info", "--watch=perhaps"]));
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(output.stdout.is_empty());
    assert!(!socket.exists(), "{message}");
    let wanted: [(&str, &str); 7] = [
        ("--lgo ", "--log"),
        ("PAGECAST_WORKES ", "PAGECAST_WORKERS"),
        ("idle_timeot ", "idle_timeout"),
        ("stall_timeout: the value \"5\"", "30s"),
        ("PAGECAST_HEAD_TIMEOUT: the value \"soon\"", "10ms to 1h"),
        ("PAGECAST_HANDLES: the value \"1\"", "from 8 to"),
        ("--watch: the value \"perhaps\"", "on or off"),
    ];
    assert!(message.starts_with("pagecast: 7 errors in the configuration\n"), "{message}");
    assert_eq!(message.lines().count(), 1 + wanted.len(), "{message}");
    for (name, accepted) in wanted {
        let line = message
            .lines()
            .find(|line| line.contains(name))
            .unwrap_or_else(|| panic!("{name} in\n{message}"));
        assert!(line.contains(accepted), "{accepted} in {line}");
    }
}

#[test]
fn an_error_of_the_command_line_brings_none_of_the_default_root() {
    let site = Site::new();
    for arguments in [&["sign", "no/slash"][..], &["--foo", "site"], &["sign", "/a", "--expires", "soon"]] {
        let output = run(site.command().env_remove("PAGECAST_ROOT").current_dir(site.path()).args(arguments));
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(!message.contains("root (default)"), "{message}");
    }
    let output = run(site.command().env_remove("PAGECAST_ROOT").current_dir(site.path()).arg("config"));
    assert!(stderr(&output).contains("root (default): the value \"static\""), "{}", stderr(&output));
}

#[test]
fn an_unknown_name_is_reported_with_the_nearest_known_one() {
    for (name, nearest) in [
        ("PAGECAST_RO0T", "PAGECAST_ROOT"),
        ("PAGECAST_LISTENS", "PAGECAST_LISTEN"),
        ("PAGECAST_IDLETIMEOUT", "PAGECAST_IDLE_TIMEOUT"),
        ("PAGECAST_DOT_FILES", "PAGECAST_DOTFILES"),
        ("pagecast_root", ""),
    ] {
        let output = run(Site::new().env(name, "x").command().arg("config"));
        let message = stderr(&output);
        if nearest.is_empty() {
            assert_eq!(output.status.code(), Some(0), "another name: {message}");
        } else {
            assert_eq!(output.status.code(), Some(2), "{name}: {message}");
            assert!(
                message.ends_with(&format!("{name} is not known; the nearest known name is {nearest}\n")),
                "{message}"
            );
        }
    }
}

#[test]
fn values_out_of_bounds_are_refused() {
    for (name, value) in [
        ("PAGECAST_ROOT", "/nowhere-at-all"),
        ("PAGECAST_ROOT", ""),
        ("PAGECAST_LISTEN", ""),
        ("PAGECAST_LISTEN", "8080"),
        ("PAGECAST_LISTEN", "127.0.0.1:65536"),
        ("PAGECAST_LISTEN", "127.0.0.1:1,127.0.0.1:1"),
        ("PAGECAST_ADMIN_LISTEN", "no"),
        ("PAGECAST_WORKERS", "0"),
        ("PAGECAST_WORKERS", "1.5"),
        ("PAGECAST_HANDLES", "7"),
        ("PAGECAST_HANDLE_WAIT", "61s"),
        ("PAGECAST_CACHE_BYTES", "1XiB"),
        ("PAGECAST_HEAP_BYTES", "-1"),
        ("PAGECAST_REVALIDATE_AFTER", "1"),
        ("PAGECAST_WATCH", "maybe"),
        ("PAGECAST_MAX_CONNECTIONS", "0"),
        ("PAGECAST_HEAD_TIMEOUT", "0s"),
        ("PAGECAST_IDLE_TIMEOUT", "2h"),
        ("PAGECAST_STALL_TIMEOUT", "30"),
        ("PAGECAST_DRAIN_DELAY", "-5s"),
        ("PAGECAST_SHUTDOWN_TIMEOUT", "25h"),
        ("PAGECAST_SYMLINKS", "outside"),
        ("PAGECAST_DOTFILES", "yes"),
        ("PAGECAST_INDEX", "a/b"),
        ("PAGECAST_LOG", "pagecast=loud"),
    ] {
        let output = run(Site::new().env(name, value).command().arg("config"));
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{name}={value}: {message}");
        let line = message.lines().nth(1).unwrap_or_default();
        assert!(line.contains(name) && line.contains(&format!("{value:?}")), "{name}={value}: {message}");
        assert!(line.contains("accepted: ") || value.contains(','), "{name}={value}: {message}");
    }
}

#[test]
fn flags_beat_the_environment_beats_the_file_beats_the_default() {
    let site = Site::new();
    let file = site.path().join("some.toml");
    std::fs::write(&file, "idle_timeout = '1s'\nhead_timeout = '1s'\nstall_timeout = '1s'\n").unwrap();
    let path = file.to_str().unwrap();
    let site = site.env("PAGECAST_HEAD_TIMEOUT", "2s").env("PAGECAST_STALL_TIMEOUT", "2s");
    let by_flag = run(site.command().args(["config", "--config", path, "--stall-timeout", "3s"]));
    let by_variable = run(site.env("PAGECAST_CONFIG", path).command().args(["--stall-timeout=3s", "config"]));
    for output in [by_flag, by_variable] {
        assert!(output.status.success(), "{}", stderr(&output));
        let shown = stdout(&output);
        for (key, value, origin) in [
            ("linger_timeout", "2s", "default"),
            ("idle_timeout", "1s", &*format!("{path}:1")),
            ("head_timeout", "2s", "environment PAGECAST_HEAD_TIMEOUT"),
            ("stall_timeout", "3s", "flag --stall-timeout"),
        ] {
            assert_eq!(row(&shown, key), (value, origin), "{shown}");
        }
    }
}

#[test]
fn config_prints_the_values_that_serve_uses() {
    let site = Site::with([("start.txt", b"start")]).env("PAGECAST_INDEX", "start.txt");
    let output = run(site.command().arg("config"));
    assert_eq!(row(&stdout(&output), "index"), ("start.txt", "environment PAGECAST_INDEX"));
    assert_eq!(row(&stdout(&output), "root").0, site.path().to_str().unwrap());
    assert_eq!(site.serve().get("/").text(), "start");
}

#[test]
fn a_reader_that_closes_the_pipe_early_is_no_error() {
    for arguments in [&["config"][..], &["--help"], &["--version"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = run_to(Site::new().command().args(arguments), writer.into());
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert_eq!(stderr(&output), "", "{arguments:?}");
    }
}

#[test]
fn help_names_every_flag_and_version_the_program() {
    let shown = stdout(&run(Site::new().command().arg("config")));
    let help = stdout(&run(Site::new().command().arg("--help")));
    let keys = keys_of(&shown);
    assert!(keys.len() > 20, "{keys:?}");
    for key in keys {
        assert!(help.contains(&format!("--{} ", key.replace('_', "-"))), "{key}");
        assert!(help.contains(&format!("PAGECAST_{}]", key.to_uppercase())), "{key}");
    }
    let version = stdout(&run(Site::new().command().arg("--version")));
    assert_eq!(version, format!("pagecast {}\n", env!("CARGO_PKG_VERSION")));
    // They must work in a faulty environment as well.
    for argument in ["--help", "--version"] {
        let output = run(Site::new().env("PAGECAST_WORKERS", "none").command().arg(argument));
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
}

#[test]
fn the_annotated_example_says_what_the_defaults_are() {
    let annotated = std::fs::read_to_string(project().join("config/pagecast.toml")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("uncommented.toml");
    let is_setting =
        |line: &&str| line.starts_with('#') && line[1..].starts_with(|c: char| c.is_ascii_lowercase());
    // The rules after them have no defaults.
    let keys = annotated.lines().take_while(|line| *line != "#[[rule]]");
    let settings: Vec<_> = keys.filter(is_setting).map(|line| &line[1..]).collect();
    std::fs::write(&file, settings.join("\n")).unwrap();

    let plain = run(bare().arg("config"));
    let loaded = run(bare().args(["config", "--config"]).arg(&file));
    assert!(loaded.status.success(), "{}", stderr(&loaded));
    let (plain, loaded) = (stdout(&plain), stdout(&loaded));
    let keys = keys_of(&plain);
    assert_eq!(settings.len(), keys.len(), "{settings:?}");
    for key in keys {
        assert_eq!(row(&loaded, key).0, row(&plain, key).0, "{key}");
        let origin = row(&loaded, key).1;
        assert!(origin.starts_with(file.to_str().unwrap()) || origin == "derived", "{key}: {origin}");
    }
}

#[test]
fn the_annotated_example_as_it_is_sets_nothing() {
    let output = run(bare().args(["config", "--config", "config/pagecast.toml"]));
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!stdout(&output).contains("config/pagecast.toml"), "{}", stdout(&output));
}

#[test]
fn an_address_in_use_is_an_error_that_names_it() {
    for variable in ["PAGECAST_LISTEN", "PAGECAST_ADMIN_LISTEN"] {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let output = run(&mut Site::new().env(variable, &address.to_string()).command());
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{variable}: {message}");
        let line = message.lines().find(|line| line.contains(&format!("can't listen on {address}")));
        assert!(line.is_some_and(|line| line.contains("in use")), "{variable}: {message}");
        assert!(!message.contains(" ready: "), "{variable}: {message}");
    }
    let site = Site::new();
    let nowhere = format!("unix:{}/none/s.sock", site.path().display());
    let output = run(&mut site.env("PAGECAST_LISTEN", &nowhere).command());
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&nowhere), "{}", stderr(&output));
}

#[test]
fn a_second_server_does_not_share_the_port_of_the_first() {
    let first = Site::with([("a.txt", b"first")]).serve();
    let second = Site::new().env("PAGECAST_LISTEN", &first.address.to_string());
    let output = run(&mut second.command());
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(first.get("/a.txt").text(), "first");
}

/// The program, run in the project's directory without settings.
fn bare() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pagecast"));
    command.env_clear().current_dir(project());
    command
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a command that must end by itself.
pub fn run(command: &mut Command) -> Output {
    run_to(command, Stdio::piped())
}

fn run_to(command: &mut Command, stdout: Stdio) -> Output {
    let mut child = command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
    let read = |stream: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            stream.map(|mut stream| stream.read_to_end(&mut bytes));
            bytes
        })
    };
    let stdout = read(child.stdout.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>));
    let stderr = read(child.stderr.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>));
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Output { status, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The settings that `pagecast config` prints.
fn keys_of(shown: &str) -> Vec<&str> {
    let keys = shown.split("# Derived bounds").next().unwrap_or_default();
    keys.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_whitespace().next())
        .collect()
}

/// Value and origin of a setting.
fn row<'a>(shown: &'a str, key: &str) -> (&'a str, &'a str) {
    let line = shown.lines().find(|line| line.split_whitespace().next() == Some(key));
    let rest = line.unwrap_or_else(|| panic!("{key} in\n{shown}"))[key.len()..].trim();
    rest.split_once("  ").map_or((rest, ""), |(value, origin)| (value.trim(), origin.trim()))
}
