//! What becomes of a configuration that is read again while the server runs.

use super::error::shortened;
use crate::config::settings_table::{Config, SETTINGS, Setting, TakesEffect};

/// A new configuration beside the one in effect.
#[derive(Debug)]
pub(crate) struct ConfigChange {
    /// What is in effect from now on: the new one, but for what needs a restart.
    pub(crate) config: Config,
    /// Knobs that have another value now.
    pub(crate) applied: Vec<&'static Setting>,
    /// Knobs of which another value was read than is in effect until the next start.
    pub(crate) postponed: Vec<&'static Setting>,
    /// Whether the `[[rule]]` tables are others.
    pub(crate) has_new_rules: bool,
}

impl ConfigChange {
    /// What `new` changes of `old`.
    pub(crate) fn between(old: &Config, new: Config) -> Self {
        let is_other = |knob: &&Setting| !knob.is_same(old, &new);
        let (applied, postponed): (Vec<_>, Vec<_>) =
            SETTINGS.iter().filter(is_other).partition(|knob| knob.takes_effect == TakesEffect::Live);
        let has_new_rules = old.rules != new.rules;
        let mut config = new;
        for knob in &postponed {
            knob.copy(&mut config, old);
        }
        Self { config, applied, postponed, has_new_rules }
    }

    /// What has changed, in words: `head_timeout = 5s (was 10s), rules`. Empty where nothing has.
    pub(crate) fn describe(&self, old: &Config) -> String {
        let knobs = self.applied.iter().map(|knob| {
            let (is, was) = (knob.value(&self.config), knob.value(old));
            format!("{} = {} (was {})", knob.key, shortened(&is), shortened(&was))
        });
        let rules = self.has_new_rules.then(|| "rules".to_owned());
        knobs.chain(rules).collect::<Vec<_>>().join(", ")
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
        let keys = |knobs: &[&Setting]| knobs.iter().map(|knob| knob.key).collect::<Vec<_>>();
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
