//! Values of settings that are valid by themselves, but not together.

use std::fmt;

use super::{Auto, Config, ConfigError, PathList, ProxyProtocol, Toggle};

/// Keys of the settings that a check reads, and the check, which adds a sentence for each conflict.
pub(super) type ConflictCheck = (&'static [&'static str], fn(&Config, &mut Vec<String>));

/// For every command.
pub(super) const CHECKS: &[ConflictCheck] = &[
    (&["admin_listen", "admin_token"], admin_token),
    (&["listen", "admin_listen"], admin_address),
    (&["tls_listen", "tls_cert", "tls_key", "listen", "admin_listen"], tls_addresses),
    (&["tls_listen", "tls_cert", "tls_key", "listen", "admin_listen"], certificates),
];

/// For commands that serve.
pub(super) const SERVING_CHECKS: &[ConflictCheck] = &[
    (&["compress", "compress_from", "compress_to"], compressed_sizes),
    (&["heap_bytes", "heap_file_bytes"], heap),
    (&["proxy_protocol", "trusted_proxies"], proxy_protocol),
];

/// What those of the checks find whose keys are all sound.
pub(super) fn conflicts(
    config: &Config,
    checks: &[ConflictCheck],
    is_sound: impl Fn(&[&str]) -> bool,
) -> Vec<ConfigError> {
    let mut conflicts = Vec::new();
    for (_, check) in checks.iter().filter(|(keys, _)| is_sound(keys)) {
        check(config, &mut conflicts);
    }
    conflicts.into_iter().map(ConfigError::Conflict).collect()
}

/// The conflicts of a configuration that is served.
pub(crate) fn serving_conflicts(config: &Config) -> Vec<ConfigError> {
    conflicts(config, SERVING_CHECKS, |_| true)
}

fn admin_token(config: &Config, conflicts: &mut Vec<String>) {
    let has_token = config.listening.admin_token.given().is_some();
    let exposed = config.listening.admin_listen.given().filter(|admin| !admin.is_local() && !has_token);
    conflicts.extend(exposed.map(admin_without_token));
}

/// Error for an admin listener that other machines can reach without a token.
pub(crate) fn admin_without_token(admin: &impl fmt::Display) -> String {
    format!(
        "the admin listener at {admin} can be reached from other machines and requires no token: give it \
         PAGECAST_ADMIN_TOKEN, or an address of this machine alone (127.0.0.1, [::1], unix:/path)"
    )
}

fn admin_address(config: &Config, conflicts: &mut Vec<String>) {
    let (listen, admin) = (&config.listening.listen, &config.listening.admin_listen);
    let plain = config.plain_http_addresses();
    if admin.given().is_some_and(|admin| plain.contains(admin) && !admin.is_chosen_by_the_system()) {
        conflicts.push(format!(
            "PAGECAST_LISTEN={listen} and PAGECAST_ADMIN_LISTEN={admin} both want {admin}: give them different \
             addresses, or turn the admin listener off"
        ));
    }
}

fn tls_addresses(config: &Config, conflicts: &mut Vec<String>) {
    let (listen, admin) = (&config.listening.listen, &config.listening.admin_listen);
    for address in config.tls_addresses().iter().filter(|address| !address.is_chosen_by_the_system()) {
        let other = if config.plain_http_addresses().contains(address) {
            format!("PAGECAST_LISTEN={listen}")
        } else if admin.given() == Some(address) {
            format!("PAGECAST_ADMIN_LISTEN={admin}")
        } else {
            continue;
        };
        let tls = &config.tls.tls_listen;
        conflicts.push(format!(
            "PAGECAST_TLS_LISTEN={tls} and {other} both want {address}: give them different addresses"
        ));
    }
}

fn certificates(config: &Config, conflicts: &mut Vec<String>) {
    let count = |paths: &Toggle<PathList>| paths.given().map_or(0, |paths| paths.as_slice().len());
    let (listen, chains, keys) = (&config.tls.tls_listen, &config.tls.tls_cert, &config.tls.tls_key);
    match (count(chains), count(keys)) {
        (0, 0) if !config.tls_addresses().is_empty() => conflicts.push(format!(
            "PAGECAST_TLS_LISTEN={listen} needs a certificate: set PAGECAST_TLS_CERT and PAGECAST_TLS_KEY, or turn it off"
        )),
        (1.., 0) => conflicts
            .push(format!("PAGECAST_TLS_CERT={chains} requires its private key: set PAGECAST_TLS_KEY")),
        (0, 1..) => conflicts.push(format!(
            "PAGECAST_TLS_KEY={keys} requires its certificate: set PAGECAST_TLS_CERT"
        )),
        (certificates, others) if certificates != others => conflicts.push(format!(
            "PAGECAST_TLS_CERT={chains} and PAGECAST_TLS_KEY={keys} must list the same number of files, a key for each certificate: \
             there are {certificates} and {others}"
        )),
        _ => {}
    }
}

