//! The decisions of HTTP: text and numbers in, a value out.
//!
//! Nothing in this room touches a disk, a clock or a socket, and nothing knows actix. So every rule can be
//! tested in microseconds, fuzzed for free and read beside its RFC. All of it works on bytes, because that is
//! what a socket gives and what a file name is, and none of it panics, whatever the bytes are.
//!
//! A request meets the modules in this order:
//!
//! 1. [`method`] says whether the method is one that is served, one that is known, or neither.
//! 2. [`authority`] checks the Host field; [`target`] splits the request target and turns its path into a
//!    [`SitePath`](target::SitePath), the only kind of path that may reach the file system.
//! 3. [`query`] reads what is asked besides: a download, a digest, an archive, the form of a listing. Before
//!    that, [`query_filter`] may find it suspicious.
//! 4. [`accept`] chooses between HTML and JSON where both are to be had, and [`encoding`] the coding in which
//!    the file is sent.
//! 5. [`decide`] answers how much of the file is sent. It asks [`precondition`] first, which compares with the
//!    help of [`entity_tag`] and [`date`], and then [`range`].
//! 6. [`multipart`] frames several ranges as one body, [`media_type`] names what the bytes are,
//!    [`cache_control`] says by the file's name how long they may be kept, [`disposition`] under which name a
//!    client saves them, and [`digest`] and [`checksum_file`]
//!    what they hash to.
//!
//! Beside them, [`redirects`] reads the file `_redirects` and finds where a path leads, [`cors`] says what pages of other
//! origins are told, [`forwarded`] with [`host_pattern`] leads from cleartext to https, and
//! [`forwarded_for`] with [`client`] tells one client from another. [`request_id`] finds the id by which a request is known.
//! Who may read what is not for all shows it by [`credentials`], which a [`challenge`] asks for, or has a [`link`].

pub mod accept;
pub mod authority;
pub mod baseline_headers;
pub mod cache_control;
pub mod canned_response;
pub mod challenge;
pub mod checksum_file;
pub mod client_key;
pub mod cors;
pub mod credentials;
pub mod date;
pub mod decide;
pub(crate) mod decimal;
pub mod digest;
pub mod disposition;
pub mod encoding;
pub mod entity_tag;
pub(crate) mod form_encoding;
pub mod forwarded;
pub mod forwarded_for;
pub(crate) mod header_grammar;
pub mod host_pattern;
pub mod media_type;
pub mod method;
pub mod multipart;
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
