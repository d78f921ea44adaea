//! Settles what was left open, from what the system allows.
//!
//! Open files are shared out first to a reserve, then to connections (about three quarters of the rest, within a
//! quarter of memory at 16 KiB each) and handles. The reserve is what the process needs whatever the traffic: [`PROCESS_FILES`]; for every worker
//! [`WORKER_FILES`] and a socket for each address or inherited socket; [`ResolvedLimits::admin_connections`], [`ResolvedLimits::refusals`] and
//! [`ResolvedLimits::directories`].

use super::count::{AUTO, Auto};
use super::error::ConfigError;
use super::memory::MemorySource;
use crate::config::choice::ProxyProtocol;
use crate::config::settings_table::Config;

/// What the system allows the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SystemFacts {
    /// Soft limit on open files (`RLIMIT_NOFILE`), after it was raised.
    pub open_files: u64,
    /// Mappings of one process (`vm.max_map_count`).
    pub max_map_count: u64,
    /// Memory in bytes: the machine's, or what the process's control group allows of it.
    pub memory_bytes: u64,
    /// Which of the two.
    pub memory_source: MemorySource,
    /// Processors that the process may use.
    pub cpus: usize,
    /// Listening sockets for traffic that a service manager has handed over, which take the place of `listen`.
    pub inherited: usize,
}

/// Numbers that hold together on this system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResolvedLimits {
    /// Threads that serve traffic.
    pub workers: usize,
    /// Files of the site that are open at once.
    pub handles: usize,
    /// Connections served at once.
    pub max_connections: usize,
    /// Connections above `max_connections`: new ones that wait for a slot, and those that get 503 with Retry-After.
    pub refusals: usize,
    /// Connections to the admin listener.
    pub admin_connections: usize,
    /// Listings and archives under way at once, each with an open file of its own.
    pub directories: usize,
    /// Open files kept for all else, the above included.
    pub reserve: usize,
    /// Listening sockets for traffic that the reserve has room for.
    pub sockets: usize,
    /// The limit on open files that the above fit in.
    pub open_files: usize,
    /// Mappings held at once.
    pub mappings: usize,
    /// Bytes of files kept mapped.
    pub cache_bytes: u64,
    /// Bytes of files kept on the heap.
    pub heap_bytes: u64,
    /// The memory that the above fit in.
    pub memory_bytes: u64,
    /// What sets it.
    pub memory_source: MemorySource,
}

/// Settles every amount that is `auto` and refuses those given that cannot hold together, or not on this system.
pub fn settle(config: &Config, facts: &SystemFacts) -> Result<ResolvedLimits, Vec<ConfigError>> {
    let mut errors = Vec::new();
    check_compressed_sizes(config, &mut errors);
    check_heap(config, &mut errors);
    check_proxies(config, &mut errors);
    let reserve = ReservedFiles::new(config, facts);
    let (handles, max_connections) = share_files(config, facts, &reserve).unwrap_or_else(|error| {
        errors.push(error);
        (0, 0)
    });
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(ResolvedLimits {
        workers: length(reserve.workers),
        handles: length(handles),
        max_connections: length(max_connections),
        refusals: length(reserve.refusals),
        admin_connections: length(reserve.admin_connections),
        directories: length(reserve.directories),
        reserve: length(reserve.total),
        sockets: length(reserve.sockets),
        open_files: length(facts.open_files),
        mappings: length((facts.max_map_count / 2).max(MAPPINGS_MIN)),
        cache_bytes: config.caches.cache_bytes.given().map_or(facts.memory_bytes / 2, |bytes| bytes.get()),
        heap_bytes: heap_bytes(config, facts),
        memory_bytes: facts.memory_bytes,
        memory_source: facts.memory_source,
    })
}

