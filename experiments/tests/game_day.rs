//! Whole game days in made-up time: agenda, lanes, approvals, recovery, abort rules, restarts.

use std::collections::BTreeMap;

use squall_experiments::game_day::GameDay;
use squall_experiments::game_day::event::{DayEvent, Happened};
use squall_experiments::game_day::state::{Check, DayState, Input, Output};
use squall_experiments::game_day::status::{DayStatus, Progress};
use squall_experiments::parse;
use squall_experiments::run_event::Verdict;

const SECOND: u64 = 1_000_000;

const HEAD: &str =
    "apiVersion: squall/v1\nkind: GameDay\nmetadata: {name: shop-day}\nhypothesis: The shop survives.\nowner: ana\n";
const STEADY: &str = "steadyState:\n  - {name: shop, http: {url: \"http://shop.lab/\"}}\nrecoverWithin: 30s\n";
const ONE_TWO: &str =
    "agenda:\n  - run: {catalogue: replica-kill}\n    suite: load-balancing\n  - run: {catalogue: replica-pause}\n";

fn day(text: &str) -> GameDay {
    parse::game_day("day.yaml", &format!("{HEAD}{text}")).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

/// Stands for the coordinator: numbers events, and remembers what it was told to do.
struct Hall {
    state: DayState,
    now_us: u64,
    events: Vec<DayEvent>,
    started: BTreeMap<usize, String>,
    measured: usize,
    halted: Vec<String>,
    checks_wanted: usize,
}

impl Hall {
    fn open(day: GameDay) -> Hall {
        let (state, outputs) = DayState::start(day, "ana".into());
        let mut hall = Hall {
            state,
            now_us: 0,
            events: Vec::new(),
            started: BTreeMap::new(),
            measured: 0,
            halted: Vec::new(),
            checks_wanted: 0,
        };
        hall.perform(outputs);
        hall
    }

    /// Open, and every pre-check passed.
    fn ready(day: GameDay) -> Hall {
        let mut hall = Hall::open(day);
        hall.say(Input::Checks(vec![check("safety lever", true)]));
        hall
    }

    fn say(&mut self, input: Input) {
        let outputs = self.state.handle(self.now_us, input);
        self.perform(outputs);
    }

    /// Runs begin as soon as they are ordered, a steady state that nobody measures holds.
    fn perform(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Record(event) => {
                    let seq = self.events.len() as u64;
                    self.events.push(DayEvent { seq, at_us: self.now_us, wall_ms: 0, event });
                }
                Output::Check => self.checks_wanted += 1,
                Output::Measure(None) => self.say(Input::Unmeasured { why: String::new(), hopeless: false }),
                Output::Measure(Some(experiment)) => {
                    assert_eq!((experiment.method.len(), experiment.method[0].fault.as_ref()), (1, None));
                    self.measured += 1;
                    let run = format!("measure-{}", self.measured);
                    self.say(Input::Measuring { run });
                }
                Output::Start { step, experiment } => {
                    let run = format!("run-{step}-{}", experiment.metadata.name);
                    self.started.insert(step, run.clone());
                    self.say(Input::RunStarted { step, run });
                }
                Output::Halt { run } => self.halted.push(run),
                Output::Finished(_) => {}
            }
        }
    }

    fn ends(&mut self, step: usize, verdict: Verdict) {
        let run = self.started[&step].clone();
        self.say(Input::RunEnded { run, verdict, why: "as told".into() });
    }

    /// The measurement that is under way.
    fn steady(&mut self, verdict: Verdict) {
        let run = format!("measure-{}", self.measured);
        self.say(Input::RunEnded { run, verdict, why: "as told".into() });
    }

    fn passes(&mut self, us: u64) {
        self.now_us += us;
        self.say(Input::Tick);
    }

    fn begun(&self) -> Vec<usize> {
        self.started.keys().copied().collect()
    }

    fn verdict(&self) -> Option<(Verdict, &str)> {
        match &self.events.last().unwrap().event {
            Happened::Finished { verdict, why } => Some((*verdict, why)),
            _ => None,
        }
    }

    fn aborted(&self) -> Option<&str> {
        self.events.iter().find_map(|event| match &event.event {
            Happened::Aborted { reason } => Some(reason.as_str()),
            _ => None,
        })
    }

    fn status(&self) -> DayStatus {
        DayStatus::of("day", &self.events).unwrap()
    }

    /// The next coordinator, from what was stored.
    fn resumed(self) -> Hall {
        let events: Vec<DayEvent> =
            serde_json::from_str(&serde_json::to_string(&self.events).unwrap()).expect("events are read as written");
        let (state, outputs) = DayState::resume(&events).unwrap();
        let mut hall = Hall { state, events, ..self };
        hall.perform(outputs);
        hall
    }
}

