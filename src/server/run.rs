//! Runs the server: start, warmup, serving, stop.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use actix_rt::System;

use crate::admin::context::AdminContext;
use crate::admin::listener::Admin;
use crate::config::{LoadedConfig, ProcessInputs};
use crate::files::storage::{Storage, SystemStorage};
use crate::lifecycle::{
    ActivatedSockets, Lifecycle, Listeners, Phase, Predecessor, ReloadRequests, Reloader, SocketOffer,
    Successor, UpgradePath, UpgradeSocket, WarmupState, log_failed_handover,
};
use crate::net::listener::BoundAddress;
use crate::server::components::Components;
use crate::server::housekeeping::Tasks;
use crate::server::signals::{Signals, unless_stopped};
use crate::server::workers::{Stops, Workers, origin_prefix};
use crate::sys::service_manager::{self, Watchdog};
use crate::telemetry::access_log::log::AccessLog;
use crate::telemetry::logger;

/// Serves until a signal stops the server. A reload loads the configuration again from `given`.
///
/// Returns exit code 0 if every response was finished, 1 if some were cut or the server could not start.
pub fn run(loaded: &LoadedConfig, given: ProcessInputs) -> ExitCode {
    let LoadedConfig { config, limits, .. } = loaded;
    logger::start(config);
    // Before there are threads: it changes the environment.
    let exit = ActivatedSockets::take(config).and_then(|activated| {
        System::new().block_on(async {
            let signals = Signals::of_the_process()?;
            let listeners = Listeners::gather(loaded, activated).await?;
            let limits = limits.with_sockets(listeners.sockets(), config).map_err(io::Error::other)?;
            let loaded = LoadedConfig { limits, ..loaded.clone() };
            serve(&loaded, given, listeners, signals, Arc::new(SystemStorage)).await
        })
    });
    match exit {
        Ok(ServerExit { cut: 0 }) => return ExitCode::SUCCESS,
        Ok(ServerExit { cut }) => log::error!("stopped with {} cut", counted(cut, "response")),
        Err(error) => log::error!("{error}"),
    }
    ExitCode::FAILURE
}

/// How a server ended.
#[derive(Debug, PartialEq, Eq)]
pub struct ServerExit {
    /// Number of responses that were under way and did not finish.
    pub cut: usize,
}

/// Serves on `listeners` until a request to stop, or until a successor has taken over. Files come from `storage`; a reload loads
/// the configuration again from `given`. Runs on an actix `System`.
///
/// # Errors
/// If the document root can't be opened, or a thread or socket is not available.
pub async fn serve(
    loaded: &LoadedConfig,
    given: ProcessInputs,
    listeners: Listeners,
    signals: Signals,
    storage: Arc<dyn Storage>,
) -> io::Result<ServerExit> {
    let Signals { mut stops, reloads } = signals;
    let mut server = Server::start(loaded, given, listeners, reloads, storage).await?;
    if !server.warm_up(&mut stops).await {
        return Ok(server.stop_before_ready(stops).await);
    }
    match server.serve_until_the_end(loaded, &mut stops).await? {
        None => Ok(server.stop(stops).await),
        Some(successor) => Ok(server.retire(successor, stops).await),
    }
}

/// A server whose workers have started.
struct Server {
    lifecycle: Lifecycle,
    reloads: ReloadRequests,
    reloader: Reloader,
    warmup_state: WarmupState,
    workers: Workers,
    admin: AdminServer,
    /// The sockets for a successor. They stay open as long as they are offered.
    offer: SocketOffer,
    predecessor: Option<Predecessor>,
    is_successor: bool,
    upgrade_path: Option<UpgradePath>,
    /// Kept to the end: the path may be removed only once a successor has put its own socket there.
    upgrade_socket: Option<UpgradeSocket>,
    watchdog: Option<Watchdog>,
    tasks: Tasks,
    // The last field, dropped when everything that logs requests has ended.
    _access_log: FlushLogOnDrop,
}

