//! Bandwidth of one client over all its connections.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::sys::gcra::AtomicGcra;

/// Buckets of one client: one for the site, and one for each rule with a rate of its own that it has used.
#[derive(Debug, Default)]
pub(crate) struct ClientBuckets {
    site: Arc<AtomicGcra>,
    by_rule: Mutex<Vec<(usize, Arc<AtomicGcra>)>>,
}

impl ClientBuckets {
    /// The bucket of the rule with this number; `None`: the bucket of the site.
    pub(crate) fn bucket(&self, rule: Option<usize>) -> Arc<AtomicGcra> {
        let Some(rule) = rule else { return Arc::clone(&self.site) };
        let mut by_rule = self.by_rule.lock();
        if let Some((_, bucket)) = by_rule.iter().find(|(known, _)| *known == rule) {
            return Arc::clone(bucket);
        }
        let bucket = Arc::new(AtomicGcra::default());
        by_rule.push((rule, Arc::clone(&bucket)));
        bucket
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_has_a_bucket_of_its_own() {
        let buckets = ClientBuckets::default();
        let bucket = |rule| buckets.bucket(rule);
        let reserve = |rule| bucket(rule).update(|gcra| gcra.reserve(10, 5, 0));
        reserve(Some(1));
        for (rule, expected) in [(None, 10), (Some(1), 15), (Some(2), 10)] {
            assert_eq!(reserve(rule), expected, "{rule:?}");
        }
    }
}
