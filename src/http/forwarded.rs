#![allow(missing_docs)]
use super::host_pattern::HostPattern;
pub fn is_https(_: Option<&[u8]>) -> Option<bool> {
    None
}
pub fn https_location(_: &[u8], _: &[u8], _: &[HostPattern]) -> Option<String> {
    None
}