impl Server {
    /// Builds all components and starts the workers. Traffic is accepted at once, but for a successor: its predecessor serves
    /// until it is ready, and answers health checks.
    async fn start(
        loaded: &LoadedConfig,
        given: ProcessInputs,
        listeners: Listeners,
        reloads: ReloadRequests,
        storage: Arc<dyn Storage>,
    ) -> io::Result<Self> {
        let has_tls = listeners.has_tls();
        let Listeners { traffic, admin, predecessor, upgrade } = listeners;
        let is_successor = predecessor.is_some();
        let watchdog = Watchdog::find(predecessor.as_ref().and_then(|predecessor| predecessor.watchdog));
        let offer = SocketOffer::of(&traffic, admin.as_ref(), watchdog.as_ref().map(Watchdog::timeout));
        let components = Components::build(loaded, given, storage, watchdog.as_ref(), is_successor).await?;
        let Components { plan, warmup_state, reloader, updates, admin_context, access_log } = components;
        let access_log = FlushLogOnDrop(access_log);
        if has_tls && plan.tls.is_none() {
            return Err(io::Error::other(NO_CERTIFICATE));
        }
        let mut admin = AdminServer { address: admin, context: admin_context, running: None };
        if !is_successor {
            admin.start()?;
        }
        let (files, lifecycle) = (plan.view.files.clone(), plan.lifecycle.clone());
        let tasks = Tasks::start(files, access_log.0.clone(), plan.limits.clone(), &reloads);
        Ok(Self {
            lifecycle,
            reloads,
            reloader,
            warmup_state,
            workers: Workers::start(&plan, updates, &traffic).await?,
            admin,
            offer,
            predecessor,
            is_successor,
            upgrade_path: upgrade,
            upgrade_socket: None,
            watchdog,
            tasks,
            _access_log: access_log,
        })
    }

    /// Reads recently used files into the caches; with a predecessor only until that exits, since no process serves then. Returns
    /// false if the server was stopped meanwhile.
    async fn warm_up(&mut self, stops: &mut Stops) -> bool {
        let restoring = self.warmup_state.restore(&self.lifecycle);
        let Some(predecessor) = &mut self.predecessor else {
            return unless_stopped(restoring, stops).await.is_some();
        };
        tokio::select! {
            () = restoring => true,
            () = predecessor.gone() => {
                let peer = predecessor.peer();
                log::warn!("{peer} exited before the warmup was complete: serving all the same");
                true
            }
            Some(()) = stops.recv() => false,
        }
    }

    /// Stops a server that was never ready. The file of recently used files stays as it is.
    async fn stop_before_ready(self, mut stops: Stops) -> ServerExit {
        let Self { reloader, workers, admin, offer, is_successor, tasks: _tasks, .. } = self;
        offer.end();
        let cut = if is_successor {
            workers.abandon()
        } else {
            service_manager::stopping();
            workers.stop(&reloader.config(), &mut stops).await
        };
        admin.stop();
        ServerExit { cut }
    }

    /// Becomes ready, and serves until a request to stop or until a successor has taken over, which is returned.
    async fn serve_until_the_end(
        &mut self,
        loaded: &LoadedConfig,
        stops: &mut Stops,
    ) -> io::Result<Option<Successor>> {
        self.lifecycle.advance(Phase::Ready);
        if self.is_successor {
            self.admin.start()?;
        }
        self.complete_takeover().await?;
        let (workers, root) = (counted(loaded.limits.workers, "worker"), &loaded.config.site.root);
        log::info!("ready: {workers} from {root}");
        service_manager::status(&format!("Serving {root} by {workers}"));
        if let Some(watchdog) = self.watchdog.take() {
            self.tasks.spawn(watchdog.feed());
        }
        self.tasks.spawn(self.reloader.clone().listen(self.reloads.clone(), self.lifecycle.clone()));
        self.tasks.spawn(self.reloader.clone().watch_certificates());
        Ok(tokio::select! {
            _ = stops.recv() => None,
            successor = self.accept_successor() => Some(successor),
        })
    }

