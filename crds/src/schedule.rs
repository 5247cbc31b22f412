//! `scaling.schedules`: windows of time with bounds of their own, so that capacity is there before the calls are.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// A window of time with bounds of its own. Every `start` opens it, every `end` closes it, whatever days lie between,
/// so a window may go over midnight. `smallest up` has no use for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(parses("start")).message(
    "start must be cron of five fields (minute, hour, day of month, month, day of week), such as 0 7 * * 1-5: \
     correct it"
))]
#[x_kube(validation = Rule::new(parses("end")).message(
    "end must be cron of five fields (minute, hour, day of month, month, day of week), such as 0 20 * * 1-5: \
     correct it"
))]
#[x_kube(validation = Rule::new("self.start != self.end").message(
    "start and end must not be the same time: a window needs a length, so change one of them"
))]
#[x_kube(validation = Rule::new("self.timeZone.matches('^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$')").message(
    "timeZone must be a name of the IANA database, such as Europe/Berlin: correct it, or leave it out for Etc/UTC"
))]
#[x_kube(validation = Rule::new("!has(self.maxReplicas) || self.minReplicas <= self.maxReplicas").message(
    "minReplicas of a schedule must not be above its maxReplicas: lower minReplicas or raise maxReplicas"
))]
pub struct Schedule {
    /// Name by which status tells which schedule holds.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub name: String,
    /// Time zone of `start` and `end`, by its IANA name.
    #[serde(default = "Schedule::default_time_zone")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,
    /// When the window opens, as cron: minute, hour, day of month, month, day of week (0 and 7 are Sunday).
    #[schemars(length(min = 9, max = 100))]
    pub start: String,
    /// When it closes, as cron.
    #[schemars(length(min = 9, max = 100))]
    pub end: String,
    /// Fewest replicas while the window is open, instead of `scaling.minReplicas`.
    #[schemars(range(min = 0, max = 10_000))]
    pub min_replicas: u32,
    /// Most replicas while the window is open; `scaling.maxReplicas` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_replicas: Option<u32>,
}

impl Schedule {
    fn default_time_zone() -> String {
        "Etc/UTC".to_owned()
    }
}

/// The rule that a field is cron. What a pattern cannot see, such as the 31st of February, the operator refuses.
fn parses(field: &str) -> String {
    let fields = [
        list("[0-5]?[0-9]"),
        list("([01]?[0-9]|2[0-3])"),
        list("(0?[1-9]|[12][0-9]|3[01])"),
        list("(0?[1-9]|1[0-2]|JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC)"),
        list("([0-7]|SUN|MON|TUE|WED|THU|FRI|SAT)"),
    ];
    format!("self.{field}.matches('(?i)^{}$')", fields.join(" +"))
}

/// Values, ranges and steps of one field, with commas between them.
fn list(value: &str) -> String {
    let item = format!("([*]|{value}(-{value})?)(/[1-9][0-9]?)?");
    format!("{item}(,{item})*")
}
