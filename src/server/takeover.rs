//! Takes over from a predecessor, and waits for a successor.

use std::io;

use crate::lifecycle::handover::{
    Predecessor, SocketOffer, Successor, UpgradePath, UpgradeSocket, log_failed_handover,
};
use crate::lifecycle::phase::Lifecycle;
use crate::lifecycle::warmup::restore::WarmupState;
use crate::sys::service_manager;

/// Reads recently used files into the caches. With a predecessor this ends early when the predecessor exits: nobody serves meanwhile.
pub(super) async fn warm_up(
    state: &WarmupState,
    lifecycle: &Lifecycle,
    predecessor: Option<&mut Predecessor>,
) {
    let Some(predecessor) = predecessor else { return state.restore(lifecycle).await };
    tokio::select! {
        () = state.restore(lifecycle) => {}
        () = predecessor.gone() => {
            log::warn!("{} exited before the warmup was complete: serving all the same", predecessor.peer());
        }
    }
}

/// Takes over from the predecessor, if there is one, opens the upgrade socket, and reports ready to the service manager.
pub(super) async fn complete_takeover(
    predecessor: Option<Predecessor>,
    upgrade: Option<UpgradePath>,
) -> io::Result<Option<UpgradeSocket>> {
    let Some(mut predecessor) = predecessor else {
        let upgrade = upgrade.map(UpgradePath::settle).transpose()?;
        service_manager::ready();
        return Ok(upgrade);
    };
    match predecessor.relieve().await {
        Ok(()) => log::info!("taken over from {}", predecessor.peer()),
        Err(error) => log::warn!("taken over from {}, but: {error}", predecessor.peer()),
    }
    service_manager::succeed();
    // There is no way back: the site is served, though no further successor can connect.
    Ok(upgrade.and_then(|path| {
        path.settle()
            .inspect_err(|error| log::error!("the upgrade socket can't be moved to its path: {error}"))
            .ok()
    }))
}

/// Waits until a successor has taken over; for ever without an upgrade socket. The recently used files are written before each
/// attempt, for the successor to read.
pub(super) async fn accept_successor(
    offer: &SocketOffer,
    upgrade: Option<&UpgradeSocket>,
    warmup_state: &WarmupState,
) -> Successor {
    let Some(socket) = upgrade else { return std::future::pending().await };
    loop {
        let prepare = async || warmup_state.clone().save().await;
        let successor = offer.next_successor(socket, prepare).await;
        service_manager::set_silent(true);
        match offer.hand_over_to(&successor).await {
            Ok(()) => return successor,
            Err(error) => {
                service_manager::set_silent(false);
                log_failed_handover(&error);
            }
        }
    }
}