fn check(what: &str, ok: bool) -> Check {
    Check { what: what.into(), ok, detail: "as told".into() }
}

#[test]
fn experiments_come_one_after_the_other_and_a_day_on_which_all_held_is_held() {
    let mut hall = Hall::open(day(ONE_TWO));
    assert!(hall.begun().is_empty() && hall.checks_wanted == 1);
    hall.say(Input::Checks(vec![check("safety lever", true), check("nodes", true)]));
    assert_eq!(hall.begun(), [0]);
    hall.ends(0, Verdict::Held);
    assert_eq!(hall.begun(), [0, 1]);
    assert_eq!(hall.verdict(), None);
    hall.ends(1, Verdict::Held);
    assert_eq!(hall.verdict().unwrap().0, Verdict::Held);
    let status = hall.status();
    assert_eq!(status.steps[0].step.suite.as_deref(), Some("load-balancing"));
    assert!(status.steps.iter().all(|step| step.state == Progress::Ended && step.run.is_some()));
}

#[test]
fn a_failed_pre_check_ends_the_day_before_anything_begins() {
    let mut hall = Hall::open(day(ONE_TWO));
    hall.say(Input::Checks(vec![check("nodes", false), check("safety lever", true)]));
    let (verdict, why) = hall.verdict().unwrap();
    assert!(verdict == Verdict::Inconclusive && why.contains("nodes: as told"), "{why}");
    assert!(hall.begun().is_empty());
}

#[test]
fn no_experiment_starts_before_the_steady_state_has_come_back() {
    let mut hall = Hall::ready(day(&format!("{STEADY}{ONE_TWO}")));
    assert!(hall.begun().is_empty());
    hall.steady(Verdict::Held);
    assert_eq!(hall.begun(), [0]);
    hall.ends(0, Verdict::Refuted);
    // Twice it is not back yet.
    for measured in [2, 3] {
        assert_eq!(hall.measured, measured);
        hall.steady(Verdict::Inconclusive);
        assert_eq!(hall.begun(), [0]);
        hall.passes(2 * SECOND);
    }
    hall.steady(Verdict::Held);
    assert_eq!(hall.begun(), [0, 1]);
}

#[test]
fn a_steady_state_that_does_not_come_back_in_time_ends_the_day() {
    let mut hall = Hall::ready(day(&format!("{STEADY}{ONE_TWO}")));
    hall.steady(Verdict::Held);
    hall.ends(0, Verdict::Held);
    for _ in 0..20 {
        if hall.verdict().is_some() {
            break;
        }
        hall.steady(Verdict::Inconclusive);
        let wake = hall.state.next_wake_us().unwrap();
        assert!(wake > hall.now_us, "a day that asks all the time");
        hall.passes(wake - hall.now_us);
    }
    assert_eq!(hall.now_us, 30 * SECOND);
    let (verdict, why) = hall.verdict().unwrap();
    assert!(verdict == Verdict::Aborted && why.contains("did not come back within 30s"), "{why}");
    assert_eq!(hall.begun(), [0]);
    assert_eq!(hall.status().steps[1].state, Progress::LeftOut);
}

#[test]
fn lanes_go_side_by_side_and_the_next_stage_waits_for_all() {
    let text = "agenda:\n  - lanes:\n      - name: web\n        agenda: [{run: {catalogue: replica-kill}}, {run: {catalogue: replica-pause}}]\n      \
                - name: data\n        agenda: [{run: {catalogue: database-isolated}}]\n  - run: {catalogue: baseline}\n";
    let mut hall = Hall::ready(day(text));
    assert_eq!(hall.begun(), [0, 2]);
    hall.ends(0, Verdict::Held);
    assert_eq!(hall.begun(), [0, 1, 2]);
    hall.ends(1, Verdict::Held);
    assert_eq!(hall.begun(), [0, 1, 2]);
    hall.ends(2, Verdict::Inconclusive);
    assert_eq!(hall.begun(), [0, 1, 2, 3]);
    hall.ends(3, Verdict::Held);
    let (verdict, why) = hall.verdict().unwrap();
    assert!(verdict == Verdict::Inconclusive && why.contains("database-isolated"), "{why}");
}

