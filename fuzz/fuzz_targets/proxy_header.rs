//! Fuzzes the PROXY protocol header with the checks of the property tests.

#![no_main]

#[allow(dead_code, reason = "each target runs one of the checks")]
#[path = "../../tests/properties/proxies.rs"]
mod proxies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| proxies::proxy_header(data));
