//! Where the sockets of this process come from.

use std::io;

use super::inherited::from_manager;
use super::message::Role;
use super::predecessor::Predecessor;
use crate::config::{Address, Config, LoadedConfig, ResolvedLimits, Toggle, ValueOrigin, unguarded};
use crate::lifecycle::handover::upgrade_socket::UpgradePath;
use crate::net::listener::{BoundAddress, Scheme, bind};

/// The sockets that a server is given.
pub struct Listeners {
    pub(crate) traffic: Vec<BoundAddress>,
    pub(crate) admin: Option<BoundAddress>,
    /// Who is to be relieved once this server is ready.
    pub(crate) predecessor: Option<Predecessor>,
    /// Where a successor may ask.
    pub(crate) upgrade: Option<UpgradePath>,
}

/// Sockets from a service manager, taken before there are threads.
#[derive(Default)]
pub(crate) struct ActivatedSockets {
    traffic: Vec<BoundAddress>,
    admin: Option<BoundAddress>,
}

impl ActivatedSockets {
    /// Those of the environment.
    ///
    /// # Errors
    /// Where one of them is no listening stream socket; the error names it.
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
    /// The first address that is not to be had.
    pub fn bind(config: &Config, limits: &ResolvedLimits) -> io::Result<Self> {
        Self::of_manager(ActivatedSockets::default(), config, limits)
    }

    /// Where traffic comes in, as URLs: what port 0 has become.
    pub fn urls(&self) -> impl Iterator<Item = &str> {
        self.traffic.iter().map(|bound| &*bound.url)
    }

    /// Takes the sockets that there are, from a predecessor or else from a service manager, and binds what is missing.
    ///
    /// # Errors
    /// Where a socket is not to be had, or no predecessor where there should be one.
    pub(crate) async fn gather(loaded: &LoadedConfig, activated: ActivatedSockets) -> io::Result<Self> {
        let LoadedConfig { config, limits, .. } = loaded;
        let from = config.continuity.upgrade_from.given().map(|path| path.as_path());
        let mut listeners = match from {
            Some(path) => {
                if !activated.traffic.is_empty() || activated.admin.is_some() {
                    log::warn!("inherited sockets give way to those of the predecessor");
                }
                Self::of_predecessor(Predecessor::ask(path).await?, config, limits)?
            }
            None => Self::of_manager(activated, config, limits)?,
        };
        listeners.check_admin(config)?;
        let upgrade = config.continuity.upgrade_socket.given();
        listeners.upgrade = upgrade.map(|path| UpgradePath::prepare(path.as_path(), from)).transpose()?;
        listeners.tell(loaded);
        Ok(listeners)
    }

    /// An inherited socket may be bound to other addresses than the configuration says.
    fn check_admin(&self, config: &Config) -> io::Result<()> {
        let is_open = |bound: &&BoundAddress| {
            !bound.is_of_this_machine() && config.listening.admin_token == Toggle::Off
        };
        match self.admin.as_ref().filter(is_open) {
            Some(bound) => Err(io::Error::new(io::ErrorKind::InvalidInput, unguarded(&bound.url))),
            None => Ok(()),
        }
    }

    /// Whether TLS is spoken anywhere.
    pub(crate) fn has_tls(&self) -> bool {
        self.traffic.iter().any(|bound| bound.scheme == Scheme::Https)
    }

    /// Listening sockets for traffic.
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
        predecessor.leave_the_rest();
        Ok(Self { traffic, admin, predecessor: Some(predecessor), upgrade: None })
    }

    /// Says where the sockets come from, where that is not the configuration alone.
    fn tell(&self, loaded: &LoadedConfig) {
        let is_managed = |bound: &BoundAddress| bound.asked.is_none();
        let gives_way = |key: &str| !matches!(loaded.origins.of(key), ValueOrigin::Default);
        if self.traffic.iter().any(is_managed) && gives_way("listen") {
            log::warn!("PAGECAST_LISTEN={} gives way to inherited sockets", loaded.config.listening.listen);
        }
        let is_managed_tls = |bound: &BoundAddress| is_managed(bound) && bound.scheme == Scheme::Https;
        if self.traffic.iter().any(is_managed_tls) && gives_way("tls_listen") {
            log::info!("PAGECAST_TLS_LISTEN={} gives way to inherited sockets", loaded.config.tls.tls_listen);
        }
        if self.admin.as_ref().is_some_and(is_managed) && gives_way("admin_listen") {
            log::warn!(
                "PAGECAST_ADMIN_LISTEN={} gives way to an inherited socket",
                loaded.config.listening.admin_listen
            );
        }
    }
}

/// Sockets that a service manager has opened take the place of `listen`, and where TLS is spoken on one of them that of
/// `tls_listen`; all else is bound.
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
        Toggle::Off => None,
        Toggle::Given(address) => Some(address),
    }
}
