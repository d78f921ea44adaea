//! Gathers the listening sockets of this process.

use std::{fmt, io};

use log::Level;

use super::inherited::ActivatedSockets;
use super::message::Role;
use super::predecessor::Predecessor;
use crate::config::{
    Address, Config, LoadedConfig, ResolvedLimits, Toggle, ValueOrigin, admin_without_token,
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

impl Listeners {
    /// Binds every address of the configuration.
    ///
    /// # Errors
    /// The first address that can't be bound.
    pub fn bind(config: &Config, limits: &ResolvedLimits) -> io::Result<Self> {
        Self::open(None, ActivatedSockets::default(), config, limits)
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
        let predecessor = match from {
            Some(path) => Some(Predecessor::connect(path).await?),
            None => None,
        };
        if predecessor.is_some() && (!activated.traffic.is_empty() || activated.admin.is_some()) {
            log::warn!("inherited sockets are ignored: the predecessor's are used");
        }
        let mut listeners = Self::open(predecessor, activated, config, limits)?;
        let is_open =
            |bound: &&BoundAddress| !bound.is_local() && config.listening.admin_token == Toggle::Off;
        // An inherited socket may be bound to another address than the configured one.
        if let Some(bound) = listeners.admin.as_ref().filter(is_open) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, admin_without_token(&bound.url)));
        }
        let upgrade = config.continuity.upgrade_socket.given();
        listeners.upgrade = upgrade.map(|path| UpgradePath::prepare(path.as_path(), from)).transpose()?;
        listeners.log_ignored_addresses(loaded);
        Ok(listeners)
    }

    /// Whether a listener is for TLS.
    pub(crate) fn has_tls(&self) -> bool {
        self.traffic.iter().any(|bound| bound.scheme == Scheme::Https)
    }

    /// Number of listening sockets for traffic.
    pub(crate) fn sockets(&self) -> usize {
        self.traffic.iter().map(|bound| bound.listeners.len()).sum()
    }

    /// Takes the sockets of the predecessor, or else the activated ones, and binds the other addresses. Sockets of a service manager
    /// replace `listen`, and if one of them is for TLS, `tls_listen`.
    fn open(
        mut predecessor: Option<Predecessor>,
        activated: ActivatedSockets,
        config: &Config,
        limits: &ResolvedLimits,
    ) -> io::Result<Self> {
        let defers = config.listening.defer_accept.is_on();
        let ActivatedSockets { mut traffic, mut admin } = match &mut predecessor {
            None => activated,
            Some(predecessor) => ActivatedSockets {
                traffic: predecessor.take_managed(Role::Traffic, defers)?,
                admin: predecessor.take_managed(Role::Admin, false)?.pop(),
            },
        };
        let mut open = |address: &Address, scheme, copies, others: &[Address], defers| {
            let taken = match &mut predecessor {
                Some(predecessor) => predecessor.take(address, scheme, defers)?,
                None => None,
            };
            taken.map_or_else(|| bind(address, scheme, copies, others, defers), Ok)
        };
        let (plain, tls) = (config.plain_http_addresses(), config.tls_addresses());
        let all = [plain, tls].concat();
        let has_tls = traffic.iter().any(|bound| bound.scheme == Scheme::Https);
        let plain = if traffic.is_empty() { plain } else { &[] };
        let tls = if has_tls { &[] } else { tls };
        for (addresses, scheme) in [(plain, Scheme::Http), (tls, Scheme::Https)] {
            for address in addresses {
                traffic.push(open(address, scheme, limits.workers, &all, defers)?);
            }
        }
        if let (None, Toggle::Given(address)) = (&admin, &config.listening.admin_listen) {
            admin = Some(open(address, Scheme::Http, 1, &[], false)?);
        }
        predecessor.iter_mut().for_each(Predecessor::drop_remaining);
        Ok(Self { traffic, admin, predecessor, upgrade: None })
    }

    /// Logs which configured addresses are ignored because of inherited sockets.
    fn log_ignored_addresses(&self, LoadedConfig { config, origins, .. }: &LoadedConfig) {
        let is_managed = |bound: &BoundAddress| bound.configured.is_none();
        let is_managed_tls = |bound: &BoundAddress| is_managed(bound) && bound.scheme == Scheme::Https;
        let (has_managed, has_managed_tls) =
            (self.traffic.iter().any(is_managed), self.traffic.iter().any(is_managed_tls));
        let has_managed_admin = self.admin.as_ref().is_some_and(is_managed);
        let (listening, tls) = (&config.listening, &config.tls);
        let settings: [(&str, Level, bool, &dyn fmt::Display); 3] = [
            ("listen", Level::Warn, has_managed, &listening.listen),
            ("tls_listen", Level::Info, has_managed_tls, &tls.tls_listen),
            ("admin_listen", Level::Warn, has_managed_admin, &listening.admin_listen),
        ];
        for (key, level, is_replaced, value) in settings {
            if is_replaced && !matches!(origins.of(key), ValueOrigin::Default) {
                let name = key.to_uppercase();
                log::log!(level, "PAGECAST_{name}={value} is ignored: inherited sockets are used");
            }
        }
    }
}
