//! Derives the amounts that are `auto` from the limits of the system.
//!
//! Open files are divided into a reserve, connections (about three quarters of the rest, within a
//! quarter of memory at 16 KiB each) and handles. The reserve is what the process needs regardless of traffic: [`PROCESS_FILES`]; for every worker
//! [`WORKER_FILES`] and a socket for each address or inherited socket; [`ResolvedLimits::admin_connections`], [`ResolvedLimits::refusals`] and
//! [`ResolvedLimits::directories`].

use super::toggle::AUTO;
use super::{Config, ConfigError};
use crate::sys::memory::MemoryAmount;
use crate::sys::system_facts::SystemFacts;

/// Limits that fit together on this system.
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
    /// Open files reserved for everything else, the above included.
    pub reserve: usize,
    /// Listening sockets for traffic in the reserve.
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
    pub memory: MemoryAmount,
}

/// Derives every amount that is `auto`. Refuses given amounts that don't fit together on this system.
pub fn resolve_limits(config: &Config, facts: &SystemFacts) -> Result<ResolvedLimits, ConfigError> {
    let mut limits = reserved(config, facts);
    (limits.handles, limits.max_connections) = share_files(config, &limits)?;
    Ok(limits)
}

/// The limits before handles and connections have their shares of the open files.
fn reserved(config: &Config, facts: &SystemFacts) -> ResolvedLimits {
    let SystemFacts { open_files, memory, .. } = *facts;
    let affordable = (open_files / FILES_PER_AUTO_WORKER).clamp(1, WORKERS_MAX);
    let workers =
        config.listening.workers.given().map_or(facts.cpus.clamp(1, affordable), |count| count.as_usize());
    let plain = if facts.inherited == 0 { config.plain_http_addresses().len() } else { facts.inherited };
    // Some of those inherited may take the place of these.
    let sockets = workers * (plain + config.tls_addresses().len());
    let refusals = (open_files / 16).clamp(4, REFUSALS_MAX);
    let admin_connections = (open_files / 16).clamp(4, ADMIN_CONNECTIONS_MAX);
    let directories = config.directories.directories_at_once.as_usize();
    let directories = directories.min((open_files / FILES_PER_DIRECTORY).max(1));
    let state = if config.continuity.state_dir.given().is_some() { STATE_FILES } else { 0 };
    let others = PROCESS_FILES + state + refusals + admin_connections + directories;
    // In a small control group less than usual, and always room for one file.
    let heap_bytes = HEAP_BYTES.min(memory.bytes / 4).max(config.caches.heap_file_bytes.get());
    ResolvedLimits {
        workers,
        handles: 0,
        max_connections: 0,
        refusals,
        admin_connections,
        directories,
        reserve: workers * WORKER_FILES + sockets + others,
        sockets,
        open_files,
        mappings: (facts.max_map_count / 2).max(MAPPINGS_MIN),
        cache_bytes: config.caches.cache_bytes.given().map_or(memory.bytes / 2, |bytes| bytes.get()),
        heap_bytes: config.caches.heap_bytes.given().map_or(heap_bytes, |bytes| bytes.get()),
        memory,
    }
}

impl ResolvedLimits {
    /// The limits with room for `sockets` listening sockets: a predecessor may hand over more than expected. They
    /// take the place of connections, unless the number of connections was given.
    ///
    /// # Errors
    /// If there is no room for them.
    pub(crate) fn with_sockets(mut self, sockets: usize, config: &Config) -> Result<Self, ConfigError> {
        let more = sockets.saturating_sub(self.sockets);
        let taken = self.reserve + self.handles + self.max_connections;
        let missing = more.saturating_sub(self.open_files.saturating_sub(taken));
        let left = self.max_connections.saturating_sub(missing);
        let is_given = config.connections.max_connections.given().is_some();
        if missing > 0 && (is_given || left < CONNECTIONS_MIN) {
            return Err(ConfigError::Conflict(format!(
                "{more} more listening sockets are taken over than PAGECAST_WORKERS={} needs, and the limit of {} \
                 open files has no room for them: lower PAGECAST_MAX_CONNECTIONS or PAGECAST_HANDLES by {missing}, \
                 raise the limit (ulimit -n, LimitNOFILE), or keep the previous number of workers",
                config.listening.workers, self.open_files
            )));
        }
        self.max_connections = left;
        self.reserve += more;
        self.sockets += more;
        Ok(self)
    }
}

