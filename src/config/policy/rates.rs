//! Bandwidth limits that rules set for a path.

use crate::config::{Auto, ByteCount, Rule, Toggle};

/// Bandwidth limits of rules. `None`: the limit of the whole server applies.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RuleRates {
    /// Of one client.
    pub(crate) client: Option<RuleRate>,
    /// What a client may take at once.
    pub(crate) client_burst: Option<Auto<ByteCount>>,
    /// Of one connection.
    pub(crate) connection: Option<Toggle<ByteCount>>,
}

/// The rate of a client under a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RuleRate {
    pub(crate) rate: Toggle<ByteCount>,
    /// The number of the rule that says it: all its paths draw on one allowance.
    pub(crate) rule: usize,
}

impl RuleRates {
    /// What those `rules` say together that match, which come with their numbers; none where that is nothing.
    pub(super) fn of<'a>(rules: impl Iterator<Item = (usize, &'a Rule)>) -> Option<Self> {
        let mut rates = Self { client: None, client_burst: None, connection: None };
        for (number, Rule { effects, .. }) in rules {
            let client = effects.rate_client.map(|rate| RuleRate { rate, rule: number });
            rates.client = rates.client.or(client);
            rates.client_burst = rates.client_burst.or(effects.rate_client_burst);
            rates.connection = rates.connection.or(effects.rate_connection);
        }
        let says_nothing =
            rates.client.is_none() && rates.client_burst.is_none() && rates.connection.is_none();
        (!says_nothing).then_some(rates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{PathGlobs, RuleEffects};

    #[test]
    fn each_rate_is_that_of_the_first_rule_that_gives_one() {
        let rule = |effects| Rule { path: PathGlobs::new(vec!["**".to_owned()]).unwrap(), effects };
        let given = |kib| Some(Toggle::Given(ByteCount::kib(kib)));
        let rules = [
            rule(RuleEffects::default()),
            rule(RuleEffects { rate_connection: Some(Toggle::Off), ..RuleEffects::default() }),
            rule(RuleEffects { rate_client: given(2), rate_connection: given(3), ..RuleEffects::default() }),
            rule(RuleEffects { rate_client: given(4), ..RuleEffects::default() }),
        ];
        let rates = RuleRates::of(rules.iter().enumerate()).unwrap();
        let rate = Toggle::Given(ByteCount::kib(2));
        assert_eq!(rates.client, Some(RuleRate { rate, rule: 2 }));
        assert_eq!(rates.connection, Some(Toggle::Off));
        assert_eq!(RuleRates::of(rules[..1].iter().enumerate()), None);
    }
}
