//! Where to listen.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use super::comma_list::{CommaList, ListItem};
use super::setting::{TomlForms, ValueError, setting_value};

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
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl FromStr for Address {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(path);
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Tcp(address));
        }
        Err(match text.rsplit_once(':') {
            None if text.is_empty() => ValueError::EMPTY,
            None => ValueError::new("has no port"),
            Some(("", _)) => {
                ValueError::new(format!("names no host: every address is 0.0.0.0{text} or [::]{text}"))
            }
            Some((host, _)) if host.contains(':') && !host.starts_with('[') => {
                ValueError::new("has an IPv6 address without its brackets")
            }
            Some((host, port)) => match port.parse() {
                Ok(port) if host.eq_ignore_ascii_case("localhost") => {
                    return Ok(Self::Tcp((Ipv4Addr::LOCALHOST, port).into()));
                }
                Ok(_) => ValueError::new("names a host that is neither an IP address nor localhost"),
                Err(_) => ValueError::new("has no port from 0 to 65535"),
            },
        })
    }
}

fn unix(path: &str) -> Result<Address, ValueError> {
    Err(match path {
        "" => ValueError::new("has no path after `unix:`"),
        _ if path.contains(['\0', ',']) => {
            ValueError::new("has a NUL or a comma in the path of its unix socket")
        }
        _ if path.len() > UNIX_PATH_BYTES_MAX => ValueError::new(format!(
            "has a path of more than {UNIX_PATH_BYTES_MAX} bytes for its unix socket"
        )),
        _ => return Ok(Address::Unix(path.into())),
    })
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

setting_value!(Address: "ADDRESS", TomlForms::TEXT, "IP:PORT, [IPV6]:PORT, localhost:PORT or unix:/PATH");

/// Addresses to listen on, at least one, each once.
pub type ListenList = CommaList<Address>;

impl ListItem for Address {
    const METAVAR: &'static str = "ADDRESSES";
    const ACCEPTED: &'static str =
        "a comma list of IP:PORT, [IPV6]:PORT, localhost:PORT or unix:/PATH, each once";
    fn can_repeat(&self) -> bool {
        self.is_chosen_by_the_system()
    }
}

/// `sun_path` holds 108 bytes, the last of them NUL.
const UNIX_PATH_BYTES_MAX: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Toggle;

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
            (",", "has an empty item in its list"),
            ("0.0.0.0:1,", "has an empty item in its list"),
            ("8080", "has no port"),
            ("0.0.0.0", "has no port"),
            (":8080", "names no host: every address is 0.0.0.0:8080 or [::]:8080"),
            ("::1:8080", "has an IPv6 address without its brackets"),
            ("0.0.0.0:65536", "has no port from 0 to 65535"),
            ("localhost:http", "has no port from 0 to 65535"),
            ("example.org:80", "names a host that is neither an IP address nor localhost"),
            ("0.0.0.0:80,0.0.0.0:80", "contains 0.0.0.0:80 twice"),
            ("127.0.0.1:80,localhost:80", "contains localhost:80 twice"),
            ("unix:", "has no path after `unix:`"),
            ("unix:/a\0b", "has a NUL or a comma in the path of its unix socket"),
            (&long, "has a path of more than 107 bytes for its unix socket"),
        ] {
            assert_eq!(text.parse::<ListenList>(), Err(ValueError::new(reason.to_owned())), "{text}");
        }
    }

    #[test]
    fn the_admin_listener_can_be_off() {
        assert_eq!("off".parse(), Ok(Toggle::<Address>::Off));
        assert_eq!("localhost:1".parse::<Toggle<Address>>().expect("an address").to_string(), "127.0.0.1:1");
        assert!("127.0.0.1:1,127.0.0.1:2".parse::<Toggle<Address>>().is_err());
    }
}
