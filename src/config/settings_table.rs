//! The table of all settings.

use std::sync::Arc;

use super::setting::RawValue;
use super::{
    AccessLogFormat, Address, Auto, ByteCount, ClientField, ConfigHeaderValue, Count, Dotfiles,
    DurationSetting, EtagSource, HostList, IndexName, ListenList, LogFilter, LogFormat, LogTarget, OnOff,
    OriginList, OwnPath, PathList, ProxyList, ProxyProtocol, ReferrerPolicy, RequestIds, RequestRate,
    ResourcePolicy, RootPath, Rule, Secret, SettingValue, Symlinks, TlsVersion, Toggle, TomlForms,
    TrailingSlash, TransportSecurity, Verify,
};
use crate::http::cors::CorsPolicy;

/// One row of the table: a setting without its value.
#[derive(Debug)]
pub struct Setting {
    /// Its name in the file and as a field of [`Config`]; the other names follow from it.
    pub key: &'static str,
    /// Title of its group.
    pub group: &'static str,
    /// Whether a reload changes it.
    pub takes_effect: TakesEffect,
    /// The TOML types that its value may have beside a string.
    pub forms: TomlForms,
    /// The placeholder of its value in `--help`.
    pub metavar: &'static str,
    doc: &'static str,
    /// Describes its unit and bounds, as a noun phrase.
    pub accepted: fn() -> String,
    /// Its value in a configuration, in the notation in which it is given.
    pub value: fn(&Config) -> String,
    /// Sets it in a configuration, or returns the reason why not.
    pub(crate) read: fn(&mut Config, RawValue<'_>) -> Result<(), String>,
    /// Sets it to its value in another configuration.
    pub(crate) copy: fn(&mut Config, &Config),
    /// Whether it has the same value in both configurations.
    pub(crate) is_same: fn(&Config, &Config) -> bool,
}

impl Setting {
    /// Finds a setting by its key.
    pub fn by_key(key: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }

    /// The name of its variable, as in `PAGECAST_HEAD_TIMEOUT`.
    pub fn variable(&self) -> String {
        variable_of(self.key)
    }

    /// The name of its flag without the dashes, as in `head-timeout`.
    pub fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// What it is for: lines of prose, the first of which stands alone.
    pub fn doc(&self) -> impl Iterator<Item = &'static str> {
        self.doc.lines().map(str::trim).filter(|line| !line.is_empty())
    }

    /// Its default, in the notation in which it is given.
    pub fn default(&self) -> String {
        (self.value)(&Config::default())
    }
}

/// The name of the variable of the setting `key`.
pub(crate) fn variable_of(key: &str) -> String {
    format!("{VARIABLE_PREFIX}{}", key.to_ascii_uppercase())
}

/// Beginning of the names of all variables of the program.
pub(crate) const VARIABLE_PREFIX: &str = "PAGECAST_";

/// When a change of a setting takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakesEffect {
    /// On a reload of the configuration.
    Live,
    /// At the next start: sockets, threads or tables were made from it.
    Restart,
}

