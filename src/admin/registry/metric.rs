//! A declared metric and the series that it yields.

use std::borrow::Cow;

use serde::Serialize;

use crate::admin::readings::Readings;
use crate::config::Toggle;
use crate::telemetry::metrics::counter::Counter;
use crate::telemetry::metrics::histogram::Histogram;

/// A row of the table: one metric family of `/metrics`, or numbers that only `/status` or the dashboard have.
pub(crate) struct Metric {
    pub(crate) kind: MetricKind,
    /// Name without the suffixes that Prometheus adds. Empty if not on `/metrics`.
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) series: fn(&Readings) -> Vec<Series<'_>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetricKind {
    Counter,
    Gauge,
    Histogram,
    Info,
    /// Not on `/metrics`.
    Hidden,
}

/// One number of a metric.
#[derive(Debug)]
pub(crate) struct Series<'a> {
    pub(crate) labels: Vec<(&'static str, Cow<'a, str>)>,
    /// Keys on `/status`, joined by dots. Empty if not there. With a limit, `now` and `limit` are keys below it.
    pub(crate) status: Cow<'static, str>,
    /// Group and kind, joined by a dot, under which the dashboard lists the number as a problem. Numbers of one kind are
    /// added up. Empty if it is none, or if `status` says it already.
    pub(crate) problem: &'static str,
    pub(crate) value: Value<'a>,
    /// What `value` can't exceed. On `/metrics` a gauge named `…_limit`.
    pub(crate) limit: Option<Value<'a>>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Value<'a> {
    Integer(u64),
    Real(f64),
    Flag(bool),
    #[serde(skip)]
    Histogram(&'a Histogram),
    /// For `/status` only.
    Json(serde_json::Value),
    /// Unknown: the series is left out.
    Missing,
}

impl<'a> Series<'a> {
    pub(crate) fn new(value: impl Into<Value<'a>>) -> Self {
        let value = value.into();
        Self { labels: Vec::new(), status: Cow::Borrowed(""), problem: "", value, limit: None }
    }

    pub(crate) fn label(mut self, name: &'static str, value: impl Into<Cow<'a, str>>) -> Self {
        self.labels.push((name, value.into()));
        self
    }

    pub(crate) fn status(self, path: impl Into<Cow<'static, str>>) -> Self {
        Self { status: path.into(), ..self }
    }

    pub(crate) fn problem(self, problem: &'static str) -> Self {
        Self { problem, ..self }
    }

    pub(crate) fn limit(self, limit: impl Into<Value<'a>>) -> Self {
        Self { limit: Some(limit.into()), ..self }
    }

    /// Group and kind of the problem that the series counts.
    pub(crate) fn as_problem(&self) -> Option<(&str, &str, u64)> {
        let Value::Integer(count) = self.value else { return None };
        let declared = self.problem.split_once('.');
        let in_status = || self.status.split_once('.').filter(|(group, _)| PROBLEM_GROUPS.contains(group));
        let (group, kind) = declared.or_else(in_status)?;
        Some((group, kind, count))
    }
}

impl Value<'_> {
    /// The value of a gauge.
    pub(crate) fn as_f64(&self) -> f64 {
        match self {
            Self::Integer(number) => *number as f64,
            Self::Real(number) => *number,
            Self::Flag(is_set) => f64::from(u8::from(*is_set)),
            Self::Histogram(_) | Self::Json(_) | Self::Missing => f64::NAN,
        }
    }
}

macro_rules! value_from {
    ($($type:ty => $variant:expr,)*) => {$(
        impl<'a> From<$type> for Value<'a> {
            fn from(value: $type) -> Self {
                $variant(value)
            }
        }
    )*};
}

value_from! {
    u64 => Self::Integer,
    usize => |number| Self::Integer(number as u64),
    f64 => Self::Real,
    bool => Self::Flag,
    &str => |text: &str| Self::Json(text.into()),
    serde_json::Value => Self::Json,
    &Counter => |count: &Counter| Self::Integer(count.get()),
    &'a Histogram => Self::Histogram,
}

impl<'a, T: Into<Self>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Missing, Into::into)
    }
}

/// Returns a limit as a number: infinity if it is off.
pub(super) fn limit_of<T>(limit: &Toggle<T>, number: impl Fn(&T) -> f64) -> f64 {
    limit.given().map_or(f64::INFINITY, number)
}

/// Keys of `/status` below which all numbers are problems.
const PROBLEM_GROUPS: [&str; 3] = ["refused", "faults", "closed"];
