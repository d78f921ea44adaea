//! Difference between a reloaded configuration and the one in effect.

use crate::config::{Config, SETTINGS, Setting, TakesEffect, shortened};

/// Difference between two configurations.
#[derive(Debug)]
pub(crate) struct ConfigChange {
    /// The configuration in effect from now on: the new one, except for settings that need a restart.
    pub(crate) config: Config,
    /// Settings that change now.
    pub(crate) applied: Vec<&'static Setting>,
    /// Settings whose new value takes effect at the next start.
    pub(crate) postponed: Vec<&'static Setting>,
    /// True if the `[[rule]]` tables differ.
    pub(crate) has_new_rules: bool,
}

impl ConfigChange {
    /// Compares `old` and `new`.
    pub(crate) fn between(old: &Config, new: Config) -> Self {
        let is_other = |setting: &&Setting| !(setting.is_same)(old, &new);
        let (applied, postponed): (Vec<_>, Vec<_>) =
            SETTINGS.iter().filter(is_other).partition(|setting| setting.takes_effect == TakesEffect::Live);
        let has_new_rules = old.rules != new.rules;
        let mut config = new;
        for setting in &postponed {
            (setting.copy)(&mut config, old);
        }
        Self { config, applied, postponed, has_new_rules }
    }

    /// Describes the change: `head_timeout = 5s (was 10s), rules`. Empty if nothing changed.
    pub(crate) fn describe(&self, old: &Config) -> String {
        let settings = self.applied.iter().map(|setting| {
            let (is, was) = ((setting.value)(&self.config), (setting.value)(old));
            format!("{} = {} (was {})", setting.key, shortened(&is), shortened(&was))
        });
        let rules = self.has_new_rules.then(|| "rules".to_owned());
        settings.chain(rules).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Address, ConnectionsGroup, DurationSetting, ListenList, ListeningGroup, Toggle};

    #[test]
    fn what_is_live_is_taken_over_and_what_needs_a_restart_stays() {
        let old = Config::default();
        let new = Config {
            connections: ConnectionsGroup {
                head_timeout: DurationSetting::seconds(5),
                ..ConnectionsGroup::default()
            }
            .into(),
            listening: ListeningGroup {
                listen: Toggle::Given(ListenList::one(Address::Tcp(([127, 0, 0, 1], 1).into()))),
                ..ListeningGroup::default()
            }
            .into(),
            ..Config::default()
        };
        let change = ConfigChange::between(&old, new);
        let keys = |settings: &[&Setting]| settings.iter().map(|setting| setting.key).collect::<Vec<_>>();
        assert_eq!(keys(&change.applied), ["head_timeout"]);
        assert_eq!(keys(&change.postponed), ["listen"]);
        assert!(!change.has_new_rules);
        let expected = Config {
            connections: ConnectionsGroup {
                head_timeout: DurationSetting::seconds(5),
                ..ConnectionsGroup::default()
            }
            .into(),
            ..Config::default()
        };
        assert_eq!(change.config, expected);
        assert_eq!(change.describe(&old), "head_timeout = 5s (was 10s)");
    }

    #[test]
    fn the_same_again_changes_nothing() {
        let change = ConfigChange::between(&Config::default(), Config::default());
        assert!(change.applied.is_empty() && change.postponed.is_empty());
        assert_eq!(change.describe(&Config::default()), "");
    }
}
