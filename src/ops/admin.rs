//! The admin listener: a thread of its own, so that it answers when every traffic worker is at its limit.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpResponse, HttpServer, web};

use super::health::Health;
use super::status::Gauges;
use super::warm;
use crate::listen::Listener;
use crate::warmth::Warmth;

/// Connections that the admin listener serves at once.
const CONNECTIONS: usize = 64;

/// What the admin listener answers with.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) health: Health,
    pub(crate) gauges: Gauges,
    pub(crate) warmth: Warmth,
}

/// The running admin server.
pub(crate) struct Admin {
    handle: ServerHandle,
    thread: std::thread::JoinHandle<()>,
}

impl Admin {
    /// Starts serving what is on the `desk` at `listener`.
    ///
    /// # Errors
    /// Where the thread or its event loop can't be started.
    pub(crate) fn start(listener: Listener, desk: Desk) -> io::Result<Self> {
        let (told, hear) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name("pagecast-admin".to_owned()).spawn(move || {
            actix_rt::System::new().block_on(async move {
                match server(listener, desk) {
                    Ok(server) => {
                        let _ = told.send(Ok(server.handle()));
                        if let Err(error) = server.await {
                            log::error!("the admin listener ended: {error}");
                        }
                    }
                    Err(error) => {
                        let _ = told.send(Err(error));
                    }
                }
            });
        })?;
        let handle = hear.recv().map_err(io::Error::other)??;
        Ok(Self { handle, thread })
    }

    /// Closes the listener and ends the thread.
    pub(crate) async fn stop(self) {
        self.handle.stop(false).await;
        if self.thread.join().is_err() {
            log::error!("the admin thread panicked");
        }
    }
}

fn server(listener: Listener, desk: Desk) -> io::Result<actix_web::dev::Server> {
    let server = HttpServer::new(move || {
        App::new()
            .configure(|app| desk.health.configure(app))
            .configure(|app| desk.gauges.configure(app))
            .configure(|app| warm::configure(&desk.warmth, app))
            .default_service(web::to(HttpResponse::NotFound))
    })
    .workers(1)
    .max_connections(CONNECTIONS)
    .disable_signals()
    .shutdown_timeout(1);
    let bound = match listener {
        Listener::Tcp(listener) => server.listen(TcpListener::from(listener))?,
        Listener::Unix { socket, .. } => server.listen_uds(UnixListener::from(socket))?,
    };
    Ok(bound.run())
}
