//! Runs the server: start, warm-up, serving, stop.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use actix_rt::System;
use tokio::task::JoinSet;

use crate::admin::context::ServerContext;
use crate::admin::listener::Admin;
use crate::cli::outcome::counted;
use crate::config::{LoadedConfig, ProcessInputs};
use crate::files::storage::{Storage, SystemStorage};
use crate::lifecycle::{
    ActivatedSockets, Listeners, Phase, Predecessor, ReloadRequests, SocketOffer, Successor, UpgradePath,
    UpgradeSocket, log_failed_handover,
};
use crate::net::listener::BoundAddress;
use crate::server::components::Components;
use crate::server::housekeeping;
use crate::server::signals::{Signals, Stops, unless_stopped};
use crate::server::workers::{Workers, origin_prefix};
use crate::sys::service_manager::{self, Watchdog};
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
        Ok(ServerExit { cut }) => log::error!("stopped with {} cut", counted(cut as u64, "response")),
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
    let is_ready = server.warm_up(&mut stops).await;
    let successor = if is_ready { server.serve_until_the_end(loaded, &mut stops).await? } else { None };
    let cut = match successor {
        None => server.stop(is_ready, stops).await,
        Some(successor) => server.retire(successor, stops).await,
    };
    Ok(ServerExit { cut })
}

