//! What one client may send, over all its connections.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::sys::rate_bucket::RateBucket;

/// The buckets of one client: the site's, and one for each rule with a rate of its own that it has asked under.
#[derive(Debug, Default)]
pub(crate) struct ClientBuckets {
    site: Arc<RateBucket>,
    by_rule: Mutex<Vec<(usize, Arc<RateBucket>)>>,
}

impl ClientBuckets {
    /// The bucket of the rule of that number; none is the site's own.
    pub(crate) fn bucket(&self, rule: Option<usize>) -> Arc<RateBucket> {
        let Some(rule) = rule else { return Arc::clone(&self.site) };
        let mut by_rule = self.by_rule.lock();
        if let Some((_, bucket)) = by_rule.iter().find(|(known, _)| *known == rule) {
            return Arc::clone(bucket);
        }
        let bucket = Arc::new(RateBucket::default());
        by_rule.push((rule, Arc::clone(&bucket)));
        bucket
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_has_a_bucket_of_its_own() {
        let allowances = ClientBuckets::default();
        let bucket = |rule| allowances.bucket(rule);
        bucket(Some(1)).reserve(10, 5, 0);
        for (rule, expected) in [(None, 10), (Some(1), 15), (Some(2), 10)] {
            assert_eq!(bucket(rule).reserve(10, 5, 0), expected, "{rule:?}");
        }
    }
}
