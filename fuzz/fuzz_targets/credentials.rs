//! Fuzzes credentials and signed URLs with the checks of the property tests.

#![no_main]

#[allow(dead_code, reason = "each target runs one of the checks")]
#[path = "../../tests/properties/access.rs"]
mod access;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    access::credentials(data);
    access::mutated(&access::signed_url(b"a/b.txt", None, None), data);
});
