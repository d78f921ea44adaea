//! How series are written. Labels are words of this program or of its operators, never of a client.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::telemetry::metrics::histogram::{BOUNDS, HistogramTotals};

/// What metrics are written to.
pub(super) struct MetricsPage<'a> {
    pub(super) encoder: DescriptorEncoder<'a>,
}

/// A label and its value.
pub(super) type Label = (&'static str, &'static str);

impl MetricsPage<'_> {
    /// A count since the start. Its series is `name` with `_total`.
    pub(super) fn counter(&mut self, name: &str, help: &str, count: impl EncodeCounterValue) -> fmt::Result {
        write_counter(&mut self.family(name, help, MetricType::Counter)?, count)
    }

    /// The same, apart for each set of labels.
    pub(super) fn counters<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        counts: impl IntoIterator<Item = ([Label; N], u64)>,
    ) -> fmt::Result {
        let mut family = self.family(name, help, MetricType::Counter)?;
        for (labels, count) in counts {
            write_counter(&mut family.encode_family(&labels)?, count)?;
        }
        Ok(())
    }

    /// A number as it is now.
    pub(super) fn gauge(&mut self, name: &str, help: &str, now: f64) -> fmt::Result {
        self.family(name, help, MetricType::Gauge)?.encode_gauge(&now)
    }

    /// The same, apart for each set of labels.
    pub(super) fn gauges(
        &mut self,
        name: &str,
        help: &str,
        numbers: impl IntoIterator<Item = (Label, f64)>,
    ) -> fmt::Result {
        let mut family = self.family(name, help, MetricType::Gauge)?;
        for (label, now) in numbers {
            family.encode_family(&[label])?.encode_gauge(&now)?;
        }
        Ok(())
    }

    /// The same, with labels that operators chose.
    pub(super) fn gauges_by<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        numbers: impl IntoIterator<Item = ([(&'static str, String); N], f64)>,
    ) -> fmt::Result {
        let mut family = self.family(name, help, MetricType::Gauge)?;
        for (labels, now) in numbers {
            family.encode_family(&labels)?.encode_gauge(&now)?;
        }
        Ok(())
    }

    /// A number as it is now, and as `name` with `_limit` what it may not exceed: +Inf where there is no limit.
    pub(super) fn bounded(&mut self, name: &str, help: &str, now: f64, limit: f64) -> fmt::Result {
        self.gauge(name, help, now)?;
        self.gauge(&format!("{name}_limit"), &format!("What {name} may not exceed."), limit)
    }

    /// What is always so.
    pub(super) fn info(&mut self, name: &str, help: &str, label: Label) -> fmt::Result {
        self.family(name, help, MetricType::Info)?.encode_info(&[label])
    }

    /// Durations, in seconds.
    pub(super) fn durations(&mut self, name: &str, help: &str, durations: &HistogramTotals) -> fmt::Result {
        let bounds = BOUNDS.iter().map(|bound| seconds(*bound)).chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(durations.counts).collect();
        self.family(name, help, MetricType::Histogram)?.encode_histogram::<NoLabelSet>(
            seconds(durations.nanoseconds),
            durations.count(),
            &buckets,
            None,
        )
    }

    fn family<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.encoder.encode_descriptor(name, help, None, kind)
    }
}

fn write_counter(encoder: &mut MetricEncoder<'_>, count: impl EncodeCounterValue) -> fmt::Result {
    encoder.encode_counter::<NoLabelSet, _, f64>(&count, None)
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}
