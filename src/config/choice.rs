//! Settings with a few words as values.

use std::fmt;
use std::str::FromStr;

use super::setting::{TomlForms, ValueError, setting_value};
use crate::http::named_enum::named_enum;

/// Declares enums whose variants are words.
macro_rules! words {
    ($($(#[$attribute:meta])* $name:ident { $($(#[$about:meta])* $variant:ident = $word:literal,)+ })+) => {$(
        named_enum! {
            $(#[$attribute])*
            pub enum $name {
                $($(#[$about])* #[doc = concat!("Written `", $word, "`.")] $variant => $word,)+
            }
        }

        impl FromStr for $name {
            type Err = ValueError;

            fn from_str(text: &str) -> Result<Self, ValueError> {
                let unknown = if text.is_empty() { "is empty" } else { "is not one of the accepted words" };
                Self::named(text.to_ascii_lowercase().as_bytes()).ok_or(ValueError::new(unknown))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        setting_value!($name: "WORD", TomlForms::TEXT, [$($word),+].join(" or "));
    )+};
}

words! {
    /// Which symbolic links below the root are followed.
    Symlinks {
        /// Those that end inside the root.
        Inside = "inside",
        /// None: a link is answered as if it were absent.
        Deny = "deny",
    }

    /// Whether connections begin with a header of the PROXY protocol, in which a proxy names its client.
    ProxyProtocol {
        /// No: a header is a malformed request.
        Off = "off",
        /// They may, from trusted peers.
        On = "on",
        /// All do: a connection without one is closed.
        Require = "require",
    }

    /// The header in which trusted proxies name the client.
    ClientField {
        /// Either. If both are present and name different clients, neither is used.
        Auto = "auto",
        /// `Forwarded` (RFC 7239).
        Forwarded = "forwarded",
        /// `X-Forwarded-For`.
        XForwardedFor = "x-forwarded-for",
    }

    /// Oldest version of TLS that is accepted.
    TlsVersion {
        /// TLS 1.2 (RFC 5246), with forward secrecy and authenticated encryption only.
        V12 = "1.2",
        /// TLS 1.3 (RFC 8446).
        V13 = "1.3",
    }

    /// Format of the access log.
    AccessLogFormat {
        /// A JSON object with all fields.
        Json = "json",
        /// The combined log format that log analysers read.
        Combined = "combined",
    }

    /// Format of the diagnostics log.
    LogFormat {
        /// For people.
        Text = "text",
        /// A JSON object.
        Json = "json",
    }

    /// Which responses carry the id of their request.
    RequestIds {
        /// All, if an access log is written.
        Auto = "auto",
        /// All.
        On = "on",
        /// None.
        Off = "off",
    }

    /// Whether names that begin with a dot are served. `.well-known` always is.
    Dotfiles {
        /// No: they are answered as if they were absent.
        Deny = "deny",
        /// Yes.
        Allow = "allow",
    }

    /// Redirects between paths with and without a slash at their end.
    TrailingSlash {
        /// A directory has one: a path without it is redirected.
        Add = "add",
        /// Only the root has one: a path with it is redirected.
        Remove = "remove",
        /// None: both paths are answered.
        Ignore = "ignore",
    }

    /// Source of entity tags.
    EtagSource {
        /// The version: device, inode, size and times.
        Version = "version",
        /// A hash of the bytes: the same on every machine.
        Content = "content",
    }

    /// Use of a checksum file beside a file.
    Verify {
        /// None: it is a file like any other.
        Off = "off",
        /// The file is served only if its checksum matches.
        Serve = "serve",
    }

    /// Sites that may embed the response (the Fetch standard, §3.7).
    ResourcePolicy {
        /// No header, which browsers take for all.
        Off = "off",
        /// Pages of the same origin only.
        SameOrigin = "same-origin",
        /// Pages of the same site only.
        SameSite = "same-site",
        /// All, including pages that require this header.
        CrossOrigin = "cross-origin",
    }

    /// What browsers do with a file (RFC 6266).
    Disposition {
        /// They show it, if they can.
        Inline = "inline",
        /// They store it.
        Attachment = "attachment",
    }
}

/// Something that is on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnOff {
    /// Written `on`, `true`, `yes` or `1`.
    On,
    /// Written `off`, `false`, `no` or `0`.
    Off,
}

impl OnOff {
    /// Whether it is on.
    pub fn is_on(self) -> bool {
        self == Self::On
    }
}

impl FromStr for OnOff {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.to_ascii_lowercase().as_str() {
            "" => Err(ValueError::EMPTY),
            "on" | "true" | "yes" | "1" => Ok(Self::On),
            "off" | "false" | "no" | "0" => Ok(Self::Off),
            _ => Err(ValueError::new("is neither on nor off")),
        }
    }
}

impl fmt::Display for OnOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_on() { "on" } else { "off" })
    }
}

setting_value!(
    OnOff: "on|off", TomlForms { boolean: true, ..TomlForms::INTEGER },
    "on or off (also true or false, yes or no, 1 or 0)"
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SettingValue;

    #[test]
    fn a_switch_knows_four_ways_to_say_on_and_off() {
        for text in ["on", "true", "yes", "1", "ON", "True"] {
            assert_eq!(text.parse(), Ok(OnOff::On), "{text}");
        }
        for text in ["off", "false", "no", "0", "Off"] {
            assert_eq!(text.parse(), Ok(OnOff::Off), "{text}");
        }
        for (text, reason) in
            [("", "is empty"), ("maybe", "is neither on nor off"), ("2", "is neither on nor off")]
        {
            assert_eq!(text.parse::<OnOff>(), Err(ValueError::new(reason)), "{text}");
        }
    }

    #[test]
    fn words_are_read_in_either_case_and_written_in_lower_case() {
        assert_eq!("Deny".parse(), Ok(Symlinks::Deny));
        assert_eq!(Symlinks::Inside.to_string(), "inside");
        assert_eq!("allow".parse(), Ok(Dotfiles::Allow));
        assert_eq!("follow".parse::<Symlinks>(), Err(ValueError::new("is not one of the accepted words")));
        assert_eq!(Symlinks::accepted(&()), "inside or deny");
    }
}