/// Declares the groups, [`Config`], their defaults and [`SETTINGS`] from one table.
macro_rules! settings {
    ($(
        #[doc = $group_doc:literal]
        $group:ident: $Group:ident = $title:literal { $(
            $(#[doc = $doc:literal])+
            $takes_effect:ident $key:ident: $type:ty = $default:expr $(, in $bounds:expr)?;
        )+ }
    )+) => {
        $(
            #[doc = $group_doc]
            #[derive(Debug, Clone, PartialEq)]
            pub struct $Group {$(
                $(#[doc = $doc])+
                #[doc = concat!("\n\nDefault: `", stringify!($default), "`.")]
                $(#[doc = concat!("\n\nBounds: `", stringify!($bounds), "`.")])?
                pub $key: $type,
            )+}

            impl Default for $Group {
                fn default() -> Self {
                    Self { $($key: $default,)+ }
                }
            }
        )+

        /// Values of all settings. Cheap to clone: the groups are shared.
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct Config {
            $(
                #[doc = $group_doc]
                pub $group: Arc<$Group>,
            )+
            /// The `[[rule]]` tables of the configuration file, in their order: settings for parts of the site.
            pub rules: Vec<Rule>,
        }

        /// All settings, group by group.
        pub static SETTINGS: &[Setting] = &[$($(
            Setting {
                key: stringify!($key),
                group: $title,
                takes_effect: TakesEffect::$takes_effect,
                forms: <$type as SettingValue>::FORMS,
                metavar: <$type as SettingValue>::METAVAR,
                doc: concat!($($doc, "\n"),+),
                accepted: || <$type as SettingValue>::accepted(&{ $($bounds)? }),
                value: |config| config.$group.$key.to_string(),
                read: |config, raw| {
                    Arc::make_mut(&mut config.$group).$key = raw.read::<$type>(&{ $($bounds)? })?;
                    Ok(())
                },
                copy: |config, from| {
                    Arc::make_mut(&mut config.$group).$key = from.$group.$key.clone();
                },
                is_same: |one, other| one.$group.$key == other.$group.$key,
            },
        )+)+];
    };
}

settings! {
    /// What is served.
    site: SiteGroup = "Site" {
        /// Document root: the directory that is served.
        /// A relative path starts at the working directory. The directory must exist at start.
        Restart root: RootPath = RootPath::unchecked("static");

        /// Name of the file that is served for its directory.
        Live index: IndexName = IndexName::unchecked("index.html");

        /// Symbolic links that are followed: those whose target is inside the root, or none.
        Restart symlinks: Symlinks = Symlinks::Inside;

        /// Whether names that begin with a dot are served. `.well-known` always is.
        Live dotfiles: Dotfiles = Dotfiles::Deny;

        /// Redirects between `/directory` and `/directory/`.
        /// add: /directory redirects to /directory/. remove: /directory/ redirects to /directory. ignore: both paths serve the directory.
        Live trailing_slash: TrailingSlash = TrailingSlash::Add;
    }

    /// Responses for directories without an index: listings and archives.
    directories: DirectoriesGroup = "Directory listings and archives" {
        /// Whether directories without an index are listed. Rules can override it for parts of the site.
        Live listing: OnOff = OnOff::Off;

        /// Maximum entries in a listing. The listing says if entries were left out.
        Live listing_entries: Count = Count::of(200_000), in Count::of(1)..=Count::of(10_000_000);

        /// Whether a directory that may be listed can also be downloaded as an archive, even one with an index.
        Live archive: OnOff = OnOff::On;

        /// Maximum files and directories in one archive.
        Live archive_entries: Count = Count::of(100_000), in Count::of(1)..=Count::of(10_000_000);

        /// Maximum bytes of files in one archive.
        Live archive_bytes: ByteCount = ByteCount::gib(64), in ByteCount::bytes(0)..=ByteCount::bytes(1 << 60);

        /// Maximum levels of directories in one archive.
        Live archive_depth: Count = Count::of(32), in Count::of(1)..=Count::of(255);

        /// Maximum listings and archives in progress. Beyond it archives get 503 with Retry-After; listings wait up to a second first.
        /// One client can hold a quarter of them, at least one. One in four is reserved for listings.
        /// Lowered to one for each 32 files that the process may open.
        Restart directories_at_once: Count = Count::of(32), in Count::of(1)..=Count::of(10_000);
    }

    /// Compression of response bodies.
    compression: CompressionGroup = "Compression" {
        /// Whether text files without a compressed sidecar are compressed once, in the background.
        Live compress: OnOff = OnOff::On;

        /// Smallest file that is compressed, in the background and by `pagecast compress`.
        Live compress_from: ByteCount = ByteCount::kib(1), in ByteCount::bytes(1)..=ByteCount::gib(1);

        /// Largest file that is compressed in the background.
        Live compress_to: ByteCount = ByteCount::mib(8), in ByteCount::bytes(1)..=ByteCount::gib(1);

        /// Threads that compress files and compute checksums.
        Restart background_threads: Count = Count::of(1), in Count::of(1)..=Count::of(512);
    }

    /// Entity tags and checksums.
    integrity: IntegrityGroup = "Entity tags and checksums" {
        /// Source of entity tags: the file's version on this machine's disk, or its content.
        /// content: equal on every machine with the same bytes; weak until a file has been read to its end.
        Live etag: EtagSource = EtagSource::Version;

        /// Whether a file with a checksum beside it (name.sha256) is served only if the checksum matches.
        Live verify: Verify = Verify::Off;

        /// Time that a request waits for a checksum that it asked for.
        Live digest_wait: DurationSetting = DurationSetting::seconds(10), in DurationSetting::ZERO..=DurationSetting::hours(1);

        /// Maximum checksums kept in memory.
        Restart digests: Count = Count::of(65_536), in Count::of(16)..=Count::of(16_777_216);
    }

    /// CORS, security headers and the redirect to HTTPS.
    security: SecurityGroup = "Security headers and CORS" {
        /// Origins whose scripts may read the site (CORS). Rules can override it.
        /// As browsers send them; https://*.example.com matches every subdomain. * allows every page.
        Live cors_origins: Toggle<OriginList> = Toggle::Off;

        /// Time for which browsers may cache the response to a CORS preflight request. Rules can override it.
        /// A changed policy reaches a browser only after this time.
        Live cors_max_age: DurationSetting = CORS_MAX_AGE, in CORS_MAX_AGE_BOUNDS;

        /// Sites whose pages may embed files of this site (Cross-Origin-Resource-Policy).
        /// off: the header is not sent. The narrower values break images, fonts and scripts that other sites embed.
        Live cross_origin_resource_policy: ResourcePolicy = ResourcePolicy::Off;

        /// What pages may load and run (Content-Security-Policy).
        Live content_security_policy: Toggle<ConfigHeaderValue> = Toggle::Off;

        /// Time for which browsers use HTTPS only (Strict-Transport-Security).
        /// It cannot be revoked before the time is over. Sent over HTTPS only.
        Live strict_transport_security: Toggle<TransportSecurity> = Toggle::Off;

        /// What other sites learn about the page that a visitor comes from (Referrer-Policy).
        Live referrer_policy: Toggle<ReferrerPolicy> = Toggle::Off;

        /// Whether requests over plain HTTP are redirected to HTTPS.
        Live https_redirect: OnOff = OnOff::Off;

        /// Hosts to which https_redirect redirects. Requests for other hosts are refused.
        /// any: the host of the request. *.example.com matches every subdomain.
        Live https_hosts: HostList = HostList::empty();

        /// Whether requests whose query looks like a script or SQL injection are refused.
        /// A file server needs no such filter; some compliance rules require one.
        Live query_filter: OnOff = OnOff::Off;
    }

    /// Signed URLs, passwords and bearer tokens.
    access: AccessGroup = "Access control" {
        /// File with the keys of signed URLs: on each line an id and a key, as in `k2 BASE64`.
        /// A signed URL names its key, so that keys can be rotated.
        Live link_keys_file: Toggle<OwnPath> = Toggle::Off;

        /// File with names and password hashes for basic authentication, in htpasswd format: bcrypt or argon2id.
        Live passwords_file: Toggle<OwnPath> = Toggle::Off;

        /// File with bearer tokens: on each line a name and the SHA-256 of a token, as in `ci sha256:HEX`.
        Live tokens_file: Toggle<OwnPath> = Toggle::Off;

        /// Rate of failed attempts of one client with a signed URL, token or password. Beyond it attempts get 429 without a check.
        Live login_attempts: Toggle<RequestRate> = Toggle::Given(RequestRate::per_minute(30)), in Count::of(1)..=Count::of(1_000_000);

        /// Maximum password checks in progress, each on its own thread.
        /// A check that finds no free thread within a second gets 503.
        Restart password_checks: Count = Count::of(2), in Count::of(1)..=Count::of(64);

        /// Time for which a correct password is not checked again.
        Live password_cache: DurationSetting = DurationSetting::minutes(5), in DurationSetting::ZERO..=DurationSetting::hours(1);
    }

    /// Listeners and worker threads.
    listening: ListeningGroup = "Listeners" {
        /// Addresses for plain HTTP.
        /// Port 0 lets the system choose. off is allowed only if tls_listen is set.
        Restart listen: Toggle<ListenList> = Toggle::Given(ListenList::one(Address::Tcp(([0, 0, 0, 0], 8080).into())));

        /// Address of the admin listener: dashboard, health checks, metrics and `pagecast warm`.
        /// An address that other machines can reach requires admin_token. On a loopback address or unix socket every local user is trusted.
        Restart admin_listen: Toggle<Address> = Toggle::Given(Address::Tcp(([127, 0, 0, 1], 8081).into()));

        /// Token for the admin listener, sent as a bearer token or as the password of any user name.
        /// Required unless the admin listener is on loopback or a unix socket. Health checks need no token.
        Restart admin_token: Toggle<Secret> = Toggle::Off;

        /// Whether the kernel holds a new TCP connection back until its first bytes arrive, at most a second.
        Restart defer_accept: OnOff = OnOff::On;

        /// Threads that serve requests, each with its own listening sockets.
        /// auto: one for each processor that the process may use, fewer if the limit on open files is low.
        Restart workers: Auto<Count> = Auto::Auto, in Count::of(1)..=Count::of(1_024);
    }

    /// TLS listeners and certificates.
    tls: TlsGroup = "TLS" {
        /// Addresses for HTTPS, in addition to listen. They require tls_cert and tls_key.
        Restart tls_listen: Toggle<ListenList> = Toggle::Off;

        /// Certificate chains in PEM, each in its own file, the server's certificate first.
        /// A client gets the certificate with the name that it requests, else the first. Files are read again on SIGHUP and when they change.
        Live tls_cert: Toggle<PathList> = Toggle::Off;

        /// Private keys in PEM, in the order of tls_cert.
        Live tls_key: Toggle<PathList> = Toggle::Off;

        /// Oldest TLS version that is accepted.
        Restart tls_min_version: TlsVersion = TlsVersion::V12;

        /// Timeout of a TLS handshake.
        Live tls_handshake_timeout: DurationSetting = DurationSetting::seconds(10), in DurationSetting::millis(10)..=DurationSetting::minutes(10);

        /// Maximum TLS handshakes in progress. Further handshakes wait, and their timeout runs.
        /// A handshake that has waited for its client for a second gives up its slot.
        Restart tls_handshakes: Count = Count::of(512), in Count::of(1)..=Count::of(1_000_000);
    }

    /// HTTP/2.
    http2: Http2Group = "HTTP/2" {
        /// Whether HTTP/2 is offered: over TLS by ALPN, over plain HTTP to clients that start with it.
        Restart http2: OnOff = OnOff::On;

        /// Maximum concurrent streams of one HTTP/2 connection.
        Live http2_streams: Count = Count::of(128), in Count::of(1)..=Count::of(10_000);

        /// Streams that a client may reset in ten seconds before its connection is closed.
        Live http2_resets: Count = Count::of(400), in Count::of(1)..=Count::of(1_000_000);
    }

    /// Number and timeouts of connections.
    connections: ConnectionsGroup = "Connections" {
        /// Maximum open connections.
        /// At the limit a new connection replaces the one that has been idle longest. If none is idle, the new connection gets 503.
        /// auto: what the limit on open files allows beside handles, within a quarter of memory.
        Live max_connections: Auto<Count> = Auto::Auto, in Count::of(1)..=Count::of(10_000_000);

        /// Timeout for a complete request head, from its first byte. A late head gets 408.
        Live head_timeout: DurationSetting = DurationSetting::seconds(10), in DurationSetting::millis(10)..=DurationSetting::hours(1);

        /// Time that a connection is kept open between requests.
        Live idle_timeout: DurationSetting = DurationSetting::seconds(60), in DurationSetting::millis(10)..=DurationSetting::hours(1);

        /// Time without progress after which a response is aborted because its client takes no bytes.
        Live stall_timeout: DurationSetting = DurationSetting::seconds(30), in DurationSetting::millis(10)..=DurationSetting::hours(1);

        /// Time that a closing connection is still read, so that the last response arrives.
        Live linger_timeout: DurationSetting = DurationSetting::seconds(2), in DurationSetting::ZERO..=DurationSetting::seconds(30);

        /// Minimum average rate in bytes per second at which a client must take a response while connections are scarce. Slower ones are aborted.
        /// A slow client is not an attack: enforced only when seven of eight connections are in use.
        Live min_rate: Toggle<ByteCount> = Toggle::Given(ByteCount::kib(1)), in ByteCount::bytes(1)..=ByteCount::gib(1);

        /// Time spent waiting for the client during a response before min_rate is enforced.
        /// Time that the server itself waits, for a disk or a rate limit, is not counted.
        Live min_rate_after: DurationSetting = DurationSetting::seconds(30), in DurationSetting::millis(10)..=DurationSetting::hours(1);
    }

    /// How the client address of a request is established.
    clients: ClientsGroup = "Proxies and client addresses" {
        /// Proxies whose headers set the client address and scheme: Forwarded or X-Forwarded-For, X-Forwarded-Proto.
        /// List only addresses used exclusively by your proxies: a client connecting from one can claim any IP address.
        Live trusted_proxies: ProxyList = ProxyList::empty();

        /// Header from which the client address is taken. auto: whichever is present.
        /// With auto, a request whose two headers name different clients is attributed to its proxy, because one of them is forged.
        Live client_field: ClientField = ClientField::Auto;

        /// Whether connections start with a PROXY protocol header (version 1 or 2). Accepted from trusted proxies only.
        /// off: never. on: optional. require: connections without one, or from other peers, are closed.
        Restart proxy_protocol: ProxyProtocol = ProxyProtocol::Off;

        /// Prefix length that identifies an IPv4 client.
        Live client_v4_prefix: Count = Count::of(32), in Count::of(8)..=Count::of(32);

        /// Prefix length that identifies an IPv6 client.
        Live client_v6_prefix: Count = Count::of(64), in Count::of(16)..=Count::of(128);

        /// Maximum clients kept in memory besides those with open connections.
        /// The least recently seen is removed first, and its use of rate limits with it.
        Restart clients: Count = Count::of(65_536), in Count::of(16)..=Count::of(16_777_216);

        /// Clients exempt from the limits on requests, connections and bandwidth.
        Live unlimited_clients: ProxyList = ProxyList::empty();
    }

    /// Limits per client and in total: requests, connections, bandwidth.
    rates: RatesGroup = "Rate limits" {
        /// Maximum request rate of one client. Beyond it requests get 429. Health checks are not counted.
        Live client_requests: Toggle<RequestRate> = Toggle::Off, in Count::of(1)..=Count::of(1_000_000);

        /// Requests that a client may make at once before client_requests applies. auto: the number in the rate.
        Live client_requests_burst: Auto<Count> = Auto::Auto, in Count::of(1)..=Count::of(10_000_000);

        /// Maximum request rate of all clients together, except unlimited_clients. Beyond it requests get 429.
        Live total_requests: Toggle<RequestRate> = Toggle::Off, in Count::of(1)..=Count::of(100_000_000);

        /// Requests that may be made at once before total_requests applies. auto: the number in the rate.
        Live total_requests_burst: Auto<Count> = Auto::Auto, in Count::of(1)..=Count::of(1_000_000_000);

        /// Maximum concurrent requests of one client, each until its response has been handed to the kernel.
        /// Beyond it requests get 429.
        Live client_requests_at_once: Toggle<Count> = Toggle::Off, in Count::of(1)..=Count::of(10_000_000);

        /// Maximum connections of one client. Further connections get 429.
        /// Connections of trusted proxies and over unix sockets are not counted.
        Live client_connections: Toggle<Count> = Toggle::Off, in Count::of(1)..=Count::of(10_000_000);

        /// Maximum bytes per second of one client over all its connections, response heads included.
        /// Rules can override it for parts of the site, which then have an allowance of their own.
        Live rate_client: Toggle<ByteCount> = Toggle::Off, in ByteCount::kib(1)..=ByteCount::tib(1);

        /// Bytes that a client may take at once before rate_client applies. auto: those of a tenth of a second.
        /// Applies to rate_client of the site only: a rule with a rate sets its own burst.
        Live rate_client_burst: Auto<ByteCount> = Auto::Auto, in ByteCount::kib(1)..=ByteCount::tib(1);

        /// Maximum bytes per second of one connection, evenly paced. Rules can override it for parts of the site.
        Live rate_connection: Toggle<ByteCount> = Toggle::Off, in ByteCount::kib(1)..=ByteCount::tib(1);

        /// Maximum bytes per second of all clients together, except unlimited_clients.
        /// Shared equally among the clients that want more, however many connections each of them has.
        Live rate_total: Toggle<ByteCount> = Toggle::Off, in ByteCount::kib(1)..=ByteCount::tib(1);
    }

    /// Bounds on the size of a request.
    requests: RequestsGroup = "Request size" {
        /// Maximum size of a request head.
        Live head_bytes: ByteCount = ByteCount::kib(16), in ByteCount::kib(1)..=ByteCount::kib(256);

        /// Maximum number of headers in a request.
        Live head_fields: Count = Count::of(100), in Count::of(8)..=Count::of(1_000);

        /// Maximum request body that is read and discarded. After a larger one the connection closes behind the response.
        Live body_bytes: ByteCount = ByteCount::kib(64), in ByteCount::bytes(0)..=ByteCount::mib(16);
    }

    /// Open file handles.
    open_files: OpenFilesGroup = "Open files" {
        /// Maximum files of the site that are open at once.
        /// auto: a quarter of what the limit on open files leaves, from 8 to 65536.
        Restart handles: Auto<Count> = Auto::Auto, in Count::of(8)..=Count::of(1_000_000);

        /// Time that a request waits for a file handle before it gets 503.
        Live handle_wait: DurationSetting = DurationSetting::seconds(1), in DurationSetting::ZERO..=DurationSetting::seconds(60);

        /// Time after which an unused file handle is closed.
        Live handle_idle: DurationSetting = DurationSetting::seconds(60), in DurationSetting::seconds(1)..=DurationSetting::hours(1);

        /// Age at which a file handle is closed as soon as it is unused.
        Live handle_max_age: DurationSetting = DurationSetting::minutes(10), in DurationSetting::seconds(1)..=DurationSetting::hours(24);
    }

    /// Caches of file names and contents.
    caches: CachesGroup = "Caches" {
        /// Maximum bytes of files that are kept mapped. The least recently used are evicted first.
        /// auto: half of memory, or of the control group's limit. 0 keeps nothing mapped between requests.
        Restart cache_bytes: Auto<ByteCount> = Auto::Auto, in ByteCount::bytes(0)..=ByteCount::bytes(1 << 60);

        /// Maximum bytes of small files that are kept on the heap. The least recently used are evicted first.
        /// auto: 128MiB, at most a quarter of memory. 0 keeps none; any other value is at least heap_file_bytes.
        Restart heap_bytes: Auto<ByteCount> = Auto::Auto, in ByteCount::bytes(0)..=ByteCount::tib(1);

        /// Largest file that is kept on the heap. Larger files are mapped.
        Live heap_file_bytes: ByteCount = ByteCount::kib(16), in ByteCount::bytes(0)..=ByteCount::mib(1);

        /// Maximum file names kept in the name cache, missing files included. Also bounds its memory, to 1KiB times this count:
        /// a name with a long path, or of a file that is neither on the heap nor mapped, counts as several.
        Restart names: Count = Count::of(65_536), in Count::of(16)..=Count::of(16_777_216);

        /// Time after which a cached name is checked against the disk again.
        Live revalidate_after: DurationSetting = DurationSetting::seconds(1), in DurationSetting::ZERO..=DurationSetting::hours(1);

        /// The same for names whose directory is watched by inotify (see watch).
        /// Does not apply to symbolic links, hard links, network and overlay file systems. Never shorter than revalidate_after.
        Live revalidate_watched_after: DurationSetting = DurationSetting::seconds(10), in DurationSetting::ZERO..=DurationSetting::hours(1);

        /// Whether directories are watched for changes with inotify.
        Restart watch: OnOff = OnOff::On;

        /// Maximum watched directories.
        Restart watches: Count = Count::of(4_096), in Count::of(1)..=Count::of(524_288);
    }

    /// How files are read and bodies sent.
    sending: SendingGroup = "Reading and sending" {
        /// Threads that look up and open files.
        Restart disk_threads: Count = Count::of(16), in Count::of(1)..=Count::of(512);

        /// Threads that read cold pages into memory, for each device.
        Restart populate_threads: Count = Count::of(16), in Count::of(1)..=Count::of(512);

        /// Time that a request waits for the disk at a time. Then it gets 503 if its head was not sent, else its response is aborted.
        Live disk_timeout: DurationSetting = DurationSetting::seconds(60), in DurationSetting::millis(10)..=DurationSetting::hours(1);

        /// Bytes that one response may send before other connections get their turn.
        Live turn_bytes: ByteCount = ByteCount::kib(256), in ByteCount::kib(16)..=ByteCount::mib(16);

        /// Cap in bytes per second and worker on large bodies while small responses are pending. 0 disables it.
        /// Keeps hot files hot beside bulk reads. Without small responses nothing is held back.
        Live long_rate: ByteCount = ByteCount::gib(1), in ByteCount::bytes(0)..=ByteCount::tib(1);

        /// Body length from which sendfile is used. Shorter bodies are sent from the file's mapping.
        /// Bytes in flight by sendfile still change if the file is overwritten or truncated in place; bytes from a mapping are copied.
        /// Files that are not mapped are always sent by sendfile.
        Live sendfile_from: ByteCount = ByteCount::kib(64), in ByteCount::bytes(0)..=ByteCount::gib(1);
    }

    /// Shutdown on a signal.
    stopping: StoppingGroup = "Shutdown" {
        /// Time after a stop signal in which requests are still served while readiness fails.
        /// After a handover: time for which idle connections are kept open for a last request.
        Live drain_delay: DurationSetting = DurationSetting::seconds(5), in DurationSetting::ZERO..=DurationSetting::hours(1);

        /// Time for open responses to finish, after drain_delay. Then they are aborted, and the exit code is 1.
        Live shutdown_timeout: DurationSetting = DurationSetting::seconds(30), in DurationSetting::ZERO..=DurationSetting::hours(24);
    }

    /// State that outlives a process: upgrades and warm-up.
    continuity: ContinuityGroup = "Upgrades and warm-up" {
        /// Unix socket on which a new process requests the listening sockets.
        /// For processes of the same user, in a directory that only this user can write to.
        Restart upgrade_socket: Toggle<OwnPath> = Toggle::Off;

        /// Unix socket of a running server (its upgrade_socket), whose listening sockets are taken over.
        /// The running server keeps serving until this one is ready. Without a running server this one does not start.
        Restart upgrade_from: Toggle<OwnPath> = Toggle::Off;

        /// Directory to which a stopping server writes its list of hot files, and from which a starting one reads it.
        /// It must exist and be writable at start, and must be outside the root.
        Restart state_dir: Toggle<OwnPath> = Toggle::Off;

        /// Maximum files in the list of hot files, and in one `pagecast warm`.
        Restart warm_files: Count = Count::of(10_000), in Count::of(1)..=Count::of(1_000_000);

        /// Time that a starting server spends on reading hot files before it becomes ready. 0 disables the warm-up.
        Restart warm_timeout: DurationSetting = DurationSetting::seconds(30), in DurationSetting::ZERO..=DurationSetting::hours(1);
    }

    /// Diagnostics log and access log.
    logging: LoggingGroup = "Logging" {
        /// Filter of the diagnostics log, which goes to standard error. RUST_LOG is not read.
        Live log: LogFilter = LogFilter::unchecked("info");

        /// Format of the diagnostics log.
        Live log_format: LogFormat = LogFormat::Text;

        /// Target of the access log: a line for each request, written when its response has ended. SIGUSR1 reopens the file.
        /// The file is appended to, and created in an existing directory. It must be outside the root.
        Live access_log: LogTarget = LogTarget::Off;

        /// Format of the access log.
        Live access_log_format: AccessLogFormat = AccessLogFormat::Json;

        /// Write one of this many requests, selected by request id. 1: every request.
        Live access_log_sample: Count = Count::of(1), in Count::of(1)..=Count::of(1_000_000);

        /// Requests that take at least this long are written regardless of the sample, as are failed ones.
        Live access_log_slow: Toggle<DurationSetting> = Toggle::Off, in DurationSetting::ZERO..=DurationSetting::hours(24);

        /// Maximum lines that wait to be written. Further lines are dropped and counted.
        Restart access_log_queue: Count = Count::of(16_384), in Count::of(256)..=Count::of(1_048_576);

        /// Whether responses carry the id of their request (X-Request-Id).
        /// The id is that of a trusted proxy (X-Request-Id, traceparent), else a new one. auto: on if an access log is written.
        Live request_ids: RequestIds = RequestIds::Auto;
    }
}

/// Time for which browsers cache the response to a preflight, unless configured otherwise.
pub(crate) const CORS_MAX_AGE: DurationSetting = DurationSetting::minutes(10);

/// No browser caches for longer than a day.
pub(crate) const CORS_MAX_AGE_BOUNDS: std::ops::RangeInclusive<DurationSetting> =
    DurationSetting::ZERO..=DurationSetting::hours(24);

impl Config {
    /// Addresses that speak plain HTTP.
    pub fn plain_http_addresses(&self) -> &[Address] {
        self.listening.listen.given().map_or(&[], ListenList::as_slice)
    }

    /// The addresses that speak TLS.
    pub fn tls_addresses(&self) -> &[Address] {
        self.tls.tls_listen.given().map_or(&[], ListenList::as_slice)
    }

    /// The CORS policy of paths without one of their own. `None`: off.
    pub fn site_cors(&self) -> Option<Arc<CorsPolicy>> {
        let list = self.security.cors_origins.given()?;
        Some(Arc::new(CorsPolicy::new(list.origins(), self.security.cors_max_age.get())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_read_back_within_its_own_bounds() {
        for setting in SETTINGS {
            let mut config = Config::default();
            let default = setting.default();
            assert_eq!((setting.read)(&mut config, RawValue::Text(&default)), Ok(()), "{}", setting.key);
            assert_eq!(config, Config::default(), "{}", setting.key);
        }
    }

    #[test]
    fn every_setting_is_explained_and_has_one_key() {
        for (position, setting) in SETTINGS.iter().enumerate() {
            assert!(setting.doc().next().is_some(), "{}", setting.key);
            assert!(
                SETTINGS.iter().skip(position + 1).all(|other| other.key != setting.key),
                "{}",
                setting.key
            );
        }
    }

    #[test]
    fn the_three_names_follow_from_the_key() {
        let setting = Setting::by_key("head_timeout").expect("it is in the table");
        assert_eq!(setting.variable(), "PAGECAST_HEAD_TIMEOUT");
        assert_eq!(setting.flag(), "head-timeout");
    }

    #[test]
    fn bounds_are_inclusive_and_held() {
        for (key, text, expected) in [
            ("workers", "1", Ok(())),
            ("workers", "1024", Ok(())),
            ("workers", "0", Err("is too small")),
            ("workers", "1025", Err("is too large")),
            ("head_timeout", "10ms", Ok(())),
            ("head_timeout", "9ms", Err("is too small")),
            ("head_timeout", "1h", Ok(())),
            ("head_timeout", "1h1ms", Err("is too large")),
            ("head_timeout", "0", Err("is too small")),
            ("drain_delay", "0", Ok(())),
            ("cache_bytes", "0", Ok(())),
            ("cache_bytes", "1048576TiB", Ok(())),
            ("cache_bytes", "1048577TiB", Err("is too large")),
            ("body_bytes", "16MiB", Ok(())),
            ("turn_bytes", "16383", Err("is too small")),
            ("handles", "8", Ok(())),
            ("handles", "7", Err("is too small")),
            ("watches", "524289", Err("is too large")),
        ] {
            let setting = Setting::by_key(key).expect(key);
            let got = (setting.read)(&mut Config::default(), RawValue::Text(text));
            assert_eq!(got, expected.map_err(str::to_owned), "{key}={text}");
        }
    }
}
