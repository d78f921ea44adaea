//! Has the linker compress the line tables: half of the binary otherwise. Backtraces read them compressed.
//!
//! Decision: docs/decisions/051-release-build.md.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-bins=-Wl,--compress-debug-sections=zlib");
}
