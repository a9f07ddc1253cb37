//! When a schedule is due: daylight saving, windows, freezes, and what was missed. All in made-up time.

use squall_experiments::parse;
use squall_experiments::schedule::Schedule;
use squall_experiments::schedule::due::Decision;

const HOUR_MS: i64 = 3_600_000;

fn schedule(cron: &str, zone: &str, more: &str) -> Schedule {
    let text = format!(
        "apiVersion: squall/v1\nkind: Schedule\nmetadata: {{name: nightly}}\ncron: \"{cron}\"\ntimeZone: {zone}\n\
         run: {{catalogue: baseline}}\n{more}"
    );
    parse::schedule("schedule.yaml", &text).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn ms(instant: &str) -> i64 {
    instant.parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

fn utc(at_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(at_ms).unwrap().to_string()
}

/// The next slots after `after`, as UTC without the year's beginning and the seconds.
fn next(schedule: &Schedule, after: &str, count: usize) -> Vec<String> {
    schedule.slots_after(ms(after)).take(count).map(|slot| utc(slot.at_ms)).collect()
}

#[test]
fn a_time_that_the_clocks_skip_is_moved_to_their_jump() {
    for (zone, cron, before, jump, after) in [
        ("Europe/Berlin", "30 2 * * *", "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"),
        ("Europe/Dublin", "15 1 * * *", "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:15:00Z"),
        ("America/New_York", "30 2 * * *", "2026-03-07T12:00:00Z", "2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"),
        // At midnight: the day itself begins an hour late.
        ("America/Santiago", "0 0 * * *", "2026-09-05T12:00:00Z", "2026-09-06T04:00:00Z", "2026-09-07T03:00:00Z"),
        // By half an hour.
        ("Australia/Lord_Howe", "15 2 * * *", "2026-10-03T00:00:00Z", "2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"),
        // A whole day that never was.
        ("Pacific/Apia", "0 12 30 12 *", "2011-12-01T00:00:00Z", "2011-12-30T10:00:00Z", "2012-12-29T22:00:00Z"),
    ] {
        let schedule = schedule(cron, zone, "");
        assert_eq!(next(&schedule, before, 2), [jump, after], "{zone}");
        assert!(schedule.next_after(ms(before)).unwrap().moved, "{zone}");
    }
}

#[test]
fn a_time_that_comes_twice_counts_the_first_time_only() {
    for (zone, cron, before, first, after) in [
        ("Europe/Berlin", "30 2 * * *", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"),
        ("America/New_York", "30 1 * * *", "2026-10-31T12:00:00Z", "2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"),
        ("America/Santiago", "30 23 * * *", "2026-04-04T12:00:00Z", "2026-04-05T02:30:00Z", "2026-04-06T03:30:00Z"),
        ("Australia/Lord_Howe", "45 1 * * *", "2026-04-04T00:00:00Z", "2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"),
    ] {
        let schedule = schedule(cron, zone, "");
        assert_eq!(next(&schedule, before, 2), [first, after], "{zone}");
        // Asked between the first time and the second, or right after it, the second is not there.
        let late = utc(ms(first) + HOUR_MS / 2);
        assert_eq!(next(&schedule, &late, 1), [after], "{zone}");
    }
}

#[test]
fn all_times_that_one_jump_skips_are_one_slot() {
    let quarter = schedule("*/15 * * * *", "Europe/Berlin", "");
    let slots = next(&quarter, "2026-03-29T00:40:00Z", 3);
    assert_eq!(slots, ["2026-03-29T00:45:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:15:00Z"]);
    let hourly = schedule("0 * * * *", "Europe/Berlin", "");
    // In autumn the hour that comes twice is served once: two hours pass between two slots.
    let slots = next(&hourly, "2026-10-24T23:30:00Z", 3);
    assert_eq!(slots, ["2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z", "2026-10-25T03:00:00Z"]);
}

#[test]
fn a_zone_without_daylight_saving_has_one_slot_a_day() {
    let nightly = schedule("30 2 * * *", "Asia/Kathmandu", "");
    let slots: Vec<_> = nightly.slots_after(ms("2026-01-01T00:00:00Z")).take(366).collect();
    assert!(slots.windows(2).all(|pair| pair[1].at_ms - pair[0].at_ms == 24 * HOUR_MS));
    assert_eq!(slots[0].local, "2026-01-02T02:30:00+05:45[Asia/Kathmandu]");
}

#[test]
fn over_two_years_every_day_has_exactly_one_slot_in_every_zone_and_none_comes_twice() {
    for zone in ["Europe/Berlin", "America/New_York", "America/Santiago", "Australia/Lord_Howe", "Africa/Casablanca"] {
        for cron in ["30 2 * * *", "0 0 * * *", "30 23 * * *", "15 1 * * *"] {
            let schedule = schedule(cron, zone, "");
            let slots: Vec<_> = schedule.slots_after(ms("2026-01-01T12:00:00Z")).take(730).collect();
            assert!(slots.windows(2).all(|pair| pair[0].at_ms < pair[1].at_ms), "{zone} {cron}");
            let mut days: Vec<&str> = slots.iter().map(|slot| &slot.local[..10]).collect();
            days.dedup();
            assert_eq!(days.len(), 730, "{zone} {cron}");
        }
    }
}

#[test]
fn a_slot_outside_every_window_or_on_a_frozen_day_is_none() {
    let office = "windows:\n  - {days: [mon, tue, wed, thu, fri], from: \"09:00\", to: \"17:00\"}\n\
                  freeze:\n  - {from: 2026-12-21, to: 2027-01-03, reason: year end}\n  - {from: 2026-12-18}\n";
    let hourly = schedule("0 * * * *", "Europe/Berlin", office);
    // Friday the 18th is frozen, the week-end has no window, and then the year ends.
    let slots = next(&hourly, "2026-12-17T14:30:00Z", 3);
    assert_eq!(slots, ["2026-12-17T15:00:00Z", "2027-01-04T08:00:00Z", "2027-01-04T09:00:00Z"]);
    assert!(!hourly.permits_at(ms("2026-12-24T10:00:00Z")) && hourly.permits_at(ms("2026-12-17T10:00:00Z")));
}

#[test]
fn a_window_over_midnight_goes_on_the_next_morning() {
    let night = schedule("30 * * * *", "UTC", "windows:\n  - {days: [sat], from: \"22:00\", to: \"02:00\"}\n");
    let slots = next(&night, "2026-03-02T00:00:00Z", 5);
    let saturday = ["2026-03-07T22:30:00Z", "2026-03-07T23:30:00Z", "2026-03-08T00:30:00Z", "2026-03-08T01:30:00Z"];
    assert_eq!(slots[..4], saturday);
    assert_eq!(slots[4], "2026-03-14T22:30:00Z");
}

#[test]
fn a_schedule_that_can_never_fire_has_no_slot() {
    assert_eq!(schedule("0 0 30 2 *", "UTC", "").next_after(0), None);
    let never = schedule("0 12 * * *", "UTC", "windows:\n  - {from: \"13:00\", to: \"14:00\"}\n");
    assert_eq!(never.next_after(ms("2026-01-01T00:00:00Z")), None);
    assert_eq!(next(&schedule("0 0 29 2 *", "UTC", ""), "2096-03-01T00:00:00Z", 1), ["2104-02-29T00:00:00Z"]);
}

#[test]
fn nothing_is_due_before_its_time_and_each_slot_is_decided_once() {
    let nightly = schedule("30 2 * * *", "UTC", "");
    let made = ms("2026-03-01T00:00:00Z");
    let slot = ms("2026-03-01T02:30:00Z");
    assert_eq!(nightly.due(made, slot - 1, false), None);
    let due = nightly.due(made, slot, false).unwrap();
    assert!(matches!(&due, Decision::Start { missed: 0, .. }) && due.slot().at_ms == slot);
    assert_eq!(nightly.due(slot, slot + 30_000, false), None);
    // The clock goes back over it: still decided.
    assert_eq!(nightly.due(slot, slot - HOUR_MS, false), None);
}

#[test]
fn what_was_missed_is_recorded_and_never_makes_a_storm() {
    let often = schedule("*/5 * * * *", "UTC", "");
    let from = ms("2026-03-01T00:00:00Z");
    let away = ms("2026-03-01T12:02:30Z");
    // Half a day of slots, the last 150 s ago: all are missed, as one record.
    let missed = often.due(from, away, false).unwrap();
    assert!(matches!(missed, Decision::Missed { missed: 144, .. }), "{missed:?}");
    let once = schedule("*/5 * * * *", "UTC", "missed: run-once\n");
    assert!(matches!(once.due(from, away, false), Some(Decision::Start { missed: 143, .. })));
    // Months later the answer takes no longer, and is one start at most.
    assert!(matches!(once.due(from, away + 100 * 24 * HOUR_MS, false), Some(Decision::Start { .. })));
}

#[test]
fn a_missed_slot_is_not_made_up_for_outside_its_windows() {
    let more = "missed: run-once\nwindows:\n  - {from: \"09:00\", to: \"10:00\"}\n";
    let daily = schedule("0 9 * * *", "UTC", more);
    let from = ms("2026-03-01T00:00:00Z");
    assert!(matches!(daily.due(from, ms("2026-03-01T09:30:00Z"), false), Some(Decision::Start { .. })));
    assert!(matches!(daily.due(from, ms("2026-03-01T10:00:00Z"), false), Some(Decision::Missed { .. })));
}

#[test]
fn a_slot_that_finds_the_last_firing_under_way_is_not_served_unless_its_author_says_so() {
    let hourly = schedule("0 * * * *", "UTC", "");
    let (from, now) = (ms("2026-03-01T00:30:00Z"), ms("2026-03-01T01:00:01Z"));
    assert!(matches!(hourly.due(from, now, true), Some(Decision::Busy { .. })));
    let both = schedule("0 * * * *", "UTC", "concurrency: allow\n");
    assert!(matches!(both.due(from, now, true), Some(Decision::Start { .. })));
}

#[test]
fn every_mistake_of_a_schedule_has_its_place_and_a_hint() {
    let text = "apiVersion: squall/v1\nkind: Schedule\nmetadata: {name: nightly}\ncron: \"61 2 * * *\"\n\
                timeZone: Europe/Berlim\nwindows:\n  - {days: [mo], from: \"9:00\", to: \"17:00\"}\n\
                freeze:\n  - {from: 2026-13-01}\nrun: {catalogue: baseline}\n";
    let mistakes = parse::schedule("s.yaml", text).unwrap_err().to_string();
    for line in ["s.yaml:4:7:", "did you mean Europe/Berlin?", "s.yaml:7:", "did you mean `mon`?", "2026-13-01"] {
        assert!(mistakes.contains(line), "{line} in\n{mistakes}");
    }
    let text = "apiVersion: squall/v1\nkind: Schedule\nmetadata: {name: nightly}\ncron: \"1 2 * * *\"\n\
                windows:\n  - {from: \"09:00\", to: \"09:00\"}\nfreeze:\n  - {from: 2026-12-24, to: 2026-12-23}\n\
                startWithin: 1s\nrun: {catalogue: base-line, file: x.yaml}\n";
    let mistakes = parse::schedule("s.yaml", text).unwrap_err().to_string();
    let wanted =
        ["exactly one thing is run", "did you mean `baseline`?", "lets nothing start", "before it begins", "5s"];
    for part in wanted {
        assert!(mistakes.contains(part), "{part} in\n{mistakes}");
    }
}

#[test]
fn a_schedule_is_the_same_after_it_was_stored() {
    let more = "windows:\n  - {from: \"22:00\", to: \"24:00\"}\nfreeze:\n  - {from: 2026-12-24}\nmissed: run-once\n";
    let schedule = schedule("30 2 * * mon-fri", "Europe/Berlin", more);
    let text = serde_json::to_string(&schedule).unwrap();
    assert_eq!(serde_json::from_str::<Schedule>(&text).unwrap(), schedule);
    assert_eq!(parse::schedule("again", &text).unwrap(), schedule);
}
