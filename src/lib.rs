//! pagecast casts files from the kernel's page cache to sockets: one binary that serves one directory.
//!
//! | room          | what happens there                                                        |
//! |---------------|---------------------------------------------------------------------------|
//! | [`config`]    | every knob: its names, unit, default, bounds; what the system allows      |
//! | [`server`]    | listeners, workers, the App; from start to stop                           |
//! | [`listen`]    | addresses become listening sockets                                        |
//! | `handover`    | sockets from a service manager, from a predecessor, to a successor        |
//! | [`reload`]    | settings that change while the server runs                                |
//! | [`lifecycle`] | starting, ready, draining or retiring, closing, and who is told           |
//! | [`serve`]     | one request, step by step                                                 |
//! | [`rules`]     | what the site says of each path                                           |
//! | [`mod@error`] | what went wrong, and who is told                                          |
//! | [`http`]      | pure decisions: text and numbers in, a value out                          |
//! | [`files`]     | the disk: names, versions, mappings, handles, residency                   |
//! | [`directories`] | listings and archives: what may be under way at once, off the workers    |
//! | [`listing`]   | directories as pages and as JSON                                          |
//! | [`archive`]   | directories as downloads                                                  |
//! | [`wire`]      | the socket: requests in, heads and file windows out                       |
//! | `encode`, `decode` | content codings at their best, and undone                             |
//! | [`tree`]      | looking after a tree before it is served: compress, verify                |
//! | `tls`         | certificates by name, and what every TLS handshake has in common          |
//! | [`guard`]     | who may have how much                                                     |
//! | `fair`        | queues in which every client has its turn                                 |
//! | [`ledger`]    | what becomes of each request                                              |
//! | [`ops`]       | health, gauges, the admin listener, the service manager                    |
//! | [`warmth`]    | what was hot, read again after a restart or on demand                     |
//! | `unguessable` | numbers that nobody could have known                                    |
//! | `temporary`   | a file that is there whole or not at all                                  |
//! | `accept`, `reply`, `produced`, `event_loop` | new connections; from an answer to a response; bodies made piece by piece; epoll |
//! | `client_places` | a client's share of places for listings and archives                        |
//! | `access_log` | a line for each request, written away from the threads that serve        |
//! | `kernel`      | what no library offers safely: the only `unsafe`                          |
//!
//! Arrows run one way: `server` → `serve` → `reply` → `wire` → `files` → `rules` → `http`, `kernel`; and `tree` → `files`.

mod accept;
pub(crate) mod access_log;
pub mod archive;
mod client_places;
pub mod config;
pub(crate) mod decode;
pub mod directories;
pub(crate) mod encode;
pub mod error;
mod event_loop;
pub(crate) mod fair;
pub mod files;
pub mod guard;
mod handover;
pub mod http;
pub(crate) mod kernel;
pub mod ledger;
pub mod lifecycle;
pub mod listen;
pub mod listing;
pub mod ops;
mod produced;
pub mod reload;
mod reply;
pub mod rules;
pub mod serve;
pub mod server;
mod temporary;
pub mod tls;
pub mod tree;
mod unguessable;
pub mod warmth;
pub mod wire;