const ASKS: &str = "agenda:\n  - run: {catalogue: baseline}\n  - approval: {ask: \"Go on?\", timeout: 10m}\n  - run: {catalogue: replica-kill}\n";

#[test]
fn a_pause_waits_for_its_approval_and_shows_who_gave_it() {
    let mut hall = Hall::ready(day(ASKS));
    // Nobody is asked yet.
    hall.say(Input::Answer { step: 1, by: "otto".into(), approve: true, comment: String::new() });
    hall.ends(0, Verdict::Held);
    assert_eq!((hall.begun(), hall.status().waiting), (vec![0], vec![1]));
    hall.passes(9 * 60 * SECOND);
    hall.say(Input::Note { by: "eve".into(), text: "queue is long".into() });
    hall.say(Input::Answer { step: 1, by: "otto".into(), approve: true, comment: "all ready".into() });
    assert_eq!(hall.begun(), [0, 2]);
    hall.ends(2, Verdict::Held);
    assert_eq!(hall.verdict().unwrap().0, Verdict::Held);
    let status = hall.status();
    assert_eq!(status.steps[1].detail, "approved by otto: all ready");
    assert_eq!((status.notes[0].text.as_str(), status.notes[0].at_us), ("queue is long", 540 * SECOND));
}

#[test]
fn a_no_ends_the_day_and_so_does_no_answer_in_time() {
    let mut hall = Hall::ready(day(ASKS));
    hall.ends(0, Verdict::Held);
    hall.say(Input::Answer { step: 1, by: "otto".into(), approve: false, comment: "on call is ill".into() });
    let (verdict, why) = hall.verdict().unwrap();
    assert!(verdict == Verdict::Aborted && why.contains("otto said no"), "{why}");
    let mut hall = Hall::ready(day(ASKS));
    hall.ends(0, Verdict::Held);
    hall.passes(10 * 60 * SECOND - 1);
    assert_eq!(hall.verdict(), None);
    hall.passes(1);
    assert!(hall.verdict().unwrap().1.contains("nobody answered within 10m"));
    assert_eq!(hall.begun(), [0]);
}

#[test]
fn the_abort_rule_of_the_day_halts_what_runs_and_leaves_out_the_rest() {
    let text = "abort: {refuted: 1}\nagenda:\n  - lanes:\n      - {name: a, agenda: [{run: {catalogue: replica-kill}}]}\n      \
                - {name: b, agenda: [{run: {catalogue: replica-pause}}]}\n  - run: {catalogue: baseline}\n";
    let mut hall = Hall::ready(day(text));
    hall.ends(0, Verdict::Refuted);
    assert_eq!(hall.halted, ["run-1-replica-pause"]);
    assert_eq!(hall.verdict(), None);
    hall.ends(1, Verdict::Aborted);
    let (verdict, why) = hall.verdict().unwrap();
    assert!(verdict == Verdict::Refuted && why.contains("as many as this day takes"), "{why}");
    assert_eq!(hall.begun(), [0, 1]);
}

#[test]
fn a_dirty_experiment_ends_the_day_whatever_its_rule_says() {
    let mut hall = Hall::ready(day(&format!("abort: {{on: []}}\n{ONE_TWO}")));
    hall.ends(0, Verdict::Dirty);
    assert_eq!(hall.verdict().unwrap().0, Verdict::Dirty);
    // Aborted, by contrast, is the rule's to decide.
    let mut hall = Hall::ready(day(&format!("abort: {{on: []}}\n{ONE_TWO}")));
    hall.ends(0, Verdict::Aborted);
    assert_eq!(hall.begun(), [0, 1]);
    let mut hall = Hall::ready(day(ONE_TWO));
    hall.ends(0, Verdict::Aborted);
    assert_eq!((hall.begun(), hall.verdict().unwrap().0), (vec![0], Verdict::Aborted));
}

#[test]
fn a_day_that_takes_too_long_is_ended() {
    let mut hall = Hall::ready(day(&format!("abort: {{maxDuration: 1h}}\n{ONE_TWO}")));
    hall.passes(3600 * SECOND);
    assert_eq!((hall.halted.as_slice(), hall.verdict()), (&["run-0-replica-kill".to_owned()][..], None));
    hall.ends(0, Verdict::Aborted);
    assert!(hall.verdict().unwrap().1.contains("longer than 1h"));
}

