//! `/status`: the numbers of the table of metrics as one JSON object.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::json;

use super::context::ServerContext;
use super::readings::Readings;
use super::registry::metric::{Series, Value};
use super::registry::table::METRICS;
use super::respond;

pub(super) async fn status(server: Arc<ServerContext>, _: HttpRequest) -> HttpResponse {
    let now = Readings::new(&server);
    respond::json(StatusCode::OK, &status_of(&all_series(&now)))
}

/// All series of the table at one moment.
pub(super) fn all_series(now: &Readings) -> Vec<Series<'_>> {
    METRICS.iter().flat_map(|metric| (metric.series)(now)).collect()
}

/// The series that have a place on `/status`, as nested JSON objects. Keys keep the order in which they first occur.
pub(super) fn status_of(series: &[Series<'_>]) -> serde_json::Value {
    let mut status = json!({});
    for Series { status: path, value, limit, .. } in series {
        if path.is_empty() || matches!(value, Value::Missing) {
            continue;
        }
        let place = path.split('.').fold(&mut status, |object, key| &mut object[key]);
        match limit {
            None => *place = json!(value),
            Some(limit) => {
                place["now"] = json!(value);
                place["limit"] = json!(limit);
            }
        }
    }
    status
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
