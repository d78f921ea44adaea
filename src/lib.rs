//! pagecast serves one directory over HTTP, from the kernel's page cache to the socket.
//!
//! A room (a top-level module) imports only rooms to its right; `tests/architecture` holds this:
//!
//! `server` → `cli`, `admin` → `lifecycle` → `site` → `net` → `auth` → `limits` → `files` → `telemetry` → `config` → `sys` → `http`
//!
//! | room          | contents                                                                       |
//! |---------------|--------------------------------------------------------------------------------|
//! | [`server`]    | start, workers, accept loops, the App with its middleware, run, stop            |
//! | [`cli`]       | the command line; the commands: compress, verify, sign, warm                   |
//! | [`admin`]     | admin listener: dashboard, metrics page, status, operators' actions, health    |
//! | [`lifecycle`] | phases, reload, handover to a successor, cache warm-up                         |
//! | [`site`]      | one request: handler, resolver, reply, errors, https policy, listings, archives |
//! | [`net`]       | sockets: listeners, HTTP/1.1, HTTP/2, TLS, sending                             |
//! | [`auth`]      | signed URLs, tokens, passwords                                                 |
//! | [`limits`]    | connections, request rates, bandwidth, wrong attempts, client addresses        |
//! | [`files`]     | the disk: root, versions, caches, handles, mappings, residency                 |
//! | [`telemetry`] | metrics, access log, diagnostics log, log throttle                             |
//! | [`config`]    | every setting, the rules of paths, derived limits, how values are found         |
//! | `sys`         | what the system or a library offers, wrapped once; the only `unsafe`           |
//! | [`http`]      | pure decisions of HTTP; imports no other room                                  |

pub mod admin;
pub mod auth;
pub mod cli;
pub mod config;
pub mod files;
pub mod http;
pub mod lifecycle;
pub mod limits;
pub mod net;
pub mod server;
pub mod site;
pub mod sys;
pub mod telemetry;
