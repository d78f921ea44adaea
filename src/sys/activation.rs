//! Sockets that a service manager has opened for the process: `LISTEN_FDS` and its like, sd_listen_fds(3).

/// Descriptors that a service manager has handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ActivationInfo {
    /// The first descriptor; the others follow it.
    pub(crate) first: u32,
    /// A name for each descriptor, empty if it has none.
    pub(crate) names: Vec<String>,
}

impl ActivationInfo {
    /// Reads the variables for the process `pid`. `None` if they are absent, or meant for another process.
    ///
    /// # Errors
    /// If they are invalid or contradict each other.
    pub(crate) fn read(variable: impl Fn(&str) -> Option<String>, pid: u32) -> Result<Option<Self>, String> {
        let Some(count) = variable(COUNT) else { return Ok(None) };
        let is_ours = |text: &String| text.is_empty() || text.parse() == Ok(pid);
        if !variable("LISTEN_PID").as_ref().is_none_or(is_ours) {
            return Ok(None);
        }
        let count = match count.parse::<usize>() {
            Ok(count @ 0..=DESCRIPTORS_MAX) => count,
            _ => return Err(format!("{COUNT}={count} is no number from 0 to {DESCRIPTORS_MAX}")),
        };
        let names = match variable(NAMES) {
            Some(names) if count > 0 => names.split(':').map(str::to_owned).collect(),
            _ => vec![String::new(); count],
        };
        if names.len() != count {
            return Err(format!("{NAMES} has {} names for the {count} descriptors of {COUNT}", names.len()));
        }
        if names.iter().filter(|name| *name == ADMIN).count() > 1 {
            return Err(format!("{NAMES} has more than one descriptor with the name {ADMIN}"));
        }
        let first = variable("LISTEN_FDS_FIRST_FD").and_then(|first| first.parse().ok());
        Ok(Some(Self { first: first.unwrap_or(FIRST), names }))
    }

    /// Reads the environment of this process.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn of_this_process() -> Result<Option<Self>, String> {
        Self::read(|name| std::env::var(name).ok(), std::process::id())
    }

    /// Descriptors for traffic: all but the one named `admin`.
    pub(crate) fn traffic(&self) -> usize {
        self.names.iter().filter(|name| *name != ADMIN).count()
    }
}

/// The name of the descriptor that takes the place of the admin listener.
pub(crate) const ADMIN: &str = "admin";

/// The name of descriptors for HTTPS.
pub(crate) const HTTPS: &str = "https";

const COUNT: &str = "LISTEN_FDS";
const NAMES: &str = "LISTEN_FDNAMES";

/// `SD_LISTEN_FDS_START`
const FIRST: u32 = 3;

/// More sockets than anybody listens on.
const DESCRIPTORS_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<ActivationInfo>, String> {
        let found = |name: &str| variables.iter().find(|(known, _)| *known == name);
        ActivationInfo::read(|name| found(name).map(|(_, value)| (*value).to_owned()), 7)
    }

    #[test]
    fn sockets_are_ours_when_they_are_announced_to_us() {
        for (variables, names) in [
            (&[][..], None),
            (&[("LISTEN_PID", "7")], None),
            (&[("LISTEN_FDS", "1"), ("LISTEN_PID", "8")], None),
            (&[("LISTEN_FDS", "1"), ("LISTEN_PID", "x")], None),
            (&[("LISTEN_FDS", "0"), ("LISTEN_PID", "7"), ("LISTEN_FDNAMES", "")], Some(&[][..])),
            (&[("LISTEN_FDS", "1")], Some(&[""])),
            (&[("LISTEN_FDS", "2"), ("LISTEN_PID", "7")], Some(&["", ""])),
            (&[("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "admin:http")], Some(&["admin", "http"])),
        ] {
            let announced = read(variables).expect("it can be so");
            let expected = names.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
            assert_eq!(announced.map(|announced| announced.names), expected, "{variables:?}");
        }
    }

    #[test]
    fn what_cannot_be_so_is_refused() {
        for (count, names, reported) in [
            ("x", "", "LISTEN_FDS=x is no number"),
            ("-1", "", "LISTEN_FDS=-1 is no number"),
            ("99999999", "", "LISTEN_FDS=99999999 is no number"),
            ("2", "a", "1 names for the 2 descriptors"),
            ("2", "admin:admin", "more than one descriptor with the name admin"),
        ] {
            let refused = read(&[("LISTEN_FDS", count), ("LISTEN_FDNAMES", names)]).unwrap_err();
            assert!(refused.contains(reported), "{refused}");
        }
    }

    #[test]
    fn the_admin_listener_is_no_traffic() {
        let announced = read(&[("LISTEN_FDS", "3"), ("LISTEN_FDNAMES", "a:admin:b")]).unwrap().unwrap();
        assert_eq!((announced.first, announced.traffic()), (3, 2));
    }
}