/// A server whose workers have started.
struct Server {
    reloads: ReloadRequests,
    workers: Workers,
    /// Where the admin listener is to be once this server has taken over.
    admin_address: Option<BoundAddress>,
    admin: Option<Admin>,
    /// The sockets for a successor. They stay open as long as they are offered.
    offer: SocketOffer,
    predecessor: Option<Predecessor>,
    upgrade_path: Option<UpgradePath>,
    /// Kept to the end: the path may be removed only once a successor has put its own socket there.
    upgrade_socket: Option<UpgradeSocket>,
    watchdog: Option<Watchdog>,
    tasks: JoinSet<()>,
    // The last field: the access log is written when everything that logs requests has ended.
    components: Components,
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
        let Listeners { traffic, admin: mut admin_address, predecessor, upgrade: upgrade_path } = listeners;
        let is_successor = predecessor.is_some();
        let watchdog = Watchdog::find(predecessor.as_ref().and_then(|predecessor| predecessor.watchdog));
        let offer = SocketOffer::of(
            &traffic,
            admin_address.as_ref(),
            watchdog.as_ref().map(|watchdog| watchdog.timeout),
        );
        let (components, updates) = Components::build(loaded, given, storage, is_successor, has_tls).await?;
        let Components { context, access_log, .. } = &components;
        if has_tls && context.tls.is_none() {
            return Err(io::Error::other(NO_CERTIFICATE));
        }
        let address_now = if is_successor { None } else { admin_address.take() };
        let admin = start_admin(address_now, context)?;
        let tasks = housekeeping::start(&context.site, access_log.0.clone(), &reloads);
        Ok(Self {
            reloads,
            workers: Workers::start(context, watchdog.as_ref(), updates, &traffic).await?,
            admin_address,
            admin,
            offer,
            predecessor,
            upgrade_path,
            upgrade_socket: None,
            watchdog,
            tasks,
            components,
        })
    }

    /// Reads recently used files into the caches; with a predecessor only until that exits, since no process serves then. Returns
    /// false if the server was stopped meanwhile.
    async fn warm_up(&mut self, stops: &mut Stops) -> bool {
        let restoring = self.components.warmup_state.restore(&self.components.context.lifecycle);
        let Some(predecessor) = &mut self.predecessor else {
            return unless_stopped(restoring, stops).await.is_some();
        };
        tokio::select! {
            () = restoring => true,
            () = predecessor.gone() => {
                let peer = &predecessor.channel.peer;
                log::warn!("{peer} exited before the warmup was complete: serving all the same");
                true
            }
            Some(()) = stops.recv() => false,
        }
    }

    /// Becomes ready, and serves until a request to stop or until a successor has taken over, which is returned.
    async fn serve_until_the_end(
        &mut self,
        loaded: &LoadedConfig,
        stops: &mut Stops,
    ) -> io::Result<Option<Successor>> {
        self.components.context.lifecycle.advance(Phase::Ready);
        if let Some(address) = self.admin_address.take() {
            self.admin = start_admin(Some(address), &self.components.context)?;
        }
        self.complete_takeover().await?;
        let (workers, root) = (counted(loaded.limits.workers as u64, "worker"), &loaded.config.site.root);
        log::info!("ready: {workers} from {root}");
        service_manager::status(&format!("Serving {root} by {workers}"));
        if let Some(watchdog) = self.watchdog.take() {
            self.tasks.spawn_local(watchdog.feed());
        }
        let (reloader, lifecycle) =
            (&self.components.context.reloader, self.components.context.lifecycle.clone());
        self.tasks.spawn_local(Arc::clone(reloader).listen(self.reloads.clone(), lifecycle));
        self.tasks.spawn_local(Arc::clone(reloader).poll_certificates());
        Ok(tokio::select! {
            _ = stops.recv() => None,
            successor = self.accept_successor() => Some(successor),
        })
    }

    /// Takes over from the predecessor, if there is one, opens the upgrade socket, and reports ready to the service manager.
    async fn complete_takeover(&mut self) -> io::Result<()> {
        let move_to_path = |path: Option<UpgradePath>| path.map(UpgradePath::move_to_path).transpose();
        let Some(mut predecessor) = self.predecessor.take() else {
            self.upgrade_socket = move_to_path(self.upgrade_path.take())?;
            service_manager::ready();
            return Ok(());
        };
        match predecessor.relieve().await {
            Ok(()) => log::info!("taken over from {}", predecessor.channel.peer),
            Err(error) => log::warn!("taken over from {}, but: {error}", predecessor.channel.peer),
        }
        service_manager::succeed();
        // There is no way back: the site is served, though no further successor can connect.
        self.upgrade_socket = move_to_path(self.upgrade_path.take()).unwrap_or_else(|error| {
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
            let prepare = async || self.components.warmup_state.clone().save().await;
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

    /// Drains, finishes the responses under way, and returns how many were cut. If the server was never ready, the file of
    /// recently used files stays as it is, and a predecessor has all connections.
    async fn stop(self, is_ready: bool, mut stops: Stops) -> usize {
        // Before clients go elsewhere: which files are used is known best now.
        let saving = is_ready.then(|| actix_rt::spawn(self.components.warmup_state.save()));
        // Offered sockets would stay open.
        self.offer.end();
        let cut = if self.components.context.is_successor && !is_ready {
            self.workers.abandon().await
        } else {
            service_manager::stopping();
            self.workers.stop(&self.components.context.reloader.current.load().view.config, &mut stops).await
        };
        if let Some(saving) = saving {
            let _ = saving.await;
        }
        drop(self.tasks);
        self.admin.into_iter().for_each(Admin::stop);
        cut
    }

    /// Finishes the responses under way while the successor accepts. Returns how many were cut.
    async fn retire(self, successor: Successor, mut stops: Stops) -> usize {
        drop(self.offer);
        log::info!("{} has taken over", successor.channel.peer);
        self.admin.iter().for_each(Admin::close);
        let cut = self
            .workers
            .retire(&self.components.context.reloader.current.load().view.config, &mut stops)
            .await;
        drop(self.tasks);
        self.admin.into_iter().for_each(Admin::stop);
        successor.gone().await;
        cut
    }
}

/// Starts the admin listener at `address`, if there is one.
fn start_admin(address: Option<BoundAddress>, context: &Arc<ServerContext>) -> io::Result<Option<Admin>> {
    let Some(bound) = address else { return Ok(None) };
    log::info!("{}admin on {}", origin_prefix(bound.origin), bound.url);
    let listener = bound.listeners.into_iter().next().ok_or(io::ErrorKind::NotFound)?;
    Admin::start(listener, Arc::clone(context)).map(Some)
}

const NO_CERTIFICATE: &str = "an inherited socket is for TLS, and there is no certificate: set PAGECAST_TLS_CERT and \
    PAGECAST_TLS_KEY";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{RegularFiles, load};
    use crate::lifecycle::UpdateReceiver;
    use crate::lifecycle::config_reads::tests::hang;
    use crate::lifecycle::reload::ReloadError;
    use crate::site::settings::SiteSettings;
    use crate::sys::system_facts::system_facts;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    /// A ready server with two workers that have not started, and its admin listener.
    struct Reloadable {
        components: Components,
        updates: Vec<UpdateReceiver<SiteSettings>>,
        admin: Admin,
        address: String,
        root: tempfile::TempDir,
    }

    impl Reloadable {
        async fn start() -> Self {
            let root = tempfile::tempdir().unwrap();
            let variables = [
                ("PAGECAST_ROOT", root.path().to_str().unwrap()),
                ("PAGECAST_LISTEN", "127.0.0.1:0"),
                ("PAGECAST_ADMIN_LISTEN", "127.0.0.1:0"),
                ("PAGECAST_WORKERS", "2"),
            ];
            let variables = variables.map(|(name, value)| (name.into(), value.into())).into();
            let given = ProcessInputs { variables, facts: system_facts(), ..ProcessInputs::default() };
            let loaded = load(&given, Vec::new(), &RegularFiles).unwrap();
            let listeners = Listeners::bind(&loaded.config, &loaded.limits).unwrap();
            let built = Components::build(&loaded, given, Arc::new(SystemStorage), false, false).await;
            let (components, updates) = built.unwrap();
            let url = listeners.admin.as_ref().unwrap().url.clone();
            let admin = start_admin(listeners.admin, &components.context).unwrap().unwrap();
            components.context.lifecycle.advance(Phase::Ready);
            let address = url.strip_prefix("http://").unwrap().to_owned();
            Self { components, updates, admin, address, root }
        }

        /// Starts the next worker: from now on it applies updates.
        fn start_worker(&mut self) {
            actix_rt::spawn(self.updates.remove(0).apply_with(|_, _| ()));
        }

        /// Sends `POST /reload` and returns the response.
        async fn post_reload(&self) -> String {
            let address = self.address.clone();
            let asked = move || {
                let mut stream = TcpStream::connect(address)?;
                stream.write_all(b"POST /reload HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
                let mut reply = String::new();
                stream.read_to_string(&mut reply).map(|_| reply)
            };
            tokio::task::spawn_blocking(asked).await.unwrap().unwrap()
        }

        fn reloads(&self) -> (u64, u64) {
            let counts = self.components.context.reloader.counts.lock();
            (counts.done, counts.failed)
        }
    }

    fn assert_parts(reply: &str, parts: &[&str]) {
        assert!(parts.iter().all(|part| reply.contains(part)), "{parts:?} in {reply}");
    }

    #[test]
    fn a_reload_that_a_worker_does_not_take_is_an_error_and_the_next_one_can_succeed() {
        System::new().block_on(async {
            let mut server = Reloadable::start().await;
            server.start_worker();
            let reply = server.post_reload().await;
            let sentence = "The new configuration is not in effect on every worker.";
            assert_parts(
                &reply,
                &[" 500 ", sentence, "worker 2 did not take the new configuration within 5s"],
            );
            assert_eq!(server.reloads(), (0, 1));
            server.start_worker();
            assert_parts(&server.post_reload().await, &[" 200 ", "nothing has changed"]);
            assert_eq!(server.reloads(), (1, 1));
            server.admin.stop();
        });
    }

    #[test]
    fn a_worker_that_has_ended_makes_every_reload_an_error() {
        System::new().block_on(async {
            let mut server = Reloadable::start().await;
            server.start_worker();
            server.updates.clear();
            for failed in 1..=2 {
                let outcome = server.components.context.reloader.reload().await;
                let Err(ReloadError::Incomplete(failures)) = outcome else { panic!("{outcome:?}") };
                assert_eq!(failures, ["worker 2 has ended and cannot take the new configuration"]);
                assert_eq!(server.reloads(), (0, failed));
            }
            server.admin.stop();
        });
    }

    #[test]
    fn a_reload_is_refused_at_once_while_an_earlier_read_hangs() {
        System::new().block_on(async {
            let mut server = Reloadable::start().await;
            server.start_worker();
            server.start_worker();
            let free = hang(&server.components.context.reloader.reads).await;
            for failed in 1..=2 {
                let reply = server.post_reload().await;
                let sentence = "Nothing has changed: the configuration could not be read.";
                let cause = "an earlier read of a file of the configuration has not returned yet";
                assert_parts(&reply, &[" 500 ", sentence, cause]);
                assert_eq!(server.reloads(), (0, failed));
            }
            drop(free);
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
            while server.reloads().0 == 0 {
                assert!(std::time::Instant::now() < deadline, "still refused");
                server.post_reload().await;
            }
            server.admin.stop();
        });
    }

    #[test]
    fn redirects_that_could_not_be_read_because_of_a_hanging_read_are_read_again() {
        System::new().block_on(async {
            let mut server = Reloadable::start().await;
            server.start_worker();
            server.start_worker();
            let context = &server.components.context;
            let requests = ReloadRequests::default();
            let listening = Arc::clone(&context.reloader).listen(requests.clone(), context.lifecycle.clone());
            actix_rt::spawn(listening);
            let free = hang(&context.reloader.reads).await;
            std::fs::write(server.root.path().join("_redirects"), "/old /new 302\n").unwrap();
            requests.redirects.notify_one();
            let has_redirects = || !context.reloader.current.load().view.redirects.is_empty();
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            assert!(!has_redirects());
            drop(free);
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
            while !has_redirects() {
                assert!(std::time::Instant::now() < deadline, "not read again");
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            server.admin.stop();
        });
    }
}
