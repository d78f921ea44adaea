//! Every number that the server reports, declared once: `/metrics`, `/status` and the dashboard read the same table.
//!
//! `metric` defines a row, `table` holds the rows, `families` computes rows with several labels. A new number is one row.

mod families;
pub(crate) mod metric;
pub(crate) mod table;