/// In a small control group less than usual, and always room for one file.
fn heap_bytes(config: &Config, facts: &SystemFacts) -> u64 {
    let affordable = || HEAP_BYTES.min(facts.memory_bytes / 4).max(config.caches.heap_file_bytes.get());
    config.caches.heap_bytes.given().map_or_else(affordable, |bytes| bytes.get())
}

impl ResolvedLimits {
    /// The same with room for `sockets` listening sockets: a predecessor may hand over more than were reckoned with. They
    /// take the place of connections, unless their number was given.
    ///
    /// # Errors
    /// Where they have no room.
    pub(crate) fn with_sockets(mut self, sockets: usize, config: &Config) -> Result<Self, ConfigError> {
        let more = sockets.saturating_sub(self.sockets);
        let taken = self.reserve + self.handles + self.max_connections;
        let missing = more.saturating_sub(self.open_files.saturating_sub(taken));
        let left = self.max_connections.saturating_sub(missing);
        let is_given = config.connections.max_connections.given().is_some();
        if missing > 0 && (is_given || left < length(CONNECTIONS_MIN)) {
            return Err(ConfigError::Conflict(format!(
                "{more} listening sockets more than PAGECAST_WORKERS={} has need of are taken over, and the limit of {} \
                 open files has no room for them: lower PAGECAST_MAX_CONNECTIONS or PAGECAST_HANDLES by {missing}, \
                 raise the limit (ulimit -n, LimitNOFILE), or keep the workers as many as they were",
                config.listening.workers, self.open_files
            )));
        }
        self.max_connections = left;
        self.reserve += more;
        self.sockets += more;
        Ok(self)
    }
}

