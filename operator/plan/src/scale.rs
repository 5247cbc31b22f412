//! What scaling goes by: names of the external metrics, their values from a [`Reading`], and the decisions that the
//! autoscaler cannot make (from zero, to zero, which pod goes first). Pure.
//!
//! Whoever makes an autoscaler's object and whoever serves its metrics take the names from here.

mod metric;

pub use metric::{LABEL_COMPONENT, LABEL_DEPLOYMENT, Metric, Unknown};
