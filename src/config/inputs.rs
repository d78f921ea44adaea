//! What a configuration is loaded from, besides its file.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::nearest::nearest_key;
use super::settings_table::{VARIABLE_PREFIX, variable_of};
use super::{ConfigError, SETTINGS, Setting, ValueOrigin};
use crate::sys::system_facts::SystemFacts;

/// Inputs of the process, from which its configuration is loaded again on a reload.
#[derive(Debug, Clone, Default)]
pub struct ProcessInputs {
    /// The command line.
    pub command_line: TextLayer,
    /// The command that may have been meant by `ROOT`.
    pub similar_command: Option<&'static str>,
    /// What the command uses of the configuration.
    pub config_use: ConfigUse,
    /// The whole environment.
    pub variables: Vec<(OsString, OsString)>,
    /// Limits of the system.
    pub facts: SystemFacts,
}

/// Settings of the command line or of the environment, not parsed yet.
#[derive(Debug, Clone, Default)]
pub struct TextLayer {
    /// Path of the configuration file.
    pub config_file: Option<(OsString, ValueOrigin)>,
    /// The settings; of two values of a setting, the latter counts.
    pub settings: Vec<(&'static Setting, OsString, ValueOrigin)>,
}

/// What a command uses of the configuration. Only that is checked against the system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ConfigUse {
    /// All: the command opens sockets, or shows what would be served.
    #[default]
    Serving,
    /// The document root.
    Tree,
    /// The keys of signed URLs.
    LinkKeys,
    /// The settings alone.
    Settings,
}

/// The variable that names the file.
const CONFIG_VARIABLE: &str = "PAGECAST_CONFIG";

/// Selects the variables with the program's prefix, in the order of their names. Reports unknown ones.
pub(crate) fn read_environment(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    errors: &mut Vec<ConfigError>,
) -> TextLayer {
    let mut ours: Vec<(OsString, OsString)> = variables
        .into_iter()
        .filter(|(name, _)| name.as_bytes().starts_with(VARIABLE_PREFIX.as_bytes()))
        .collect();
    ours.sort();
    let mut environment = TextLayer::default();
    for (name, value) in ours {
        let name = name.to_string_lossy().into_owned();
        if name == CONFIG_VARIABLE {
            environment.config_file = Some((value, ValueOrigin::Variable(name)));
            continue;
        }
        match SETTINGS.iter().find(|setting| setting.variable() == name) {
            Some(setting) => environment.settings.push((setting, value, ValueOrigin::Variable(name))),
            None if is_service_link(&name, &value) => {}
            None => {
                let nearest = variable_of(nearest_key(&name, &["config"]));
                errors.push(ConfigError::Unknown { name, nearest });
            }
        }
    }
    environment
}

/// Whether the variable is one that Kubernetes sets in every container for a service named `pagecast` or
/// `pagecast-…`. No operator wrote those, so they must not keep the server from starting.
fn is_service_link(name: &str, value: &OsStr) -> bool {
    let words: Vec<&str> = name.split('_').collect();
    let is_port = |text: &str| text.parse::<u16>().is_ok();
    let is_protocol = |text: &str| matches!(text, "TCP" | "UDP" | "SCTP");
    match words.as_slice() {
        [.., "SERVICE", "HOST" | "PORT"] => true,
        [.., "PORT", port, protocol] | [.., "PORT", port, protocol, "PROTO" | "PORT" | "ADDR"] => {
            is_port(port) && is_protocol(protocol)
        }
        [.., "PORT"] => {
            let value = value.as_encoded_bytes();
            [b"tcp://".as_slice(), b"udp://", b"sctp://"].iter().any(|scheme| value.starts_with(scheme))
        }
        // A port with a name: PAGECAST_SERVICE_PORT_HTTP.
        _ => name.contains("_SERVICE_PORT_"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> (TextLayer, Vec<ConfigError>) {
        let mut errors = Vec::new();
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        let environment = read_environment(variables, &mut errors);
        (environment, errors)
    }

    #[test]
    fn variables_of_others_are_left_alone() {
        let (environment, errors) =
            read(&[("PATH", "/bin"), ("PAGECASTLE", "x"), ("RUST_LOG", "x"), ("MY_PAGECAST_X", "y")]);
        assert!(environment.settings.is_empty() && environment.config_file.is_none());
        assert_eq!(errors, []);
    }

    #[test]
    fn an_unknown_variable_is_reported_the_nearest() {
        let (_, errors) = read(&[("PAGECAST_WORKER", "1"), ("PAGECAST_PORT", "8080"), ("PAGECAST_", "")]);
        let reported: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(reported.len(), 3);
        assert_eq!(
            reported.last().map(String::as_str),
            Some("PAGECAST_WORKER is not known; the nearest known name is PAGECAST_WORKERS")
        );
    }

    #[test]
    fn what_kubernetes_sets_for_a_service_of_our_name_is_no_error() {
        let (_, errors) = read(&[
            ("PAGECAST_SERVICE_HOST", "10.0.0.1"),
            ("PAGECAST_SERVICE_PORT", "80"),
            ("PAGECAST_SERVICE_PORT_HTTP", "80"),
            ("PAGECAST_PORT", "tcp://10.0.0.1:80"),
            ("PAGECAST_PORT_80_TCP", "tcp://10.0.0.1:80"),
            ("PAGECAST_PORT_80_TCP_PROTO", "tcp"),
            ("PAGECAST_PORT_80_TCP_PORT", "80"),
            ("PAGECAST_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("PAGECAST_ADMIN_SERVICE_HOST", "10.0.0.2"),
        ]);
        assert_eq!(errors, []);
    }

    #[cfg(unix)]
    #[test]
    fn a_name_that_is_not_utf_8_is_an_error_and_no_panic() {
        use std::os::unix::ffi::OsStringExt;
        let mut errors = Vec::new();
        let name = OsString::from_vec(b"PAGECAST_\xff".to_vec());
        read_environment([(name, OsString::new())], &mut errors);
        assert_eq!(errors.len(), 1);
    }
}