fn length(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn check_compressed_sizes(config: &Config, errors: &mut Vec<ConfigError>) {
    let (from, to) = (config.compression.compress_from, config.compression.compress_to);
    if config.compression.compress.is_on() && to < from {
        errors.push(ConfigError::Conflict(format!(
            "PAGECAST_COMPRESS_FROM={from} is more than PAGECAST_COMPRESS_TO={to}, so that nothing would be compressed: \
             lower the first or raise the second (or PAGECAST_COMPRESS=off)"
        )));
    }
}

fn check_heap(config: &Config, errors: &mut Vec<ConfigError>) {
    let Auto::Given(all) = config.caches.heap_bytes else { return };
    let one = config.caches.heap_file_bytes;
    if all.get() != 0 && all < one {
        errors.push(ConfigError::Conflict(format!(
            "PAGECAST_HEAP_BYTES={all} has no room for a file of PAGECAST_HEAP_FILE_BYTES={one}: raise the first to \
             at least {one} or lower the second to at most {all} (or PAGECAST_HEAP_BYTES=0 for no file on the heap)"
        )));
    }
}

fn check_proxies(config: &Config, errors: &mut Vec<ConfigError>) {
    let protocol = config.clients.proxy_protocol;
    if protocol != ProxyProtocol::Off && config.clients.trusted_proxies.is_empty() {
        errors.push(ConfigError::Conflict(format!(
            "PAGECAST_PROXY_PROTOCOL={protocol} is of no use without PAGECAST_TRUSTED_PROXIES: nobody is trusted to say \
             whom he speaks for (or PAGECAST_PROXY_PROTOCOL=off)"
        )));
    }
}

/// Open files that no handle and no connection may take.
struct ReservedFiles {
    workers: u64,
    refusals: u64,
    admin_connections: u64,
    directories: u64,
    /// Of all workers, for traffic.
    sockets: u64,
    total: u64,
}

impl ReservedFiles {
    fn new(config: &Config, facts: &SystemFacts) -> Self {
        let affordable = (facts.open_files / FILES_PER_AUTO_WORKER).clamp(1, WORKERS_MAX);
        let workers = match config.listening.workers {
            Auto::Given(workers) => workers.get(),
            Auto::Auto => u64::try_from(facts.cpus).unwrap_or(WORKERS_MAX).clamp(1, affordable),
        };
        let plain = match facts.inherited {
            0 => config.plain_http_addresses().len(),
            inherited => inherited,
        };
        // Some of those inherited may take the place of these.
        let addresses = plain + config.tls_addresses().len();
        let sockets = workers.saturating_mul(u64::try_from(addresses).unwrap_or(u64::MAX));
        let refusals = (facts.open_files / 16).clamp(4, REFUSALS_MAX);
        let admin_connections = (facts.open_files / 16).clamp(4, ADMIN_CONNECTIONS_MAX);
        let for_workers = workers.saturating_mul(WORKER_FILES).saturating_add(sockets);
        let directories =
            config.directories.directories_at_once.get().min((facts.open_files / FILES_PER_DIRECTORY).max(1));
        let state = if config.continuity.state_dir.given().is_some() { STATE_FILES } else { 0 };
        let total =
            for_workers.saturating_add(PROCESS_FILES + state + refusals + admin_connections + directories);
        Self { workers, refusals, admin_connections, directories, sockets, total }
    }
}

/// Handles and connections that fit beside the reserve.
fn share_files(
    config: &Config,
    facts: &SystemFacts,
    reserve: &ReservedFiles,
) -> Result<(u64, u64), ConfigError> {
    let rest = facts.open_files.saturating_sub(reserve.total);
    let handles = config.open_files.handles.given().map(|handles| handles.get());
    let connections = config.connections.max_connections.given().map(|connections| connections.get());
    let least = (handles.unwrap_or(HANDLES_MIN)).saturating_add(connections.unwrap_or(CONNECTIONS_MIN));
    if least > rest {
        return Err(too_many(config, facts, reserve, least));
    }
    let bytes = if config.tls.tls_listen.given().is_some() { TLS_CONNECTION_BYTES } else { CONNECTION_BYTES };
    let affordable = (facts.memory_bytes / 4 / bytes).clamp(CONNECTIONS_MIN, CONNECTIONS_MAX);
    Ok(match (handles, connections) {
        (Some(handles), Some(connections)) => (handles, connections),
        (Some(handles), None) => (handles, (rest - handles).min(affordable)),
        (None, Some(connections)) => ((rest - connections).min(HANDLES_MAX), connections),
        (None, None) => {
            let handles = (rest / 4).clamp(HANDLES_MIN, HANDLES_MAX);
            (handles, (rest - handles).min(affordable))
        }
    })
}

/// Says what does not fit, and what would.
fn too_many(config: &Config, facts: &SystemFacts, reserve: &ReservedFiles, least: u64) -> ConfigError {
    let named = |amount: String, least: u64| match amount.as_str() {
        AUTO => format!("{AUTO} (at least {least})"),
        _ => amount,
    };
    let handles = named(config.open_files.handles.to_string(), HANDLES_MIN);
    let connections = named(config.connections.max_connections.to_string(), CONNECTIONS_MIN);
    let (limit, total, workers) = (facts.open_files, reserve.total, reserve.workers);
    let needed = least.saturating_add(total);
    let rest = limit.saturating_sub(total);
    let fits = if rest >= HANDLES_MIN + CONNECTIONS_MIN {
        let share = (rest / 4).clamp(HANDLES_MIN, HANDLES_MAX);
        format!("what fits is, say, PAGECAST_HANDLES={share} with PAGECAST_MAX_CONNECTIONS={}", rest - share)
    } else {
        "that is too few to serve with".to_owned()
    };
    let fewer_workers = if workers > 1 { " or lower PAGECAST_WORKERS" } else { "" };
    ConfigError::Conflict(format!(
        "PAGECAST_HANDLES={handles}, PAGECAST_MAX_CONNECTIONS={connections} and a reserve of {total} \
         (PAGECAST_WORKERS={}: {workers}) need {needed} open files, and the limit is {limit}: {fits}; \
         or raise the limit (ulimit -n, LimitNOFILE){fewer_workers}",
        config.listening.workers
    ))
}

/// Keys of the settings that [`settle`] reads.
pub(crate) const INPUTS: &[&str] = &[
    "workers",
    "listen",
    "tls_listen",
    "handles",
    "max_connections",
    "directories_at_once",
    "state_dir",
    "cache_bytes",
    "heap_bytes",
    "heap_file_bytes",
    "compress",
    "compress_from",
    "compress_to",
    "proxy_protocol",
    "trusted_proxies",
];

/// What an idle process without workers was seen to hold (standard streams, root, inotify, signals, the event loops of the
/// main and the admin threads, the admin listener, the upgrade socket and its clients), and the root once more while it
/// is looked at.
pub const PROCESS_FILES: u64 = 26;

/// Of each worker, besides its listening sockets: an event loop 3, signals 1, the page map 1.
pub const WORKER_FILES: u64 = 5;

/// The state directory, and twice more while it is written to.
const STATE_FILES: u64 = 3;

const FILES_PER_AUTO_WORKER: u64 = 64;
const FILES_PER_DIRECTORY: u64 = 32;
const WORKERS_MAX: u64 = 1_024;
const REFUSALS_MAX: u64 = 256;
const ADMIN_CONNECTIONS_MAX: u64 = 16;
const HANDLES_MIN: u64 = 8;
const HANDLES_MAX: u64 = 65_536;
const CONNECTIONS_MIN: u64 = 12;
const CONNECTIONS_MAX: u64 = 10_000_000;
const MAPPINGS_MIN: u64 = 16;

/// Bytes of small files on the heap, where memory allows.
const HEAP_BYTES: u64 = 128 << 20;

/// Memory of a connection with a slow download, rounded up.
const CONNECTION_BYTES: u64 = 16 << 10;

/// The same where it may be encrypted: records that the client has not taken.
const TLS_CONNECTION_BYTES: u64 = 96 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        ByteCount, CachesGroup, ClientsGroup, CompressionGroup, ConnectionsGroup, Count, ListeningGroup,
        OnOff, OpenFilesGroup,
    };

    fn facts(open_files: u64) -> SystemFacts {
        SystemFacts {
            open_files,
            max_map_count: 65_530,
            memory_bytes: 8 << 30,
            memory_source: MemorySource::Machine,
            cpus: 2,
            inherited: 0,
        }
    }

    fn config(handles: Option<u64>, connections: Option<u64>) -> Config {
        let given = |amount: Option<u64>| amount.map_or(Auto::Auto, |amount| Auto::Given(Count::of(amount)));
        Config {
            open_files: OpenFilesGroup { handles: given(handles), ..OpenFilesGroup::default() }.into(),
            connections: ConnectionsGroup {
                max_connections: given(connections),
                ..ConnectionsGroup::default()
            }
            .into(),
            ..Config::default()
        }
    }

    #[test]
    fn files_are_shared_between_handles_and_connections() {
        for (open_files, handles, connections, expected) in [
            (64, None, None, (8, 14)),
            (128, None, None, (17, 53)),
            (1_024, None, None, (218, 656)),
            (65_536, None, None, (16_298, 48_896)),
            // From here on memory is what limits connections, and a bound of its own handles.
            (1_048_576, None, None, (65_536, 131_072)),
            (1 << 40, None, None, (65_536, 131_072)),
            (1_024, Some(100), None, (100, 774)),
            (1_024, None, Some(856), (18, 856)),
            (1_024, None, Some(866), (8, 866)),
            (1_024, Some(18), Some(856), (18, 856)),
            (1_024, Some(8), Some(1), (8, 1)),
        ] {
            let limits = settle(&config(handles, connections), &facts(open_files)).expect("it fits");
            assert_eq!((limits.handles, limits.max_connections), expected, "{open_files}");
        }
    }

    #[test]
    fn every_settlement_fits_in_the_limit() {
        for cpus in [1, 2, 64, 2_000] {
            for open_files in (64..5_000).step_by(7) {
                let facts = SystemFacts { cpus, ..facts(open_files) };
                let limits = settle(&Config::default(), &facts).expect("it fits");
                assert!(limits.workers >= 1 && limits.handles >= 8 && limits.max_connections >= 12);
                let sum = limits.handles + limits.max_connections + limits.reserve;
                assert!(sum <= limits.open_files, "{facts:?} {limits:?}");
            }
        }
    }

    #[test]
    fn what_cannot_hold_together_is_refused_with_what_would_fit() {
        for (open_files, handles, connections, reported) in [
            (
                1_024,
                Some(5_000),
                Some(60_000),
                "PAGECAST_HANDLES=5000, PAGECAST_MAX_CONNECTIONS=60000 and a reserve of 150 \
                 (PAGECAST_WORKERS=auto: 2) need 65150 open files, and the limit is 1024: what fits is, say, \
                 PAGECAST_HANDLES=218 with PAGECAST_MAX_CONNECTIONS=656; \
                 or raise the limit (ulimit -n, LimitNOFILE) or lower PAGECAST_WORKERS",
            ),
            (
                1_024,
                None,
                Some(871),
                "PAGECAST_HANDLES=auto (at least 8), PAGECAST_MAX_CONNECTIONS=871 and a reserve of 150",
            ),
            (1_024, Some(871), None, "PAGECAST_MAX_CONNECTIONS=auto (at least 12) and"),
            (40, None, None, "the limit is 40: that is too few to serve with"),
            (0, None, None, "the limit is 0:"),
        ] {
            let errors = settle(&config(handles, connections), &facts(open_files)).expect_err("too many");
            let text = errors.iter().map(ToString::to_string).collect::<String>();
            assert!(text.contains(reported), "{text}");
        }
    }

    #[test]
    fn workers_are_the_processors_that_open_files_allow() {
        for (cpus, open_files, given, workers) in [
            (8, 1_024, None, 8),
            (64, 1_024, None, 16),
            (8, 64, None, 1),
            (0, 1_024, None, 1),
            (2, 4_096, Some(9), 9),
        ] {
            let workers_given = given.map_or(Auto::Auto, |count| Auto::Given(Count::of(count)));
            let config = Config {
                listening: ListeningGroup { workers: workers_given, ..ListeningGroup::default() }.into(),
                ..Config::default()
            };
            let facts = SystemFacts { cpus, ..facts(open_files) };
            assert_eq!(
                settle(&config, &facts).map(|limits| limits.workers),
                Ok(workers),
                "{cpus} {open_files}"
            );
        }
    }

    #[test]
    fn inherited_sockets_are_counted_in_place_of_addresses() {
        let reserve = |inherited| {
            let facts = SystemFacts { inherited, ..facts(1_024) };
            settle(&Config::default(), &facts).map(|limits| (limits.sockets, limits.reserve))
        };
        let Ok((sockets, reserved)) = reserve(0) else { panic!("it fits") };
        assert_eq!(sockets, 2);
        assert_eq!(reserve(1), Ok((2, reserved)));
        assert_eq!(reserve(5), Ok((10, reserved + 8)));
    }

    #[test]
    fn sockets_that_were_not_reckoned_with_take_the_place_of_connections() {
        let settled = |config: &Config, sockets| {
            let limits = settle(config, &facts(1_024)).expect("it fits");
            limits.with_sockets(sockets, config).map(|with| limits.max_connections - with.max_connections)
        };
        let open = Config::default();
        assert_eq!(settled(&open, 2), Ok(0));
        assert_eq!(settled(&open, 1), Ok(0));
        assert_eq!(settled(&open, 12), Ok(10));
        assert!(settled(&open, 1_000).is_err());
        assert_eq!(settled(&config(Some(8), Some(800)), 12), Ok(0), "there is room to spare");
        assert!(settled(&config(Some(18), Some(856)), 12).is_err(), "it was given");
    }

    #[test]
    fn mappings_and_mapped_bytes_are_half_of_what_there_is() {
        let limits = settle(&Config::default(), &facts(1_024)).expect("it fits");
        assert_eq!(limits.mappings, 32_765);
        assert_eq!(limits.cache_bytes, 4 << 30);
        let config = Config {
            caches: CachesGroup { cache_bytes: Auto::Given(ByteCount::bytes(0)), ..CachesGroup::default() }
                .into(),
            ..Config::default()
        };
        assert_eq!(settle(&config, &facts(1_024)).map(|limits| limits.cache_bytes), Ok(0));
    }

    #[test]
    fn small_memory_has_a_small_heap_and_always_room_for_a_file() {
        let heap = |memory_bytes| {
            let facts = SystemFacts { memory_bytes, ..facts(1_024) };
            settle(&Config::default(), &facts).expect("it fits").heap_bytes
        };
        assert_eq!(heap(8 << 30), 128 << 20);
        assert_eq!(heap(64 << 20), 16 << 20);
        assert_eq!(heap(4 << 10), 16 << 10);
    }

    #[test]
    fn a_heap_that_cannot_hold_one_file_is_refused_unless_it_is_off() {
        let config = |bytes| Config {
            caches: CachesGroup {
                heap_bytes: Auto::Given(ByteCount::bytes(bytes)),
                ..CachesGroup::default()
            }
            .into(),
            ..Config::default()
        };
        assert!(settle(&config(0), &facts(1_024)).is_ok());
        assert!(settle(&config(16 << 10), &facts(1_024)).is_ok());
        let errors = settle(&config(1_024), &facts(1_024)).expect_err("too small");
        let text = errors.iter().map(ToString::to_string).collect::<String>();
        assert!(text.contains("PAGECAST_HEAP_BYTES=1KiB") && text.contains("PAGECAST_HEAP_FILE_BYTES=16KiB"));
    }

    #[test]
    fn a_proxy_protocol_that_nobody_is_trusted_to_speak_is_refused() {
        for proxy_protocol in [ProxyProtocol::On, ProxyProtocol::Require] {
            let config = Config {
                clients: ClientsGroup { proxy_protocol, ..ClientsGroup::default() }.into(),
                ..Config::default()
            };
            let errors = settle(&config, &facts(1_024)).expect_err("nobody is trusted");
            let text = errors.iter().map(ToString::to_string).collect::<String>();
            assert!(text.contains("is of no use without PAGECAST_TRUSTED_PROXIES"), "{text}");
            let trusted_proxies = "unix".parse().expect("a list");
            assert!(
                settle(
                    &Config {
                        clients: ClientsGroup { trusted_proxies, ..config.clients.as_ref().clone() }.into(),
                        ..config
                    },
                    &facts(1_024)
                )
                .is_ok()
            );
        }
    }

    #[test]
    fn bounds_of_compressing_that_leave_nothing_between_them_are_refused_unless_it_is_off() {
        let config = |compress, to| Config {
            compression: CompressionGroup {
                compress,
                compress_to: ByteCount::bytes(to),
                ..CompressionGroup::default()
            }
            .into(),
            ..Config::default()
        };
        assert!(settle(&config(OnOff::On, 1_024), &facts(1_024)).is_ok());
        assert!(settle(&config(OnOff::Off, 1_023), &facts(1_024)).is_ok());
        let errors = settle(&config(OnOff::On, 1_023), &facts(1_024)).expect_err("nothing between");
        let text = errors.iter().map(ToString::to_string).collect::<String>();
        assert!(
            text.contains("PAGECAST_COMPRESS_FROM=1KiB") && text.contains("PAGECAST_COMPRESS_TO=1023"),
            "{text}"
        );
    }
}
