//! Writes the table of metrics as OpenMetrics. Labels come from the program or its operators, never from a client.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::admin::readings::Readings;
use crate::admin::registry::metric::{Metric, MetricKind, Series, Value};
use crate::admin::registry::table::{METRICS, PROCESS_METRICS};
use crate::telemetry::metrics::counter::Counter;
use crate::telemetry::metrics::histogram::{BOUNDS, Histogram};

/// All metrics at one moment.
pub(super) struct MetricsPage(pub(super) Readings);

impl fmt::Debug for MetricsPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MetricsPage")
    }
}

impl Collector for MetricsPage {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for metric in METRICS.iter().chain(PROCESS_METRICS) {
            write_metric(&mut encoder, metric, &self.0)?;
        }
        Ok(())
    }
}

fn write_metric(encoder: &mut DescriptorEncoder<'_>, metric: &Metric, now: &Readings) -> fmt::Result {
    let kind = match metric.kind {
        MetricKind::Hidden => return Ok(()),
        MetricKind::Counter => MetricType::Counter,
        MetricKind::Gauge => MetricType::Gauge,
        MetricKind::Histogram => MetricType::Histogram,
        MetricKind::Info => MetricType::Info,
    };
    let mut series = (metric.series)(now);
    series.retain(|series| !matches!(series.value, Value::Missing | Value::Json(_)));
    if series.is_empty() {
        return Ok(());
    }
    let mut family = encoder.encode_descriptor(metric.name, metric.help, None, kind)?;
    for series in &series {
        write_series(&mut family, metric.kind, series, &series.value)?;
    }
    if series.iter().any(|series| series.limit.is_some()) {
        let (name, help) = (format!("{}_limit", metric.name), format!("Limit of {}.", metric.name));
        let mut family = encoder.encode_descriptor(&name, &help, None, MetricType::Gauge)?;
        for series in &series {
            if let Some(limit) = &series.limit {
                write_series(&mut family, MetricKind::Gauge, series, limit)?;
            }
        }
    }
    Ok(())
}

fn write_series(
    family: &mut MetricEncoder<'_>,
    kind: MetricKind,
    series: &Series<'_>,
    value: &Value<'_>,
) -> fmt::Result {
    if kind == MetricKind::Info {
        return family.encode_info(&series.labels);
    }
    if series.labels.is_empty() {
        write_value(family, kind, value)
    } else {
        write_value(&mut family.encode_family(&series.labels)?, kind, value)
    }
}

fn write_value(encoder: &mut MetricEncoder<'_>, kind: MetricKind, value: &Value<'_>) -> fmt::Result {
    match (kind, value) {
        (_, Value::Histogram(durations)) => write_histogram(encoder, durations),
        (MetricKind::Counter, Value::Integer(count)) => write_counter(encoder, count),
        (MetricKind::Counter, value) => write_counter(encoder, &value.as_f64()),
        (_, value) => encoder.encode_gauge(&value.as_f64()),
    }
}

fn write_counter(encoder: &mut MetricEncoder<'_>, count: &impl EncodeCounterValue) -> fmt::Result {
    encoder.encode_counter::<NoLabelSet, _, f64>(count, None)
}

/// Writes durations in seconds.
fn write_histogram(encoder: &mut MetricEncoder<'_>, durations: &Histogram) -> fmt::Result {
    let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
    let buckets: Vec<_> = bounds.zip(durations.counts.iter().map(Counter::get)).collect();
    let (sum, count) = (durations.nanoseconds.get() as f64 / 1e9, durations.count());
    encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
}