    /// Takes over from the predecessor, if there is one, opens the upgrade socket, and reports ready to the service manager.
    async fn complete_takeover(&mut self) -> io::Result<()> {
        let settled = |path: Option<UpgradePath>| path.map(UpgradePath::settle).transpose();
        let Some(mut predecessor) = self.predecessor.take() else {
            self.upgrade_socket = settled(self.upgrade_path.take())?;
            service_manager::ready();
            return Ok(());
        };
        match predecessor.relieve().await {
            Ok(()) => log::info!("taken over from {}", predecessor.peer()),
            Err(error) => log::warn!("taken over from {}, but: {error}", predecessor.peer()),
        }
        service_manager::succeed();
        // There is no way back: the site is served, though no further successor can connect.
        self.upgrade_socket = settled(self.upgrade_path.take()).unwrap_or_else(|error| {
            log::error!("the upgrade socket can't be moved to its path: {error}");
            None
        });
        Ok(())
    }

    /// Waits until a successor has taken over; for ever without an upgrade socket. The recently used files are saved before each
    /// attempt, for the successor to read.
    async fn accept_successor(&self) -> Successor {
        let Some(socket) = &self.upgrade_socket else { return std::future::pending().await };
        loop {
            let prepare = async || self.warmup_state.clone().save().await;
            let successor = self.offer.next_successor(socket, prepare).await;
            service_manager::set_silent(true);
            match self.offer.hand_over_to(&successor).await {
                Ok(()) => return successor,
                Err(error) => {
                    service_manager::set_silent(false);
                    log_failed_handover(&error);
                }
            }
        }
    }

    /// Drains, and finishes the responses under way.
    async fn stop(self, mut stops: Stops) -> ServerExit {
        // Before clients go elsewhere: which files are used is known best now.
        let saving = actix_rt::spawn(self.warmup_state.save());
        // Offered sockets would stay open.
        self.offer.end();
        service_manager::stopping();
        let cut = self.workers.stop(&self.reloader.config(), &mut stops).await;
        let _ = saving.await;
        drop(self.tasks);
        self.admin.stop();
        ServerExit { cut }
    }

    /// Finishes the responses under way while the successor accepts.
    async fn retire(self, successor: Successor, mut stops: Stops) -> ServerExit {
        drop(self.offer);
        log::info!("{} has taken over", successor.peer());
        self.admin.close();
        let cut = self.workers.retire(&self.reloader.config(), &mut stops).await;
        drop(self.tasks);
        self.admin.stop();
        successor.gone().await;
        ServerExit { cut }
    }
}

/// The admin listener, before and after its start.
struct AdminServer {
    /// Where it is to listen; `None` once it has started, or if there is none.
    address: Option<BoundAddress>,
    context: Arc<AdminContext>,
    running: Option<Admin>,
}

impl AdminServer {
    fn start(&mut self) -> io::Result<()> {
        if let Some(bound) = self.address.take() {
            log::info!("{}admin on {}", origin_prefix(bound.origin), bound.url);
            let listener = bound.listeners.into_iter().next().ok_or(io::ErrorKind::NotFound)?;
            self.running = Some(Admin::start(listener, self.context.clone())?);
        }
        Ok(())
    }

    fn close(&self) {
        self.running.iter().for_each(Admin::close);
    }

    fn stop(self) {
        self.running.into_iter().for_each(Admin::stop);
    }
}

/// Writes what is left of the access log when dropped.
struct FlushLogOnDrop(AccessLog);

impl Drop for FlushLogOnDrop {
    fn drop(&mut self) {
        self.0.finish();
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

const NO_CERTIFICATE: &str = "an inherited socket is for TLS, and there is no certificate: set PAGECAST_TLS_CERT and \
    PAGECAST_TLS_KEY";
