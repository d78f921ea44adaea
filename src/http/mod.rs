//! The decisions of HTTP: text and numbers in, a value out.
//!
//! Nothing here uses a disk, a clock, a socket or actix, and no code panics on any input, so every rule can be unit-tested,
//! fuzzed and compared with its RFC. All parsers work on bytes, since sockets deliver bytes and file names are bytes.
//!
//! In the order of a request:
//!
//! 1. [`method`] classifies the method, [`authority`] checks `Host`, and [`target`] makes a
//!    [`SitePath`](target::SitePath) of the path, the only kind of path that reaches the file system.
//! 2. [`query_filter`] looks for injections in the query, and [`query`] parses its options: a download, a digest, an archive,
//!    the format of a listing.
//! 3. [`accept`] chooses between HTML and JSON, [`encoding`] the content encoding.
//! 4. [`decide`] chooses between the whole, ranges and a status: first by [`precondition`] (with [`entity_tag`] and [`date`]),
//!    then by [`range`].
//! 5. [`multipart`] frames several ranges. [`media_type`], [`cache_control`], [`disposition`], [`digest`] and
//!    [`checksum_file`] give the remaining headers, [`baseline_headers`] those of every response.
//!    [`canned_response`] has the responses with a fixed sentence.
//!
//! [`redirects`] applies a `_redirects` file and [`cors`] answers cross-origin requests. [`forwarded`], [`forwarded_for`] and
//! [`client_key`] find the client behind proxies, [`host_pattern`] matches host names, [`path_glob`] paths, and [`request_id`] finds the id of a
//! request. [`credentials`], [`credential_files`], [`challenge`] and [`signed_url`] serve authentication.

pub mod accept;
pub mod authority;
pub mod baseline_headers;
pub mod cache_control;
pub mod canned_response;
pub mod challenge;
pub mod checksum_file;
pub mod client_key;
pub mod cors;
pub mod credential_files;
pub mod credentials;
pub mod date;
pub mod decide;
pub mod digest;
pub(crate) mod digits;
pub mod disposition;
pub mod encoding;
pub mod entity_tag;
pub mod error;
pub(crate) mod form_encoding;
pub mod forwarded;
pub mod forwarded_for;
pub(crate) mod header_grammar;
pub mod host_pattern;
pub mod media_type;
pub mod method;
pub mod multipart;
pub(crate) mod named_enum;
pub mod path_glob;
pub(crate) mod percent;
pub mod precondition;
mod quality;
pub mod query;
pub mod query_filter;
pub mod range;
mod redirect_line;
pub mod redirects;
pub mod request_id;
pub mod signed_url;
pub mod target;
pub mod transport_info;
