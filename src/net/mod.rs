//! The socket: HTTP/1.1 (RFC 9112) and HTTP/2 (RFC 9113) between the kernel and the App.
//!
//! | room         | what it knows                                                       |
//! |--------------|---------------------------------------------------------------------|
//! | [`opening`]  | a connection up to its first request: who it is for, and its handshake |
//! | [`http1`]    | one connection, from its first request to its close                 |
//! | `http2`      | the same where a client begins with HTTP/2, or chooses it           |
//! | `answer`     | what the App makes of a request                                     |
//! | `head`       | where a request head ends, and what it says; what is refused        |
//! | `body`       | how a request body that nobody wants is read past                   |
//! | [`ready`]    | responses rendered beforehand, as they travel through the App       |
//! | [`segments`] | a response body as windows of files and literal bytes               |
//! | `render`     | a response becomes bytes and segments                               |
//! | `prefix`     | status lines and `Date`, rendered once a second                     |
//! | `send`       | segments to the socket by `writev` and `sendfile`                   |
//! | `pace`       | how much of a response may be sent now, and when the next of it     |
//! | `noting`     | what is noted of a request for the log, and its id                  |
//! | `turn`       | long responses one after the other, between short ones              |
//! | `cuts`       | responses that could not be finished: who is told what              |
//! | `stall`      | clients that take nothing                                           |
//! | `turn_away`  | an answer for those for whom there is no room                       |
//! | [`proxy_protocol`] | for whom a proxy speaks, as it says before the first request  |
//! | `proxied`    | waits for that                                                      |
//! | `deadline`   | a moment in every state of a connection                             |
//! | `socket`     | TCP or unix, registered with the event loop only when it must wait  |
//! | `tls`        | what encrypts it                                                    |
//! | [`worker`]   | what the connections of one worker share                            |

mod abort;
mod app_response;
mod body_discarder;
mod bulk_scheduler;
mod deadline;
mod exchanges;
pub mod head;
pub mod http1;
mod http2;
pub mod listener;
pub mod opening;
pub(crate) mod pacing;
pub mod prerendered;
mod proxied;
pub mod proxy_protocol;
pub(crate) mod reject;
mod render;
pub(crate) mod request_log;
mod residency_cursor;
pub mod segments;
mod send;
pub mod socket;
mod stall;
mod status_line;
pub mod tls;
pub mod worker;