/// Handles and connections that fit beside the reserve.
fn share_files(config: &Config, limits: &ResolvedLimits) -> Result<(usize, usize), ConfigError> {
    let rest = limits.open_files.saturating_sub(limits.reserve);
    let handles = config.open_files.handles.given().map(|count| count.as_usize());
    let connections = config.connections.max_connections.given().map(|count| count.as_usize());
    let least = handles.unwrap_or(HANDLES_MIN) + connections.unwrap_or(CONNECTIONS_MIN);
    if least > rest {
        return Err(too_many(config, limits, least));
    }
    let handles = handles.unwrap_or_else(|| match connections {
        Some(connections) => (rest - connections).min(HANDLES_MAX),
        None => (rest / 4).clamp(HANDLES_MIN, HANDLES_MAX),
    });
    let bytes = if config.tls.tls_listen.given().is_some() { TLS_CONNECTION_BYTES } else { CONNECTION_BYTES };
    let affordable = usize::try_from(limits.memory.bytes / 4 / bytes).unwrap_or(usize::MAX);
    let affordable = affordable.clamp(CONNECTIONS_MIN, CONNECTIONS_MAX);
    Ok((handles, connections.unwrap_or_else(|| (rest - handles).min(affordable))))
}

/// The error: what does not fit, and what would.
fn too_many(config: &Config, limits: &ResolvedLimits, least: usize) -> ConfigError {
    let named = |amount: String, least: usize| match amount.as_str() {
        AUTO => format!("{AUTO} (at least {least})"),
        _ => amount,
    };
    let handles = named(config.open_files.handles.to_string(), HANDLES_MIN);
    let connections = named(config.connections.max_connections.to_string(), CONNECTIONS_MIN);
    let ResolvedLimits { open_files, reserve, workers, .. } = *limits;
    let rest = open_files.saturating_sub(reserve);
    let fits = if rest >= HANDLES_MIN + CONNECTIONS_MIN {
        let share = (rest / 4).clamp(HANDLES_MIN, HANDLES_MAX);
        format!("these would fit: PAGECAST_HANDLES={share} with PAGECAST_MAX_CONNECTIONS={}", rest - share)
    } else {
        "that is too few to serve with".to_owned()
    };
    let fewer_workers = if workers > 1 { " or lower PAGECAST_WORKERS" } else { "" };
    ConfigError::Conflict(format!(
        "PAGECAST_HANDLES={handles}, PAGECAST_MAX_CONNECTIONS={connections} and a reserve of {reserve} \
         (PAGECAST_WORKERS={}: {workers}) need {} open files, and the limit is {open_files}: {fits}; \
         or raise the limit (ulimit -n, LimitNOFILE){fewer_workers}",
        config.listening.workers,
        least + reserve
    ))
}

/// Keys of the settings on which it depends whether [`resolve_limits`] succeeds.
pub(crate) const INPUTS: &[&str] =
    &["workers", "listen", "tls_listen", "handles", "max_connections", "directories_at_once", "state_dir"];

/// Open files of an idle process without workers, as measured (standard streams, root, inotify, signals, the event loops of the
/// main and the admin threads, the admin listener, the upgrade socket and its clients), and the root once more while it
/// is looked at.
pub const PROCESS_FILES: usize = 26;

/// Descriptors of each worker, besides its listening sockets: event loop 3, signals 1, the page map 1.
pub const WORKER_FILES: usize = 5;

/// The state directory, and twice more while it is written to.
const STATE_FILES: usize = 3;

const FILES_PER_AUTO_WORKER: usize = 64;
const FILES_PER_DIRECTORY: usize = 32;
const WORKERS_MAX: usize = 1_024;
const REFUSALS_MAX: usize = 256;
const ADMIN_CONNECTIONS_MAX: usize = 16;
const HANDLES_MIN: usize = 8;
const HANDLES_MAX: usize = 65_536;
const CONNECTIONS_MIN: usize = 12;
const CONNECTIONS_MAX: usize = 10_000_000;
const MAPPINGS_MIN: usize = 16;