fn compressed_sizes(config: &Config, conflicts: &mut Vec<String>) {
    let (from, to) = (config.compression.compress_from, config.compression.compress_to);
    if config.compression.compress.is_on() && to < from {
        conflicts.push(format!(
            "PAGECAST_COMPRESS_FROM={from} is more than PAGECAST_COMPRESS_TO={to}, so that nothing would be compressed: \
             lower the first or raise the second (or PAGECAST_COMPRESS=off)"
        ));
    }
}

fn heap(config: &Config, conflicts: &mut Vec<String>) {
    let Auto::Given(all) = config.caches.heap_bytes else { return };
    let one = config.caches.heap_file_bytes;
    if all.get() != 0 && all < one {
        conflicts.push(format!(
            "PAGECAST_HEAP_BYTES={all} has no room for a file of PAGECAST_HEAP_FILE_BYTES={one}: raise the first to \
             at least {one} or lower the second to at most {all} (or PAGECAST_HEAP_BYTES=0 for no file on the heap)"
        ));
    }
}

fn proxy_protocol(config: &Config, conflicts: &mut Vec<String>) {
    let protocol = config.clients.proxy_protocol;
    if protocol != ProxyProtocol::Off && config.clients.trusted_proxies.is_empty() {
        conflicts.push(format!(
            "PAGECAST_PROXY_PROTOCOL={protocol} requires PAGECAST_TRUSTED_PROXIES: only listed proxies may send the \
             client's address (or PAGECAST_PROXY_PROTOCOL=off)"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ByteCount, CachesGroup, ClientsGroup, CompressionGroup, OnOff};

    fn conflicts(config: &Config) -> String {
        let mut conflicts = Vec::new();
        for (_, check) in CHECKS.iter().chain(SERVING_CHECKS) {
            check(config, &mut conflicts);
        }
        conflicts.join("\n")
    }

    #[test]
    fn a_heap_that_cannot_hold_one_file_is_refused_unless_it_is_off() {
        let conflicts = |bytes| {
            let heap_bytes = Auto::Given(ByteCount::bytes(bytes));
            let caches = CachesGroup { heap_bytes, ..CachesGroup::default() }.into();
            conflicts(&Config { caches, ..Config::default() })
        };
        assert_eq!(conflicts(0), "");
        assert_eq!(conflicts(16 << 10), "");
        let text = conflicts(1_024);
        assert!(text.contains("PAGECAST_HEAP_BYTES=1KiB") && text.contains("PAGECAST_HEAP_FILE_BYTES=16KiB"));
    }

    #[test]
    fn a_proxy_protocol_that_nobody_is_trusted_to_speak_is_refused() {
        for proxy_protocol in [ProxyProtocol::On, ProxyProtocol::Require] {
            let conflicts = |trusted_proxies: &str| {
                let trusted_proxies = trusted_proxies.parse().expect("a list");
                let clients =
                    ClientsGroup { proxy_protocol, trusted_proxies, ..ClientsGroup::default() }.into();
                conflicts(&Config { clients, ..Config::default() })
            };
            let text = conflicts("none");
            assert!(text.contains("requires PAGECAST_TRUSTED_PROXIES"), "{text}");
            assert_eq!(conflicts("unix"), "");
        }
    }

    #[test]
    fn bounds_of_compressing_that_leave_nothing_between_them_are_refused_unless_it_is_off() {
        let conflicts = |compress, to| {
            let compress_to = ByteCount::bytes(to);
            let compression =
                CompressionGroup { compress, compress_to, ..CompressionGroup::default() }.into();
            conflicts(&Config { compression, ..Config::default() })
        };
        assert_eq!(conflicts(OnOff::On, 1_024), "");
        assert_eq!(conflicts(OnOff::Off, 1_023), "");
        let text = conflicts(OnOff::On, 1_023);
        assert!(
            text.contains("PAGECAST_COMPRESS_FROM=1KiB") && text.contains("PAGECAST_COMPRESS_TO=1023"),
            "{text}"
        );
    }
}
