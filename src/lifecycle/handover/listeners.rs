//! Gathers the listening sockets of this process.

use std::io;

use super::inherited::from_manager;
use super::message::Role;
use super::predecessor::Predecessor;
use crate::config::{
    Address, AdminListen, Config, LoadedConfig, ResolvedLimits, Toggle, ValueOrigin, unguarded,
};
use crate::lifecycle::handover::upgrade_socket::UpgradePath;
use crate::net::listener::{BoundAddress, Scheme, bind};

/// The listening sockets of a server.
pub struct Listeners {
    pub(crate) traffic: Vec<BoundAddress>,
    pub(crate) admin: Option<BoundAddress>,
    /// The server that stops accepting once this one is ready.
    pub(crate) predecessor: Option<Predecessor>,
    /// Where a successor can connect.
    pub(crate) upgrade: Option<UpgradePath>,
}

/// Sockets of a service manager.
#[derive(Default)]
pub(crate) struct ActivatedSockets {
    traffic: Vec<BoundAddress>,
    admin: Option<BoundAddress>,
}

impl ActivatedSockets {
    /// Takes the sockets that the environment announces. Call it before there are threads: it changes the environment.
    ///
    /// # Errors
    /// If one of them is not a listening stream socket; the error names it.
    pub(crate) fn take(config: &Config) -> io::Result<Self> {
        let mut activated = Self::default();
        for (role, bound) in from_manager(config.listening.defer_accept.is_on(), config.tls_addresses())? {
            match role {
                Role::Traffic => activated.traffic.push(bound),
                Role::Admin => activated.admin = Some(bound),
            }
        }
        Ok(activated)
    }
}

impl Listeners {
    /// Binds every address of the configuration.
    ///
    /// # Errors
    /// The first address that can't be bound.
    pub fn bind(config: &Config, limits: &ResolvedLimits) -> io::Result<Self> {
        Self::of_manager(ActivatedSockets::default(), config, limits)
    }

    /// URLs of the traffic listeners, with the ports that the system chose.
    pub fn urls(&self) -> impl Iterator<Item = &str> {
        self.traffic.iter().map(|bound| &*bound.url)
    }

    /// Takes the sockets of the predecessor, or else of the service manager, and binds the other addresses.
    ///
    /// # Errors
    /// If an address can't be bound, or the configured predecessor does not hand over.
    pub(crate) async fn gather(loaded: &LoadedConfig, activated: ActivatedSockets) -> io::Result<Self> {
        let LoadedConfig { config, limits, .. } = loaded;
        let from = config.continuity.upgrade_from.given().map(|path| path.as_path());
        let mut listeners = match from {
            Some(path) => {
                if !activated.traffic.is_empty() || activated.admin.is_some() {
                    log::warn!("inherited sockets are ignored: the predecessor's are used");
                }
                Self::of_predecessor(Predecessor::connect(path).await?, config, limits)?
            }
            None => Self::of_manager(activated, config, limits)?,
        };
        listeners.check_admin(config)?;
        let upgrade = config.continuity.upgrade_socket.given();
        listeners.upgrade = upgrade.map(|path| UpgradePath::prepare(path.as_path(), from)).transpose()?;
        listeners.log_ignored_addresses(loaded);
        Ok(listeners)
    }

    /// An inherited socket may be bound to another address than the configured one.
    fn check_admin(&self, config: &Config) -> io::Result<()> {
        let is_open = |bound: &&BoundAddress| {
            !bound.is_of_this_machine() && config.listening.admin_token == Toggle::Off
        };
        match self.admin.as_ref().filter(is_open) {
            Some(bound) => Err(io::Error::new(io::ErrorKind::InvalidInput, unguarded(&bound.url))),
            None => Ok(()),
        }
    }

    /// Whether a listener is for TLS.
    pub(crate) fn has_tls(&self) -> bool {
        self.traffic.iter().any(|bound| bound.scheme == Scheme::Https)
    }

    /// Number of listening sockets for traffic.
    pub(crate) fn sockets(&self) -> usize {
        self.traffic.iter().map(|bound| bound.listeners.len()).sum()
    }

