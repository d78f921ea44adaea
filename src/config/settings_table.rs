//! The table of all settings.

use std::fmt;
use std::sync::Arc;

use super::address::{Address, AdminListen, ListenList};
use super::byte_count::ByteCount;
use super::count::{Auto, Count};
use super::host_list::HostList;
use super::log_filter::LogFilter;
use super::log_target::LogTarget;
use super::name::{IndexName, OwnPath, RootPath};
use super::origin_list::{CORS_MAX_AGE, CORS_MAX_AGE_BOUNDS, OriginList};
use super::path_list::PathList;
use super::proxy_list::ProxyList;
use super::request_rate::RequestRate;
use super::rule::Rule;
use super::secret::{SECRET, Secret};
use super::setting::{RawValue, SettingValue, TomlForms};
use crate::config::choice::{
    AccessLogFormat, ClientField, Dotfiles, EtagSource, LogFormat, OnOff, ProxyProtocol, RequestIds,
    ResourcePolicy, Symlinks, TlsVersion, TrailingSlash, Verify,
};
use crate::config::duration_setting::DurationSetting;
use crate::config::header_value::ConfigHeaderValue;
use crate::config::security_header::{ReferrerPolicy, TransportSecurity};
use crate::config::toggle::Toggle;
use crate::http::cors::CorsPolicy;

/// One row of the table: a setting without its value.
pub struct Setting {
    /// Its name in the file and as a field of [`Config`]; the other names follow from it.
    pub key: &'static str,
    /// Title of its group.
    pub group: &'static str,
    /// Whether a reload changes it.
    pub takes_effect: TakesEffect,
    /// The TOML types that its value may have beside a string.
    pub forms: TomlForms,
    /// The word for its value in `--help`.
    pub metavar: &'static str,
    doc: &'static str,
    accepted: fn() -> String,
    value: fn(&Config) -> String,
    read: fn(&mut Config, RawValue<'_>) -> Result<(), String>,
    copy: fn(&mut Config, &Config),
    is_same: fn(&Config, &Config) -> bool,
}

impl Setting {
    /// Finds a knob by its key.
    pub fn by_key(key: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|knob| knob.key == key)
    }

    /// The name of its variable, as in `PAGECAST_HEAD_TIMEOUT`.
    pub fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.key.to_ascii_uppercase())
    }

    /// The name of its flag without the dashes, as in `head-timeout`.
    pub fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// What it is for: lines of prose, the first of which stands alone.
    pub fn doc(&self) -> impl Iterator<Item = &'static str> {
        self.doc.lines().map(str::trim).filter(|line| !line.is_empty())
    }

    /// Its unit and bounds, as a noun phrase.
    pub fn accepted(&self) -> String {
        (self.accepted)()
    }

    /// Its value in a configuration, in the notation in which it is given.
    pub fn value(&self, config: &Config) -> String {
        (self.value)(config)
    }

    /// Its default, in the notation in which it is given.
    pub fn default(&self) -> String {
        self.value(&Config::default())
    }

    /// Sets it in `config`; on an error the reason, and `config` unchanged.
    pub(crate) fn read(&self, config: &mut Config, raw: RawValue<'_>) -> Result<(), String> {
        (self.read)(config, raw)
    }

    /// Whether it has the same value in both.
    pub(crate) fn is_same(&self, one: &Config, other: &Config) -> bool {
        (self.is_same)(one, other)
    }

    /// Whether its value is told to nobody.
    pub(crate) fn is_secret(&self) -> bool {
        self.metavar == SECRET
    }

    /// Sets it in `config` to what it is in `from`.
    pub(crate) fn copy(&self, config: &mut Config, from: &Config) {
        (self.copy)(config, from);
    }
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Setting").field(&self.key).finish()
    }
}

