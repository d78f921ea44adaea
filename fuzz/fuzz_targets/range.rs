//! Fuzzes the Range header with the checks of the property tests.

#![no_main]

#[allow(dead_code, reason = "each target runs one of the checks")]
#[path = "../../tests/properties/checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::range_from_bytes(data));