/// Bytes of small files on the heap, where memory allows.
const HEAP_BYTES: u64 = 128 << 20;

/// Memory of a connection with a slow download, rounded up.
const CONNECTION_BYTES: u64 = 16 << 10;

/// The same with TLS: records that the client has not received.
const TLS_CONNECTION_BYTES: u64 = 96 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        Auto, ByteCount, CachesGroup, ConnectionsGroup, Count, ListeningGroup, OpenFilesGroup,
    };
    use crate::sys::memory::MemorySource;

    fn facts(open_files: usize) -> SystemFacts {
        SystemFacts {
            open_files,
            max_map_count: 65_530,
            memory: MemoryAmount { bytes: 8 << 30, source: MemorySource::Machine },
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
            let limits = resolve_limits(&config(handles, connections), &facts(open_files)).expect("it fits");
            assert_eq!((limits.handles, limits.max_connections), expected, "{open_files}");
        }
    }

    #[test]
    fn all_resolved_limits_fit_in_the_limit() {
        for cpus in [1, 2, 64, 2_000] {
            for open_files in (64..5_000).step_by(7) {
                let facts = SystemFacts { cpus, ..facts(open_files) };
                let limits = resolve_limits(&Config::default(), &facts).expect("it fits");
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
                 (PAGECAST_WORKERS=auto: 2) need 65150 open files, and the limit is 1024: these would fit: \
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
            let error =
                resolve_limits(&config(handles, connections), &facts(open_files)).expect_err("too many");
            let text = error.to_string();
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
                resolve_limits(&config, &facts).map(|limits| limits.workers),
                Ok(workers),
                "{cpus} {open_files}"
            );
        }
    }

    #[test]
    fn inherited_sockets_are_counted_in_place_of_addresses() {
        let reserve = |inherited| {
            let facts = SystemFacts { inherited, ..facts(1_024) };
            resolve_limits(&Config::default(), &facts).map(|limits| (limits.sockets, limits.reserve))
        };
        let Ok((sockets, reserved)) = reserve(0) else { panic!("it fits") };
        assert_eq!(sockets, 2);
        assert_eq!(reserve(1), Ok((2, reserved)));
        assert_eq!(reserve(5), Ok((10, reserved + 8)));
    }

    #[test]
    fn sockets_that_were_not_reckoned_with_take_the_place_of_connections() {
        let resolved = |config: &Config, sockets| {
            let limits = resolve_limits(config, &facts(1_024)).expect("it fits");
            limits.with_sockets(sockets, config).map(|with| limits.max_connections - with.max_connections)
        };
        let open = Config::default();
        assert_eq!(resolved(&open, 2), Ok(0));
        assert_eq!(resolved(&open, 1), Ok(0));
        assert_eq!(resolved(&open, 12), Ok(10));
        assert!(resolved(&open, 1_000).is_err());
        assert_eq!(resolved(&config(Some(8), Some(800)), 12), Ok(0), "there is room to spare");
        assert!(resolved(&config(Some(18), Some(856)), 12).is_err(), "it was given");
    }

    #[test]
    fn mappings_and_mapped_bytes_are_half_of_what_there_is() {
        let limits = resolve_limits(&Config::default(), &facts(1_024)).expect("it fits");
        assert_eq!(limits.mappings, 32_765);
        assert_eq!(limits.cache_bytes, 4 << 30);
        let config = Config {
            caches: CachesGroup { cache_bytes: Auto::Given(ByteCount::bytes(0)), ..CachesGroup::default() }
                .into(),
            ..Config::default()
        };
        assert_eq!(resolve_limits(&config, &facts(1_024)).map(|limits| limits.cache_bytes), Ok(0));
    }

    #[test]
    fn small_memory_has_a_small_heap_and_always_room_for_a_file() {
        let heap = |memory_bytes| {
            let memory = MemoryAmount { bytes: memory_bytes, source: MemorySource::Machine };
            let facts = SystemFacts { memory, ..facts(1_024) };
            resolve_limits(&Config::default(), &facts).expect("it fits").heap_bytes
        };
        assert_eq!(heap(8 << 30), 128 << 20);
        assert_eq!(heap(64 << 20), 16 << 20);
        assert_eq!(heap(4 << 10), 16 << 10);
    }
}
