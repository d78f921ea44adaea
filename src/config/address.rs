//! Where to listen.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use super::setting::{SettingValue, TomlForms, ValueError, deserialize_by_text};

/// One address to listen on.
/// Host names are not looked up: `localhost` is 127.0.0.1, other hosts are IP addresses.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// `127.0.0.1:8080`, `[::]:8080`; port 0 lets the system choose one.
    Tcp(SocketAddr),
    /// `unix:/run/pagecast.sock`
    Unix(PathBuf),
}

impl Address {
    /// Whether the system chooses the port, so that no two such addresses are the same.
    pub(crate) fn is_chosen_by_the_system(&self) -> bool {
        matches!(self, Self::Tcp(address) if address.port() == 0)
    }

    /// Whether nobody reaches it from another machine.
    pub(crate) fn is_of_this_machine(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl FromStr for Address {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() {
            return Err(ValueError::EMPTY);
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(path);
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Tcp(address));
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(refused(text, "has no port"));
        };
        if host.is_empty() {
            return Err(ValueError::new(format!(
                "`{}` names no host: every address is 0.0.0.0{text} or [::]{text}",
                text.escape_debug()
            )));
        }
        if host.contains(':') && !host.starts_with('[') {
            return Err(refused(text, "has an IPv6 address without its brackets"));
        }
        let Ok(port) = port.parse() else {
            return Err(refused(text, "has no port from 0 to 65535"));
        };
        if host.eq_ignore_ascii_case("localhost") {
            return Ok(Self::Tcp((Ipv4Addr::LOCALHOST, port).into()));
        }
        Err(refused(text, "names a host that is neither an IP address nor localhost"))
    }
}

fn unix(path: &str) -> Result<Address, ValueError> {
    if path.is_empty() {
        return Err(ValueError::new("has no path after `unix:`"));
    }
    if path.contains(['\0', ',']) {
        return Err(ValueError::new("has a NUL or a comma in the path of its unix socket"));
    }
    if path.len() > UNIX_PATH_BYTES_MAX {
        return Err(ValueError::new(format!(
            "has a path of more than {UNIX_PATH_BYTES_MAX} bytes for its unix socket"
        )));
    }
    Ok(Address::Unix(path.into()))
}

fn refused(text: &str, reason: &str) -> ValueError {
    ValueError::new(format!("`{}` {reason}", text.escape_debug()))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// One or more addresses, each once: a comma list, in the file also a list of strings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenList(Vec<Address>);

impl ListenList {
    /// A list of the one address.
    pub fn one(address: Address) -> Self {
        Self(vec![address])
    }

    /// The addresses in the order given; never empty.
    pub fn as_slice(&self) -> &[Address] {
        &self.0
    }
}

impl FromStr for ListenList {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() {
            return Err(ValueError::EMPTY);
        }
        let mut addresses = Vec::new();
        for part in text.split(',') {
            let part = part.trim();
            if part.is_empty() {
                return Err(ValueError::new("has an empty place in its list"));
            }
            let address: Address = part.parse()?;
            if addresses.contains(&address) && !address.is_chosen_by_the_system() {
                return Err(refused(part, "is in the list twice"));
            }
            addresses.push(address);
        }
        Ok(Self(addresses))
    }
}

impl fmt::Display for ListenList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, address) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str(",")?;
            }
            address.fmt(f)?;
        }
        Ok(())
    }
}

impl SettingValue for ListenList {
    type Bounds = ();
    const FORMS: TomlForms = TomlForms::LIST;
    const METAVAR: &'static str = "ADDRESSES";

    fn accepted((): &()) -> String {
        "a comma list of IP:PORT, [IPV6]:PORT, localhost:PORT or unix:/PATH, each once".to_owned()
    }

    fn check(&self, (): &()) -> Result<(), ValueError> {
        Ok(())
    }
}

/// Where the admin listener is, if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminListen {
    /// There is none.
    Off,
    /// At the one address.
    At(Address),
}

impl FromStr for AdminListen {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.eq_ignore_ascii_case("off") { Ok(Self::Off) } else { text.parse().map(Self::At) }
    }
}

impl fmt::Display for AdminListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => address.fmt(f),
        }
    }
}

impl SettingValue for AdminListen {
    type Bounds = ();
    const FORMS: TomlForms = TomlForms::TEXT;
    const METAVAR: &'static str = "ADDRESS";

    fn accepted((): &()) -> String {
        "IP:PORT, [IPV6]:PORT, localhost:PORT, unix:/PATH or off".to_owned()
    }

    fn check(&self, (): &()) -> Result<(), ValueError> {
        Ok(())
    }
}

deserialize_by_text!(ListenList, AdminListen);

/// `sun_path` holds 108 bytes, the last of them NUL.
const UNIX_PATH_BYTES_MAX: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_addresses_are_read_and_written() {
        for (text, written) in [
            ("0.0.0.0:8080", "0.0.0.0:8080"),
            ("[::]:80", "[::]:80"),
            ("localhost:8080", "127.0.0.1:8080"),
            ("127.0.0.1:1, [::1]:1 ,unix:/run/p.sock", "127.0.0.1:1,[::1]:1,unix:/run/p.sock"),
            ("127.0.0.1:0,127.0.0.1:0", "127.0.0.1:0,127.0.0.1:0"),
            ("unix:relative.sock", "unix:relative.sock"),
        ] {
            let list: ListenList = text.parse().expect(text);
            assert_eq!(list.to_string(), written);
            assert_eq!(written.parse(), Ok(list));
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_its_reason() {
        let long = format!("unix:/{}", "x".repeat(107));
        for (text, reason) in [
            ("", "is empty"),
            (",", "has an empty place in its list"),
            ("0.0.0.0:1,", "has an empty place in its list"),
            ("8080", "`8080` has no port"),
            ("0.0.0.0", "`0.0.0.0` has no port"),
            (":8080", "`:8080` names no host: every address is 0.0.0.0:8080 or [::]:8080"),
            ("::1:8080", "`::1:8080` has an IPv6 address without its brackets"),
            ("0.0.0.0:65536", "`0.0.0.0:65536` has no port from 0 to 65535"),
            ("localhost:http", "`localhost:http` has no port from 0 to 65535"),
            ("example.org:80", "`example.org:80` names a host that is neither an IP address nor localhost"),
            ("0.0.0.0:80,0.0.0.0:80", "`0.0.0.0:80` is in the list twice"),
            ("127.0.0.1:80,localhost:80", "`localhost:80` is in the list twice"),
            ("unix:", "has no path after `unix:`"),
            ("unix:/a\0b", "has a NUL or a comma in the path of its unix socket"),
            (&long, "has a path of more than 107 bytes for its unix socket"),
        ] {
            assert_eq!(text.parse::<ListenList>(), Err(ValueError::new(reason.to_owned())), "{text}");
        }
    }

    #[test]
    fn the_admin_listener_can_be_off() {
        assert_eq!("off".parse(), Ok(AdminListen::Off));
        assert_eq!("localhost:1".parse::<AdminListen>().expect("an address").to_string(), "127.0.0.1:1");
        assert!("127.0.0.1:1,127.0.0.1:2".parse::<AdminListen>().is_err());
    }
}