/// What the name of every variable of ours begins with.
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
                takes_effect: takes_effect!($takes_effect),
                forms: <$type as SettingValue>::FORMS,
                metavar: <$type as SettingValue>::METAVAR,
                doc: concat!($($doc, "\n"),+),
                accepted: || <$type as SettingValue>::accepted(&bounds!($($bounds)?)),
                value: |config| config.$group.$key.to_string(),
                read: |config, raw| {
                    Arc::make_mut(&mut config.$group).$key = raw.read::<$type>(&bounds!($($bounds)?))?;
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

macro_rules! takes_effect {
    (live) => {
        TakesEffect::Live
    };
    (restart) => {
        TakesEffect::Restart
    };
}

macro_rules! bounds {
    () => {
        ()
    };
    ($bounds:expr) => {
        $bounds
    };
}

settings! {
    /// What is served.
    site: SiteGroup = "Site" {
        /// Directory that is served.
        /// A relative path starts at the working directory. It must exist at start.
        restart root: RootPath = RootPath::new("static");

        /// File that answers for its directory.
        live index: IndexName = IndexName::usual();

        /// Symbolic links that are followed: those that end inside the root, or none.
        restart symlinks: Symlinks = Symlinks::Inside;

        /// Whether names that begin with a dot are served; `.well-known` always is.
        live dotfiles: Dotfiles = Dotfiles::Deny;

        /// What the slash at the end of a path means.
        /// add: /directory is redirected to /directory/. remove: /directory/ to /directory. ignore: both answer.
        live trailing_slash: TrailingSlash = TrailingSlash::Add;
    }

    /// Responses for directories without an index: listings and archives.
    directories: DirectoriesGroup = "Directory listings and archives" {
        /// Whether a directory without an index is listed. A rule of the file may say otherwise for a part of the site.
        live listing: OnOff = OnOff::Off;

        /// Entries of a directory that are listed; what is beyond them is left out, and said to be.
        live listing_entries: Count = Count::of(200_000), in Count::of(1)..=Count::of(10_000_000);

        /// Whether a directory that may be listed may be downloaded as an archive as well, even one with an index.
        live archive: OnOff = OnOff::On;

        /// Most files and directories in one archive.
        live archive_entries: Count = Count::of(100_000), in Count::of(1)..=Count::of(10_000_000);

        /// Most bytes of files in one archive.
        live archive_bytes: ByteCount = ByteCount::gib(64), in ByteCount::bytes(0)..=ByteCount::bytes(1 << 60);

        /// Levels of directories in one archive.
        live archive_depth: Count = Count::of(32), in Count::of(1)..=Count::of(255);

        /// Listings and archives under way at once. Further archives are told to come back; further listings wait a second first.
        /// A single client has no more than a quarter of them, and one at least.
        /// Never more than one for each 32 files that the process may open.
        /// One in four is kept for listings: archives do not take it.
        restart directories_at_once: Count = Count::of(32), in Count::of(1)..=Count::of(10_000);
    }

    /// Compression of response bodies.
    compression: CompressionGroup = "Compression" {
        /// Whether text-like files without a compressed sidecar are compressed, once and in the background.
        live compress: OnOff = OnOff::On;

        /// Smallest file that is compressed, in the background and by `pagecast compress`.
        live compress_from: ByteCount = ByteCount::kib(1), in ByteCount::bytes(1)..=ByteCount::gib(1);

        /// Largest file that is compressed in the background.
        live compress_to: ByteCount = ByteCount::mib(8), in ByteCount::bytes(1)..=ByteCount::gib(1);

        /// Threads that compress and compute checksums.
        restart background_threads: Count = Count::of(1), in Count::of(1)..=Count::of(512);
    }

    /// Entity tags and checksums.
    integrity: IntegrityGroup = "Entity tags and checksums" {
        /// What entity tags are made of: the version on this machine's disk, or the content.
        /// content: equal on every machine with the same bytes; weak until a file has been read to its end.
        live etag: EtagSource = EtagSource::Version;

        /// Whether a file with a checksum beside it (name.sha256) is served only if it matches.
        live verify: Verify = Verify::Off;

        /// Time that a request waits for a checksum that it asked for.
        live digest_wait: DurationSetting = DurationSetting::seconds(10), in DurationSetting::ZERO..=DurationSetting::hours(1);

        /// Checksums that are remembered.
        restart digests: Count = Count::of(65_536), in Count::of(16)..=Count::of(16_777_216);
    }

    /// CORS, security headers and the redirect to HTTPS.
    security: SecurityGroup = "Security headers and CORS" {
        /// Origins whose scripts may read the site, where no rule says otherwise.
        /// As browsers send them; https://*.example.com stands for every subdomain. * lets every page read.
        live cors_origins: Toggle<OriginList> = Toggle::Off;

        /// Time for which browsers may remember what they were told before a request across origins.
        /// A change of policy reaches them only after it. A rule may say otherwise.
        live cors_max_age: DurationSetting = CORS_MAX_AGE, in CORS_MAX_AGE_BOUNDS;

        /// Sites whose pages may embed what is served (Cross-Origin-Resource-Policy).
        /// off: nothing is said. Anything narrower would break images, fonts and scripts that other sites embed.
        live cross_origin_resource_policy: ResourcePolicy = ResourcePolicy::Off;

        /// What pages may load and run (Content-Security-Policy).
        live content_security_policy: Toggle<ConfigHeaderValue> = Toggle::Off;

        /// For how long browsers are to come by https only (Strict-Transport-Security).
        /// It cannot be taken back before its time is up. Browsers heed it over https only.
        live strict_transport_security: Toggle<TransportSecurity> = Toggle::Off;

        /// What other sites learn of the page that a visitor comes from (Referrer-Policy).
        live referrer_policy: Toggle<ReferrerPolicy> = Toggle::Off;

        /// Whether requests over cleartext are redirected to https.
        live https_redirect: OnOff = OnOff::Off;

        /// Hosts that such a redirect may lead to; for others it is refused.
        /// any: whichever host the client asked for. *.example.com stands for every subdomain.
        live https_hosts: HostList = HostList::any();

        /// Whether queries that look like an attack with script or SQL are refused.
        /// Files need no such filter; some gateways' rules demand one.
        live query_filter: OnOff = OnOff::Off;
    }

    /// Signed URLs, passwords and bearer tokens.
    access: AccessGroup = "Access control" {
        /// File with the keys of signed links: on each line an id and a key, as in `k2 BASE64`.
        /// Links are checked by the key that they name, so that keys can be exchanged one after the other.
        live link_keys_file: Toggle<OwnPath> = Toggle::Off;

        /// File with names and password hashes for basic authentication, as htpasswd writes it: bcrypt or argon2.
        live passwords_file: Toggle<OwnPath> = Toggle::Off;

        /// File with bearer tokens: on each line a name and the SHA-256 of a token, as in `ci sha256:HEX`.
        live tokens_file: Toggle<OwnPath> = Toggle::Off;

        /// Failed attempts of one client at a link, token or password; what is beyond is answered 429 without a look.
        live login_attempts: Toggle<RequestRate> = Toggle::Given(RequestRate::per_minute(30)), in Count::of(1)..=Count::of(1_000_000);

        /// Passwords that are checked at once, each on a thread of its own.
        /// Checks that find no thread within a second are answered 503.
        restart password_checks: Count = Count::of(2), in Count::of(1)..=Count::of(64);

        /// Time for which a password that was right is not checked again.
        live password_cache: DurationSetting = DurationSetting::minutes(5), in DurationSetting::ZERO..=DurationSetting::hours(1);
    }

    /// Listeners and worker threads.
    listening: ListeningGroup = "Listeners" {
        /// Addresses that traffic comes in on.
        /// Port 0 lets the system choose. In the file a list of strings does as well. off: only where tls_listen is given.
        restart listen: Toggle<ListenList> = Toggle::Given(ListenList::one(Address::Tcp(([0, 0, 0, 0], 8080).into())));

        /// Address of the dashboard, health checks, metrics and `pagecast warm`, apart from traffic.
        /// At an address that other machines reach it demands admin_token. At one of this machine everybody on it is trusted.
        restart admin_listen: AdminListen = AdminListen::At(Address::Tcp(([127, 0, 0, 1], 8081).into()));

        /// What whoever talks to the admin listener must show, as a bearer token or as the password of any name.
        /// Must be given where that listener is not bound to loopback or a unix socket. Health checks need none.
        restart admin_token: Toggle<Secret> = Toggle::Off;

        /// Whether the kernel holds a new TCP connection back until its first bytes arrive, or a second has passed.
        restart defer_accept: OnOff = OnOff::On;

        /// Threads that serve traffic, each with its own listening sockets.
        /// auto: one for each processor that the process may use, fewer where open files are scarce.
        restart workers: Auto<Count> = Auto::Auto, in Count::of(1)..=Count::of(1_024);
    }

    /// TLS listeners and certificates.
    tls: TlsGroup = "TLS" {
        /// Addresses that traffic comes in on encrypted, beside those of listen. They need tls_cert and tls_key.
        restart tls_listen: Toggle<ListenList> = Toggle::Off;

        /// Certificate chains in PEM, the server's own first, each in a file of its own.
        /// A client gets the one that has the name it asks for, else the first. Read again on SIGHUP and when a file changes.
        live tls_cert: Toggle<PathList> = Toggle::Off;

        /// Their private keys in PEM, in the same order.
        live tls_key: Toggle<PathList> = Toggle::Off;

        /// Oldest version of TLS that is spoken.
        restart tls_min_version: TlsVersion = TlsVersion::V12;

        /// Time for a TLS handshake.
        live tls_handshake_timeout: DurationSetting = DurationSetting::seconds(10), in DurationSetting::millis(10)..=DurationSetting::minutes(10);

        /// TLS handshakes under way at once; further ones wait, and their time runs.
        /// One that waits for its client for a second gives its place up.
        restart tls_handshakes: Count = Count::of(512), in Count::of(1)..=Count::of(1_000_000);
    }

    /// HTTP/2.
    http2: Http2Group = "HTTP/2" {
        /// Whether HTTP/2 is spoken: over TLS where the client offers it, in cleartext where the client begins with it.
        restart http2: OnOff = OnOff::On;

        /// Streams that a client may have open at once on one connection.
        live http2_streams: Count = Count::of(128), in Count::of(1)..=Count::of(10_000);

        /// Streams that a client may reset in ten seconds before its connection is closed.
        live http2_resets: Count = Count::of(400), in Count::of(1)..=Count::of(1_000_000);
    }

    /// Number and timeouts of connections.
    connections: ConnectionsGroup = "Connections" {
        /// Connections served at once.
        /// For a further one that one goes which has idled the longest; where none idles, the newcomer is answered 503.
        /// auto: what the limit on open files leaves beside handles, within a quarter of memory.
        live max_connections: Auto<Count> = Auto::Auto, in Count::of(1)..=Count::of(10_000_000);

        /// Time for a request's head to arrive whole; one that has begun and takes longer is answered 408.
        live head_timeout: DurationSetting = DurationSetting::seconds(10), in DurationSetting::millis(10)..=DurationSetting::hours(1);

        /// Time that a connection is kept open between requests.
        live idle_timeout: DurationSetting = DurationSetting::seconds(60), in DurationSetting::millis(10)..=DurationSetting::hours(1);

        /// Time for which a client may take no byte of a response; then it is cut.
        live stall_timeout: DurationSetting = DurationSetting::seconds(30), in DurationSetting::millis(10)..=DurationSetting::hours(1);

        /// Time that a closing connection is still read, so that the last response arrives.
        live linger_timeout: DurationSetting = DurationSetting::seconds(2), in DurationSetting::ZERO..=DurationSetting::seconds(30);

        /// Bytes a second that a client must take of a response on the average, while connections are short; else it is cut.
        /// A slow client is no attack: nothing is asked of it before seven of eight connections are taken.
        live min_rate: Toggle<ByteCount> = Toggle::Given(ByteCount::kib(1)), in ByteCount::bytes(1)..=ByteCount::gib(1);

        /// Time that a client is waited for during a response before min_rate is asked of it.
        /// Time in which the server itself waits, for a disk or for a rate, is not counted.
        live min_rate_after: DurationSetting = DurationSetting::seconds(30), in DurationSetting::millis(10)..=DurationSetting::hours(1);
    }

    /// How the client address of a request is established.
    clients: ClientsGroup = "Proxies and client addresses" {
        /// Proxies whose word is taken for who the client is and how it came: Forwarded or X-Forwarded-For, X-Forwarded-Proto.
        /// Whoever connects from such an address can say whom he likes, clients on the proxy's own machine too.
        live trusted_proxies: ProxyList = ProxyList::none();

        /// The field in which those proxies say who the client is. auto: whichever is there.
        /// With auto a request with both, which lead to different clients, counts as its proxy's: one of them is forged.
        live client_field: ClientField = ClientField::Auto;

        /// Whether connections begin with a header of the PROXY protocol (version 1 or 2), from trusted proxies only.
        /// off: never. on: they may. require: a connection without one is closed, as is one from anybody else.
        restart proxy_protocol: ProxyProtocol = ProxyProtocol::Off;

        /// Bits of an IPv4 address that tell one client from another.
        live client_v4_prefix: Count = Count::of(32), in Count::of(8)..=Count::of(32);

        /// Bits of an IPv6 address that tell one client from another.
        live client_v6_prefix: Count = Count::of(64), in Count::of(16)..=Count::of(128);

        /// Clients that are remembered, beside those that are being served. The least recently seen are forgotten first,
        /// and what they have used up of their rates with them.
        restart clients: Count = Count::of(65_536), in Count::of(16)..=Count::of(16_777_216);

        /// Clients to which no limit of requests, connections or bandwidth applies.
        live unlimited_clients: ProxyList = ProxyList::none();
    }

    /// Limits per client and in total: requests, connections, bandwidth.
    rates: RatesGroup = "Rate limits" {
        /// Requests of one client; what is beyond is answered 429. Health checks are never counted.
        live client_requests: Toggle<RequestRate> = Toggle::Off, in Count::of(1)..=Count::of(1_000_000);

        /// Requests that a client may make at once before the rate holds. auto: as many as the rate names.
        live client_requests_burst: Auto<Count> = Auto::Auto, in Count::of(1)..=Count::of(10_000_000);

        /// Requests of all clients together, those of unlimited_clients aside; what is beyond is answered 429.
        live total_requests: Toggle<RequestRate> = Toggle::Off, in Count::of(1)..=Count::of(100_000_000);

        /// Requests that may be made at once before that rate holds. auto: as many as the rate names.
        live total_requests_burst: Auto<Count> = Auto::Auto, in Count::of(1)..=Count::of(1_000_000_000);

        /// Requests of one client that are under way at once, each until its response has been handed to the kernel.
        /// What is beyond is answered 429.
        live client_requests_at_once: Toggle<Count> = Toggle::Off, in Count::of(1)..=Count::of(10_000_000);

        /// Connections of one client; a further one is answered 429.
        /// Those of trusted proxies, and those over unix sockets, are not counted.
        live client_connections: Toggle<Count> = Toggle::Off, in Count::of(1)..=Count::of(10_000_000);

        /// Bytes a second of one client, over all its connections: files, listings, archives, error pages, with their heads.
        /// A rule may say otherwise for a part of the site, which then has an allowance of its own.
        live rate_client: Toggle<ByteCount> = Toggle::Off, in ByteCount::kib(1)..=ByteCount::tib(1);

        /// Bytes that a client may take at once before that rate holds. auto: those of a tenth of a second.
        /// Of the site's rate alone: a rule with a rate names its own burst.
        live rate_client_burst: Auto<ByteCount> = Auto::Auto, in ByteCount::kib(1)..=ByteCount::tib(1);

        /// Bytes a second of one connection, evenly paced. A rule may say otherwise for a part of the site.
        live rate_connection: Toggle<ByteCount> = Toggle::Off, in ByteCount::kib(1)..=ByteCount::tib(1);

        /// Bytes a second of all clients together, shared equally among those that want more than they get,
        /// however many connections each of them has. Those of unlimited_clients do not count.
        live rate_total: Toggle<ByteCount> = Toggle::Off, in ByteCount::kib(1)..=ByteCount::tib(1);
    }

    /// Bounds on the size of a request.
    requests: RequestsGroup = "Request size" {
        /// Largest head of a request.
        live head_bytes: ByteCount = ByteCount::kib(16), in ByteCount::kib(1)..=ByteCount::kib(256);

        /// Most header fields of a request.
        live head_fields: Count = Count::of(100), in Count::of(8)..=Count::of(1_000);

        /// Largest request body that is read and dropped; after a larger one the connection closes behind the response.
        live body_bytes: ByteCount = ByteCount::kib(64), in ByteCount::bytes(0)..=ByteCount::mib(16);
    }

    /// Open file handles.
    open_files: OpenFilesGroup = "Open files" {
        /// Files of the site that are open at once.
        /// auto: a quarter of what the limit on open files leaves, from 8 to 65536.
        restart handles: Auto<Count> = Auto::Auto, in Count::of(8)..=Count::of(1_000_000);

        /// Time that a request waits for a handle before it is answered 503.
        live handle_wait: DurationSetting = DurationSetting::seconds(1), in DurationSetting::ZERO..=DurationSetting::seconds(60);

        /// Time after which a handle that nobody uses is closed.
        live handle_idle: DurationSetting = DurationSetting::seconds(60), in DurationSetting::seconds(1)..=DurationSetting::hours(1);

        /// Age at which a handle is closed once nobody uses it.
        live handle_max_age: DurationSetting = DurationSetting::minutes(10), in DurationSetting::seconds(1)..=DurationSetting::hours(24);
    }

    /// Caches of file names and contents.
    caches: CachesGroup = "Caches" {
        /// Bytes of files that are kept mapped; those that were used least recently go first.
        /// auto: half of memory, or of what the control group allows. 0 keeps nothing mapped between requests.
        restart cache_bytes: Auto<ByteCount> = Auto::Auto, in ByteCount::bytes(0)..=ByteCount::bytes(1 << 60);

        /// Bytes of small files that are kept on the heap; those that were used least recently go first.
        /// auto: 128MiB, at most a quarter of memory. 0 keeps none; otherwise at least heap_file_bytes.
        restart heap_bytes: Auto<ByteCount> = Auto::Auto, in ByteCount::bytes(0)..=ByteCount::tib(1);

        /// Largest file that is kept on the heap; larger ones are mapped.
        live heap_file_bytes: ByteCount = ByteCount::kib(16), in ByteCount::bytes(0)..=ByteCount::mib(1);

        /// Most names in the name cache, missing ones included. It takes at most 1KiB of memory for each of them: names with
        /// long paths take the place of several.
        restart names: Count = Count::of(65_536), in Count::of(16)..=Count::of(16_777_216);

        /// Time for which a name is trusted before it is looked up again.
        live revalidate_after: DurationSetting = DurationSetting::seconds(1), in DurationSetting::ZERO..=DurationSetting::hours(1);

        /// The same for a name whose changes the kernel tells, where watch is on.
        /// Not for symbolic links, hard links, network and overlay file systems. Never shorter than revalidate_after.
        live revalidate_watched_after: DurationSetting = DurationSetting::seconds(10), in DurationSetting::ZERO..=DurationSetting::hours(1);

        /// Whether the kernel is asked to tell of changes (inotify).
        restart watch: OnOff = OnOff::On;

        /// Most directories that are watched for changes.
        restart watches: Count = Count::of(4_096), in Count::of(1)..=Count::of(524_288);
    }

    /// How files are read and bodies sent.
    sending: SendingGroup = "Reading and sending" {
        /// Threads that open and look up files.
        restart disk_threads: Count = Count::of(16), in Count::of(1)..=Count::of(512);

        /// Threads that read cold pages into memory, for each device.
        restart populate_threads: Count = Count::of(16), in Count::of(1)..=Count::of(512);

        /// Time for which a request waits for the disk, at one go: 503 until its head has left, a cut response after that.
        live disk_timeout: DurationSetting = DurationSetting::seconds(60), in DurationSetting::millis(10)..=DurationSetting::hours(1);

        /// Bytes that one response may send before other connections have their turn.
        live turn_bytes: ByteCount = ByteCount::kib(256), in ByteCount::kib(16)..=ByteCount::mib(16);

        /// Bytes a second that the long responses of one worker send while short ones are about. 0: no limit.
        /// Keeps hot files hot beside bulk reads; without short responses nothing is held back.
        live long_rate: ByteCount = ByteCount::gib(1), in ByteCount::bytes(0)..=ByteCount::tib(1);

        /// Length from which a body leaves by sendfile; below, from its mapping.
        /// What is on its way by sendfile may still change with a file that is overwritten or shortened in place; what
        /// leaves from a mapping is copied. Files that are not mapped always leave by sendfile.
        live sendfile_from: ByteCount = ByteCount::kib(64), in ByteCount::bytes(0)..=ByteCount::gib(1);
    }

    /// Shutdown on a signal.
    stopping: StoppingGroup = "Shutdown" {
        /// Time after a stop signal in which traffic is still served while readiness is denied.
        /// After a successor has taken over: time for which idle connections are kept for a last answer.
        live drain_delay: DurationSetting = DurationSetting::seconds(5), in DurationSetting::ZERO..=DurationSetting::hours(1);

        /// Time for responses under way to finish, after the drain delay; then they are cut, and the exit code is 1.
        live shutdown_timeout: DurationSetting = DurationSetting::seconds(30), in DurationSetting::ZERO..=DurationSetting::hours(24);
    }

    /// State that outlives a process: upgrades and warm-up.
    continuity: ContinuityGroup = "Upgrades and warm-up" {
        /// Unix socket at which a successor asks for the listening sockets.
        /// For processes of the same user. In a directory to which nobody else writes.
        restart upgrade_socket: Toggle<OwnPath> = Toggle::Off;

        /// Unix socket of a running server (its upgrade_socket), whose listening sockets are taken over.
        /// It goes on serving until this one is ready. Without anybody there this one does not start.
        restart upgrade_from: Toggle<OwnPath> = Toggle::Off;

        /// Directory in which a stopping server writes what was hot, and a starting one reads it.
        /// It must exist and be writable at start, and not lie in the root.
        restart state_dir: Toggle<OwnPath> = Toggle::Off;

        /// Most files whose names and windows are written there, and are fetched by one `pagecast warm`.
        restart warm_files: Count = Count::of(10_000), in Count::of(1)..=Count::of(1_000_000);

        /// Time that a starting server takes to read what was hot before it is ready all the same. 0: nothing is read.
        restart warm_timeout: DurationSetting = DurationSetting::seconds(30), in DurationSetting::ZERO..=DurationSetting::hours(1);
    }

    /// Diagnostics log and access log.
    logging: LoggingGroup = "Logging" {
        /// What is logged to standard error. RUST_LOG is not read.
        live log: LogFilter = LogFilter::info();

        /// What a line of it looks like.
        live log_format: LogFormat = LogFormat::Text;

        /// Where a line is written for each request, when its response has ended. SIGUSR1 opens a file anew.
        /// It is appended to, and made where it is not there, in a directory that exists. Not in the root.
        live access_log: LogTarget = LogTarget::Off;

        /// What a line of the access log looks like.
        live access_log_format: AccessLogFormat = AccessLogFormat::Json;

        /// One of so many requests is written, chosen by its id. 1: every one.
        live access_log_sample: Count = Count::of(1), in Count::of(1)..=Count::of(1_000_000);

        /// Requests that take at least so long are written whatever the sample, as are those that fail.
        live access_log_slow: Toggle<DurationSetting> = Toggle::Off, in DurationSetting::ZERO..=DurationSetting::hours(24);

        /// Lines that wait to be written; what is beyond them is dropped and counted.
        restart access_log_queue: Count = Count::of(16_384), in Count::of(256)..=Count::of(1_048_576);

        /// Whether responses tell the id of their request (X-Request-Id).
        /// It is that of a trusted proxy (X-Request-Id, traceparent), else a new one. auto: where an access log is written.
        live request_ids: RequestIds = RequestIds::Auto;
    }
}

impl Config {
    /// Where traffic comes in in cleartext.
    pub fn cleartext_addresses(&self) -> &[Address] {
        self.listening.listen.given().map_or(&[], ListenList::as_slice)
    }

    /// Where it comes in encrypted.
    pub fn tls_addresses(&self) -> &[Address] {
        self.tls.tls_listen.given().map_or(&[], ListenList::as_slice)
    }

    /// Who may read across origins where no rule says otherwise.
    pub fn site_cors(&self) -> Option<Arc<CorsPolicy>> {
        let list = self.security.cors_origins.given()?;
        Some(Arc::new(CorsPolicy::new(list.origins().clone(), self.security.cors_max_age.get())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_read_back_within_its_own_bounds() {
        for knob in SETTINGS {
            let mut config = Config::default();
            let default = knob.default();
            assert_eq!(knob.read(&mut config, RawValue::Text(&default)), Ok(()), "{}", knob.key);
            assert_eq!(config, Config::default(), "{}", knob.key);
        }
    }

    #[test]
    fn every_knob_is_explained_and_has_one_key() {
        for (position, knob) in SETTINGS.iter().enumerate() {
            assert!(knob.doc().next().is_some(), "{}", knob.key);
            assert!(SETTINGS.iter().skip(position + 1).all(|other| other.key != knob.key), "{}", knob.key);
        }
    }

    #[test]
    fn the_three_names_follow_from_the_key() {
        let knob = Setting::by_key("head_timeout").expect("it is in the table");
        assert_eq!(knob.variable(), "PAGECAST_HEAD_TIMEOUT");
        assert_eq!(knob.flag(), "head-timeout");
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
            let knob = Setting::by_key(key).expect(key);
            let got = knob.read(&mut Config::default(), RawValue::Text(text));
            assert_eq!(got, expected.map_err(str::to_owned), "{key}={text}");
        }
    }
}