#[test]
fn a_halt_stops_what_runs_and_the_day_ends_once_that_has_ended() {
    let mut hall = Hall::ready(day(ONE_TWO));
    hall.say(Input::Halt { by: "vera".into() });
    assert_eq!((hall.halted.len(), hall.verdict()), (1, None));
    hall.ends(0, Verdict::Aborted);
    let (verdict, why) = hall.verdict().unwrap();
    assert!(verdict == Verdict::Aborted && why.contains("halted by vera"), "{why}");
    // A run that began while the halt was on its way is halted too.
    let (mut state, _) = DayState::start(day(ONE_TWO), "ana".into());
    let outputs = state.handle(0, Input::Checks(vec![check("safety lever", true)]));
    assert!(outputs.iter().any(|output| matches!(output, Output::Measure(None))));
    let outputs = state.handle(1, Input::Unmeasured { why: String::new(), hopeless: false });
    assert!(matches!(outputs.last(), Some(Output::Start { step: 0, .. })));
    state.handle(2, Input::Halt { by: "vera".into() });
    let outputs = state.handle(3, Input::RunStarted { step: 0, run: "late".into() });
    assert!(outputs.contains(&Output::Halt { run: "late".into() }), "{outputs:?}");
}

#[test]
fn a_day_that_waits_for_an_answer_goes_on_with_the_next_coordinator() {
    let mut hall = Hall::ready(day(ASKS));
    hall.ends(0, Verdict::Held);
    hall.say(Input::Stop { by: "SIGTERM".into() });
    assert_eq!(hall.verdict(), None);
    let mut hall = hall.resumed();
    assert_eq!((hall.status().waiting, hall.checks_wanted), (vec![1], 1));
    hall.say(Input::Answer { step: 1, by: "otto".into(), approve: true, comment: String::new() });
    hall.ends(2, Verdict::Held);
    assert_eq!(hall.verdict().unwrap().0, Verdict::Held);
}

#[test]
fn a_day_in_the_middle_of_an_experiment_ends_with_its_coordinator() {
    let hall = Hall::ready(day(ONE_TWO));
    let mut hall = hall.resumed();
    assert_eq!(hall.verdict(), None, "its run has not ended yet");
    assert!(hall.aborted().unwrap().contains("replica-kill was under way"));
    hall.ends(0, Verdict::Aborted);
    assert_eq!(hall.verdict().unwrap().0, Verdict::Aborted);
    assert_eq!(hall.begun(), [0]);
    // It is over: nobody takes it up again.
    assert!(DayState::resume(&hall.events).is_none());
}

#[test]
fn a_day_that_only_measured_its_steady_state_measures_it_again_after_a_restart() {
    let hall = Hall::ready(day(&format!("{STEADY}{ONE_TWO}")));
    let mut hall = hall.resumed();
    assert_eq!((hall.measured, hall.begun().len(), hall.aborted()), (2, 0, None));
    hall.steady(Verdict::Held);
    assert_eq!(hall.begun(), [0]);
}

#[test]
fn what_its_events_tell_is_what_the_machine_knows_at_every_step() {
    let mut hall = Hall::ready(day(&format!("{STEADY}{ASKS}")));
    hall.steady(Verdict::Held);
    hall.ends(0, Verdict::Refuted);
    let replayed = DayState::replay(&hall.events).unwrap();
    let told: Vec<_> = replayed.steps().map(|(_, state)| state.clone()).collect();
    let known: Vec<_> = hall.state.steps().map(|(_, state)| state.clone()).collect();
    assert_eq!(told, known);
    assert_eq!(replayed.next_wake_us(), hall.state.next_wake_us());
}

#[test]
fn every_mistake_of_a_game_day_has_its_place() {
    let text = format!(
        "{HEAD}steadyState:\n  - {{name: shop}}\nabort: {{refuted: 0}}\nagenda:\n  - run: {{catalogue: replica-kil}}\n  - {{wait: 1s, approval: {{ask: \"\"}}}}\n  \
         - lanes:\n      - {{name: a, agenda: []}}\n      - {{name: a, agenda: [{{lanes: []}}]}}\n  - {{suite: x, wait: 1s}}\n"
    );
    let mistakes = parse::game_day("day.yaml", &text).unwrap_err();
    let told = mistakes.to_string();
    for part in [
        "measures nothing",
        "did you mean `replica-kill`?",
        "exactly one thing",
        "question is empty",
        "the lane is empty",
        "a second lane is named `a`",
        "a lane has no lanes",
        "belongs to a suite",
        "never begins",
    ] {
        assert!(told.contains(part), "{part} in\n{told}");
    }
    assert!(mistakes.mistakes.iter().all(|mistake| mistake.line > 1), "{told}");
}
