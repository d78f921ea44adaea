//! Fuzzes the first bytes of a connection on which a PROXY header may come, with the checks of the property tests.

#![no_main]

#[allow(dead_code, reason = "each target runs one of the checks")]
#[path = "../../tests/properties/proxies.rs"]
mod proxies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| proxies::proxy_header(data));
