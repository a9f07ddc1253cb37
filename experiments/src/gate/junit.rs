//! A gate as JUnit XML: a suite an experiment, a case for each run, each comparison, and for what was not run.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::compare::Finding;
use super::{Gate, Ran, Tried};
use crate::report::words;
use crate::run_event::Verdict;

pub(super) fn suites(gate: &Gate) -> Result<String, String> {
    let mut report = Report::new("squall gate");
    report.set_time(Duration::from_micros(gate.duration_us));
    for tried in &gate.experiments {
        report.add_test_suite(suite(tried));
    }
    if !gate.around.is_empty() {
        let mut suite = TestSuite::new("squall gate");
        for trouble in &gate.around {
            suite.add_test_case(TestCase::new("the gate itself", not(NonSuccessKind::Error, "gate", trouble)));
        }
        report.add_test_suite(suite);
    }
    report.to_string().map_err(|error| error.to_string())
}

fn suite(tried: &Tried) -> TestSuite {
    let mut suite = TestSuite::new(&*tried.name);
    for (name, value) in [("file", &tried.file), ("hypothesis", &tried.hypothesis)] {
        suite.add_property((name, &**value));
    }
    suite.add_property(("verdict", words::verdict(tried.verdict).0));
    for (index, ran) in tried.runs.iter().enumerate() {
        suite.add_test_case(run(tried, index, ran));
    }
    for comparison in &tried.comparisons {
        let status = match comparison.finding {
            Finding::Regression => not(NonSuccessKind::Failure, "regression", &comparison.sentence()),
            _ => TestCaseStatus::success(),
        };
        let mut case = case(tried, &format!("{} of {}", comparison.measure.words(), comparison.probe), status);
        case.set_system_out(comparison.sentence());
        suite.add_test_case(case);
    }
    if let Some(why) = &tried.not_run {
        suite.add_test_case(case(tried, "all runs", not(NonSuccessKind::Error, "not-run", why)));
    }
    let took = tried.runs.iter().map(|ran| ran.duration_us).sum();
    suite.set_time(Duration::from_micros(took));
    suite
}

fn run(tried: &Tried, index: usize, ran: &Ran) -> TestCase {
    let status = match ran.verdict {
        Verdict::Held => TestCaseStatus::success(),
        Verdict::Refuted => not(NonSuccessKind::Failure, "refuted", &ran.why),
        verdict => not(NonSuccessKind::Error, &super::text::word(verdict), &ran.why),
    };
    let mut case = case(tried, &format!("run {} of {}", index + 1, tried.runs.len()), status);
    case.set_time(Duration::from_micros(ran.duration_us));
    case.set_system_out(format!("run {}", ran.run));
    case
}

fn case(tried: &Tried, name: &str, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(name, status);
    case.set_classname(&*tried.name);
    case.extra.insert("file".into(), (&*tried.file).into());
    case
}

fn not(kind: NonSuccessKind, what: &str, why: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_type(what).set_message(why).set_description(why);
    status
}