    fn of_manager(activated: ActivatedSockets, config: &Config, limits: &ResolvedLimits) -> io::Result<Self> {
        let ActivatedSockets { traffic, admin } = activated;
        let traffic =
            add_missing(traffic, config, |address, scheme| bind_traffic(address, scheme, config, limits))?;
        let admin = match admin {
            Some(admin) => Some(admin),
            None => admin_address(config).map(bind_admin).transpose()?,
        };
        Ok(Self { traffic, admin, predecessor: None, upgrade: None })
    }

    fn of_predecessor(
        mut predecessor: Predecessor,
        config: &Config,
        limits: &ResolvedLimits,
    ) -> io::Result<Self> {
        let defers = config.listening.defer_accept.is_on();
        let managed = predecessor.take_managed(Role::Traffic, defers)?;
        let traffic = add_missing(managed, config, |address, scheme| {
            match predecessor.take(address, scheme, defers)? {
                Some(taken) => Ok(taken),
                None => bind_traffic(address, scheme, config, limits),
            }
        })?;
        let admin = match (predecessor.take_managed(Role::Admin, false)?.pop(), admin_address(config)) {
            (Some(managed), _) => Some(managed),
            (None, Some(address)) => match predecessor.take(address, Scheme::Http, false)? {
                Some(taken) => Some(taken),
                None => Some(bind_admin(address)?),
            },
            (None, None) => None,
        };
        predecessor.drop_remaining();
        Ok(Self { traffic, admin, predecessor: Some(predecessor), upgrade: None })
    }

    /// Logs which configured addresses are ignored because of inherited sockets.
    fn log_ignored_addresses(&self, loaded: &LoadedConfig) {
        let is_managed = |bound: &BoundAddress| bound.asked.is_none();
        let is_set = |key: &str| !matches!(loaded.origins.of(key), ValueOrigin::Default);
        if self.traffic.iter().any(is_managed) && is_set("listen") {
            log::warn!(
                "PAGECAST_LISTEN={} is ignored: inherited sockets are used",
                loaded.config.listening.listen
            );
        }
        let is_managed_tls = |bound: &BoundAddress| is_managed(bound) && bound.scheme == Scheme::Https;
        if self.traffic.iter().any(is_managed_tls) && is_set("tls_listen") {
            log::info!(
                "PAGECAST_TLS_LISTEN={} is ignored: inherited sockets are used",
                loaded.config.tls.tls_listen
            );
        }
        if self.admin.as_ref().is_some_and(is_managed) && is_set("admin_listen") {
            log::warn!(
                "PAGECAST_ADMIN_LISTEN={} is ignored: an inherited socket is used",
                loaded.config.listening.admin_listen
            );
        }
    }
}

/// Binds the configured addresses, except `listen` if a service manager opened sockets, and `tls_listen` if one of those is for
/// TLS.
fn add_missing(
    managed: Vec<BoundAddress>,
    config: &Config,
    mut bind: impl FnMut(&Address, Scheme) -> io::Result<BoundAddress>,
) -> io::Result<Vec<BoundAddress>> {
    let has_tls = managed.iter().any(|bound| bound.scheme == Scheme::Https);
    let plain = if managed.is_empty() { config.cleartext_addresses() } else { &[] };
    let tls = if has_tls { &[] } else { config.tls_addresses() };
    let mut traffic = managed;
    for (addresses, scheme) in [(plain, Scheme::Http), (tls, Scheme::Https)] {
        for address in addresses {
            traffic.push(bind(address, scheme)?);
        }
    }
    Ok(traffic)
}

fn bind_traffic(
    address: &Address,
    scheme: Scheme,
    config: &Config,
    limits: &ResolvedLimits,
) -> io::Result<BoundAddress> {
    let others = [config.cleartext_addresses(), config.tls_addresses()].concat();
    bind(address, scheme, limits.workers, &others, config.listening.defer_accept.is_on())
}

fn bind_admin(address: &Address) -> io::Result<BoundAddress> {
    bind(address, Scheme::Http, 1, &[], false)
}

fn admin_address(config: &Config) -> Option<&Address> {
    match &config.listening.admin_listen {
        AdminListen::Off => None,
        AdminListen::At(address) => Some(address),
    }
}
