//! Converts OpenMetrics to the Prometheus text format 0.0.4.
//!
//! The formats differ in the names of counters and info metrics in comments, in units, and in the last line.

use std::fmt::Write;

/// Converts the metrics to the older format.
pub(super) fn of(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    let mut lines = openmetrics.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some((name, help)) = comment(line, "# HELP ") {
            let kind = lines.peek().and_then(|line| comment(line, "# TYPE ")).map_or("", |(_, kind)| kind);
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                kind => ("", kind),
            };
            lines.next();
            let _ = writeln!(text, "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

fn comment<'a>(line: &'a str, what: &str) -> Option<(&'a str, &'a str)> {
    line.strip_prefix(what)?.split_once(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_info_metrics_have_their_suffix_in_comments_too() {
        let openmetrics = "# HELP a Made.\n# TYPE a counter\na_total{k=\"#\"} 1\n# HELP b Is.\n# TYPE b info\n\
                           b_info{v=\"1\"} 1\n# HELP c Now.\n# TYPE c gauge\n# UNIT c bytes\nc 2\n# EOF\n";
        let plain = "# HELP a_total Made.\n# TYPE a_total counter\na_total{k=\"#\"} 1\n# HELP b_info Is.\n\
                     # TYPE b_info gauge\nb_info{v=\"1\"} 1\n# HELP c Now.\n# TYPE c gauge\nc 2\n";
        assert_eq!(of(openmetrics), plain);
    }
}
