//! `/status`: the numbers of the table of metrics as one JSON object.

use std::future::ready;

use actix_web::http::StatusCode;
use actix_web::web::ServiceConfig;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::readings::{Gauges, Readings};
use super::registry::metric::{Series, Value};
use super::registry::table::METRICS;
use super::respond::{Allow, json, route};

/// Values by path, as nested JSON objects. A path is keys joined by dots. Keys keep the order in which they first occur.
pub(super) struct StatusObject<'a, P>(Vec<(P, &'a Value<'a>)>);

impl Gauges {
    /// Adds the route to an App.
    pub(crate) fn configure_status(&self, app: &mut ServiceConfig) {
        let gauges = self.clone();
        route(app, "/status", Allow::GetHead, move |_| {
            let now = gauges.read();
            ready(json(StatusCode::OK, &status_of(&all_series(&now))))
        });
    }
}

/// All series of the table at one moment.
pub(super) fn all_series(now: &Readings) -> Vec<Series<'_>> {
    METRICS.iter().flat_map(|metric| (metric.series)(now)).collect()
}

/// The series that have a place on `/status`.
pub(super) fn status_of<'a>(series: &'a [Series<'a>]) -> StatusObject<'a, String> {
    let mut values = Vec::new();
    for Series { status, value, limit, .. } in series {
        match limit {
            _ if status.is_empty() || matches!(value, Value::Missing) => {}
            None => values.push((status.to_string(), value)),
            Some(limit) => {
                values.push((format!("{status}.now"), value));
                values.push((format!("{status}.limit"), limit));
            }
        }
    }
    StatusObject(values)
}

impl<P: AsRef<str>> StatusObject<'_, P> {
    /// The values below `key`, by the rest of their paths.
    fn below(&self, key: &str) -> StatusObject<'_, &str> {
        let values = self.0.iter();
        StatusObject(values.filter_map(|(path, value)| Some((rest(path.as_ref(), key)?, *value))).collect())
    }
}

impl<P: AsRef<str>> Serialize for StatusObject<'_, P> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let mut objects = Vec::new();
        for (path, value) in &self.0 {
            let Some((key, _)) = path.as_ref().split_once('.') else {
                map.serialize_entry(path.as_ref(), value)?;
                continue;
            };
            if !objects.contains(&key) {
                objects.push(key);
                map.serialize_entry(key, &self.below(key))?;
            }
        }
        map.end()
    }
}

/// What follows the first key of a path, if that is `key`.
fn rest<'a>(path: &'a str, key: &str) -> Option<&'a str> {
    path.strip_prefix(key)?.strip_prefix('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_nested_objects_in_the_order_of_the_series() {
        let series = [
            Series::new(1_u64).status("b.x"),
            Series::new(true).status("a"),
            Series::new(2_u64).status("b").limit(3_u64),
            Series::new(7_u64),
            Series::new(None::<u64>).status("b.missing"),
            Series::new("text").status("b.y.z"),
        ];
        let text = serde_json::to_string(&status_of(&series)).unwrap();
        assert_eq!(text, r#"{"b":{"x":1,"now":2,"limit":3,"y":{"z":"text"}},"a":true}"#);
    }
}
