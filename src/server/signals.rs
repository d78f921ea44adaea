//! Requests to stop, reload or reopen the access log, and the process signals that make them.

use std::future::Future;
use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::lifecycle::ReloadRequests;

/// Requests to stop.
pub(super) type Stops = mpsc::UnboundedReceiver<()>;

/// Receivers of the requests that signals make of a running server.
pub struct Signals {
    /// Requests to stop: the first one drains, a second one ends the server at once.
    pub stops: Stops,
    /// Requests to reload the configuration or reopen the access log.
    pub reloads: ReloadRequests,
}

impl Signals {
    /// Installs the handlers: SIGTERM and SIGINT stop, SIGHUP reloads the configuration, SIGUSR1 reopens the access log.
    pub(super) fn of_the_process() -> io::Result<Self> {
        let (stop, stops) = mpsc::unbounded_channel();
        let reloads = ReloadRequests::default();
        let (reloader, reopener, other_stop) = (reloads.clone(), reloads.clone(), stop.clone());
        on_signal(SignalKind::hangup(), move || reloader.configuration.notify_one())?;
        on_signal(SignalKind::user_defined1(), move || reopener.reopen.notify_one())?;
        on_signal(SignalKind::terminate(), move || stop.send(()))?;
        on_signal(SignalKind::interrupt(), move || other_stop.send(()))?;
        Ok(Self { stops, reloads })
    }
}

fn on_signal<T>(kind: SignalKind, act: impl Fn() -> T + 'static) -> io::Result<()> {
    let mut signals = signal(kind)?;
    actix_rt::spawn(async move {
        while signals.recv().await.is_some() {
            let _ = act();
        }
    });
    Ok(())
}

/// Returns the output of `future`, or `None` if another request to stop comes first.
pub(super) async fn unless_stopped<T>(future: impl Future<Output = T>, stops: &mut Stops) -> Option<T> {
    tokio::select! {
        output = future => Some(output),
        Some(()) = stops.recv() => None,
    }
}
