//! How the page looks, and what else it may load: nothing but the site's own icon.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// The value of `Content-Security-Policy` for an HTML listing: no script at all, and no style but the page's own, which is
/// allowed by its hash.
pub(crate) fn content_security_policy() -> &'static str {
    static POLICY: LazyLock<String> = LazyLock::new(|| {
        let hash = STANDARD.encode(Sha256::digest(STYLE));
        format!(
            "default-src 'none'; style-src 'sha256-{hash}'; img-src 'self'; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'self'"
        )
    });
    &POLICY
}

/// The one style sheet of the page. Icons are drawn with borders and gradients, so that no image is loaded.
pub(super) const STYLE: &str = "
:root {
  color-scheme: light dark;
  --ground: #fbfaf8; --sheet: #ffffff; --ink: #1d2126; --faint: #5c6570; --line: #e3e1dc; --hover: #f3f1ec;
  --link: #0b57b0; --folder: #d89614; --paper: #98a2ae; --notice: #fff3d6;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #14171b; --sheet: #1b1f24; --ink: #e6e8eb; --faint: #9aa4b0; --line: #2d333b; --hover: #242a31;
    --link: #7db7ff; --folder: #e5b04a; --paper: #738091; --notice: #3a2f14;
  }
}
* { box-sizing: border-box; }
body {
  max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif;
}
a { color: var(--link); text-decoration: none; border-radius: 3px; }
a:hover { text-decoration: underline; text-underline-offset: .2em; }
a:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
bdi { overflow-wrap: anywhere; white-space: pre-wrap; }
nav ol { display: flex; flex-wrap: wrap; margin: 0; padding: 0; list-style: none; color: var(--faint); }
nav li + li::before { content: '/'; padding: 0 .5em; color: var(--faint); }
h1 { margin: .25rem 0 0; font-size: 1.6rem; line-height: 1.25; }
.summary { margin: .25rem 0 1.25rem; color: var(--faint); }
.notice { padding: .6rem .9rem; border-radius: 8px; background: var(--notice); }
table {
  width: 100%; border: 1px solid var(--line); border-radius: 10px; border-collapse: separate; border-spacing: 0;
  background: var(--sheet);
}
caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
th, td { padding: .5rem .9rem; text-align: start; vertical-align: top; font-weight: 400; }
tbody tr > * { border-top: 1px solid var(--line); }
tbody tr:last-child > :first-child { border-end-start-radius: 9px; }
tbody tr:last-child > :last-child { border-end-end-radius: 9px; }
tbody tr:hover > *, tbody tr:focus-within > * { background: var(--hover); }
thead a { display: inline-flex; align-items: baseline; color: var(--faint); font-size: .875rem; font-weight: 600; white-space: nowrap; }
thead [aria-sort] a { color: var(--ink); }
thead small { margin-inline-start: .35em; }
thead span { display: inline-block; width: 1.4em; padding-inline-start: .4em; font-size: .7em; }
.size, .date { width: 1%; white-space: nowrap; font-variant-numeric: tabular-nums; }
.size { text-align: end; }
thead .size a { flex-direction: row-reverse; }
td.size, td.date, .empty { color: var(--faint); }
tbody th a, .up { display: inline-block; position: relative; padding-inline-start: 1.75rem; }
tbody a::before { content: ''; position: absolute; inset-inline-start: 0; top: .3em; }
.dir { font-weight: 600; }
.dir::before {
  width: 1.15em; height: .95em; border-radius: 2px; background: var(--folder);
  clip-path: polygon(0 0, 40% 0, 52% 16%, 100% 16%, 100% 100%, 0 100%);
}
.file::before {
  width: .8em; height: 1em; margin-inline-start: .15em; border: 1.5px solid var(--paper); border-radius: 2px;
  background: linear-gradient(var(--paper), var(--paper)) 50% 55% / 55% 1.5px no-repeat;
}
.up::before {
  width: .6em; height: .6em; margin: .25em .3em; border: solid var(--paper); border-width: 2px 0 0 2px;
  transform: rotate(45deg);
}
footer { display: flex; flex-wrap: wrap; gap: 0 2rem; margin-top: 1rem; color: var(--faint); font-size: .9rem; }
footer p { margin: .25rem 0; }
footer p a { margin-inline-start: .5em; }
@media (max-width: 36rem) {
  body { padding: 1rem .6rem 2rem; }
  th, td { padding: .5rem .35rem; }
  tbody th a, .up { padding-inline-start: 1.5rem; }
  td.size, td.date { font-size: .8125rem; line-height: 1.85; }
  .date span, thead small { display: none; }
  thead span, thead .date span { display: inline-block; width: auto; padding-inline-start: .2em; }
}
@media print {
  footer, nav { display: none; }
  table { border: 0; }
}
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_allows_no_script_and_no_other_style() {
        let policy = content_security_policy();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        assert!(!policy.contains("unsafe") && !policy.contains("script-src"), "{policy}");
    }
}
