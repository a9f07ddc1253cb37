//! What a gate says of a few small experiments, in each of its forms.

mod noise;

use super::baseline::Accepted;
use super::compare::MARGIN;
use super::trial::Figures;
use super::*;
use crate::report::sample;

fn tried(name: &str, verdicts: &[Verdict]) -> Tried {
    let text = "apiVersion: squall/v1\nkind: Experiment\nmetadata: {}\nhypothesis: The shop sells.\n";
    let mut experiment = sample::plan().experiment;
    experiment.metadata.name = name.to_owned();
    let mut tried = Tried::new(&format!("chaos/{name}.yaml"), text, &experiment);
    tried.runs = verdicts.iter().map(|verdict| ran(*verdict, 10_000)).collect();
    tried
}

fn ran(verdict: Verdict, median_us: u64) -> Ran {
    let figures = Figures {
        interval_us: 100_000,
        requests: 100,
        failed: 0,
        before_us: Some(5_000),
        median_us: Some(median_us),
        p95_us: Some(2 * median_us),
        recovery_us: [("process-kill".to_owned(), 0)].into(),
    };
    let probes = [("checkout".to_owned(), figures)].into();
    let why = format!("{:?}, it says", verdict);
    let trial = Trial { probes };
    Ran { run: "r1".into(), verdict, why, duration_us: 2_000_000, starts: 1, trial, page: None }
}

fn slow(name: &str, medians_us: [u64; 5]) -> Tried {
    let mut tried = tried(name, &[]);
    tried.runs = medians_us.iter().map(|us| ran(Verdict::Held, *us)).collect();
    tried
}

fn accepted(tried: &Tried) -> Baseline {
    let runs = tried.runs.iter().map(|ran| ran.trial.clone()).collect();
    let of = Accepted { fingerprint: tried.fingerprint.clone(), runs };
    Baseline { experiments: [(tried.name.clone(), of)].into(), ..Baseline::default() }
}

const THEN: [u64; 5] = [10_000, 10_400, 9_700, 10_100, 9_900];
const WORSE: [u64; 5] = [15_100, 15_600, 14_700, 15_000, 15_300];

fn regressed() -> Gate {
    let baseline = accepted(&slow("kill", THEN));
    Gate::judge(vec![slow("kill", WORSE)], Some(&baseline), false, MARGIN, 10_000_000)
}

#[test]
fn the_gravest_verdict_is_the_gates_and_what_was_not_run_never_counts_as_held() {
    use Verdict::{Aborted, Dirty, Held, Inconclusive, Refuted};
    for (runs, expected) in [
        (vec![tried("a", &[Held]), tried("b", &[Held, Held])], Held),
        (vec![tried("a", &[Held]), tried("b", &[Held, Refuted])], Refuted),
        (vec![tried("a", &[Refuted]), tried("b", &[Dirty])], Dirty),
        (vec![tried("a", &[Aborted]), tried("b", &[Inconclusive])], Aborted),
        (vec![tried("a", &[Held]), tried("b", &[])], Inconclusive),
        (vec![], Inconclusive),
    ] {
        let gate = Gate::judge(runs, None, false, MARGIN, 0);
        assert_eq!((gate.verdict, gate.exit_code), (expected, expected.exit_code()));
    }
    let mut cut_short = tried("a", &[Held]);
    cut_short.not_run = Some("the budget was spent".into());
    assert_eq!(Gate::judge(vec![cut_short], None, false, MARGIN, 0).verdict, Inconclusive);
}

#[test]
fn what_happened_to_the_gate_itself_outranks_what_held_and_stands_in_every_form() {
    let mut gate = Gate::judge(vec![tried("a", &[Verdict::Held])], None, false, MARGIN, 0);
    gate.outranked(true, "squalld ended in the middle");
    assert_eq!((gate.verdict, gate.exit_code), (Verdict::Dirty, 5));
    for form in [gate.text(), gate.markdown(), gate.junit().unwrap(), gate.annotations()] {
        assert!(form.contains("squalld ended in the middle"), "{form}");
    }
    let mut refuted = Gate::judge(vec![tried("a", &[Verdict::Refuted])], None, false, MARGIN, 0);
    refuted.outranked(false, "no answer");
    assert_eq!(refuted.verdict, Verdict::Refuted, "it is not made better than it is");
}

#[test]
fn half_as_slow_again_refutes_and_says_how_sure_that_is() {
    let gate = regressed();
    assert_eq!(gate.verdict, Verdict::Refuted, "{}", gate.text());
    insta::assert_snapshot!("text", gate.text());
    insta::assert_snapshot!("markdown", gate.markdown());
}

#[test]
fn what_is_slower_as_a_whole_and_what_is_accepted_refute_nothing() {
    let baseline = accepted(&slow("kill", THEN));
    let mut slower = slow("kill", WORSE);
    for ran in &mut slower.runs {
        ran.trial.probes.get_mut("checkout").unwrap().before_us = Some(7_500);
    }
    let gate = Gate::judge(vec![slower], Some(&baseline), false, MARGIN, 0);
    assert_eq!(gate.verdict, Verdict::Held, "{}", gate.text());
    assert!(gate.text().contains("as much before any fault"), "{}", gate.text());

    let mut baseline = baseline;
    let gate = Gate::judge(vec![slow("kill", WORSE)], Some(&baseline), true, MARGIN, 0);
    assert_eq!(gate.verdict, Verdict::Held, "{}", gate.text());
    assert!(gate.text().contains("which is accepted"), "{}", gate.text());
    assert_eq!(baseline.accept(&gate), ["kill"]);
    let again = Gate::judge(vec![slow("kill", WORSE)], Some(&baseline), false, MARGIN, 0);
    assert_eq!(again.verdict, Verdict::Held);
}

#[test]
fn a_baseline_takes_over_only_what_held_and_reads_back_what_it_wrote() {
    let mut baseline = accepted(&slow("kill", THEN));
    let before = baseline.clone();
    let gate = Gate::judge(vec![tried("kill", &[Verdict::Held, Verdict::Refuted])], None, false, MARGIN, 0);
    assert!(baseline.accept(&gate).is_empty());
    assert_eq!(baseline, before);
    assert_eq!(Baseline::read(&baseline.text()).unwrap(), baseline);
    let error = Baseline::read(&baseline.text().replace("before_us", "x").replace("medianUs", "medianU")).unwrap_err();
    assert!(error.contains("medianU") && error.contains("line"), "{error}");
    assert!(Baseline::read("{\"format\": \"squall/gate-baseline/v9\", \"experiments\": {}}").is_err());
}

#[test]
fn another_experiment_under_the_same_name_and_too_few_runs_are_not_compared_and_say_so() {
    let mut baseline = accepted(&slow("kill", THEN));
    let gate = Gate::judge(vec![tried("kill", &[Verdict::Held])], Some(&baseline), false, MARGIN, 0);
    assert!(gate.verdict == Verdict::Held && gate.text().contains("runs then 5, now 1"), "{}", gate.text());
    baseline.experiments.get_mut("kill").unwrap().fingerprint = "other".into();
    let gate = Gate::judge(vec![slow("kill", WORSE)], Some(&baseline), false, MARGIN, 0);
    assert!(gate.text().contains("is not the one of the baseline"), "{}", gate.text());
    let gate = Gate::judge(vec![slow("new", WORSE)], Some(&baseline), false, MARGIN, 0);
    assert!(gate.text().contains("not in the baseline"), "{}", gate.text());
}

#[test]
fn the_figures_of_a_run_are_those_of_its_report() {
    let trial = Trial::of(&Report::of(sample::RUN, &sample::refuted()));
    let Figures { interval_us, requests, failed, median_us, p95_us, .. } = trial.probes["checkout"].clone();
    let report = Report::of(sample::RUN, &sample::refuted());
    let during = report.probes[0].phase(crate::probe::Phase::During).unwrap();
    assert_eq!((requests, failed), (during.measured as u64, during.bad as u64));
    assert!((150_000..250_000).contains(&interval_us), "{interval_us}");
    assert!(median_us.unwrap() <= p95_us.unwrap());
    assert_eq!(trial.probes["replicas"].median_us, None, "its value counts, not how long counting took");
}

#[test]
fn junit_has_a_case_for_each_run_and_figure_and_for_what_was_not_run() {
    let baseline = accepted(&slow("kill", THEN));
    let mut refuted = tried("cut", &[Verdict::Refuted]);
    refuted.runs[0].why = hostile();
    let mut never = tried("fill", &[]);
    never.not_run = Some("the budget was spent".into());
    let gate = Gate::judge(vec![slow("kill", WORSE), refuted, never], Some(&baseline), false, MARGIN, 0);
    let xml = gate.junit().unwrap();
    // Five runs, a recovery, an error share and two latencies; one run; one that is missing.
    assert_eq!(xml.matches("<testcase").count(), 5 + 4 + 1 + 1, "{xml}");
    assert_eq!(xml.matches("<failure").count(), 2 + 1, "{xml}");
    assert_eq!(xml.matches("<error").count(), 1, "{xml}");
    assert!(!xml.contains("<script") && !xml.contains('\u{1b}'), "{xml}");
}

fn hostile() -> String {
    "100%\n::error::</failure><script>|*x*\u{1b}[31m, a:b".to_owned()
}

#[test]
fn an_annotation_is_one_line_whatever_stands_in_it() {
    let mut refuted = tried("cut", &[Verdict::Refuted]);
    refuted.runs[0].why = hostile();
    refuted.file = "chaos/a,b:c.yaml".into();
    let lines = Gate::judge(vec![refuted, tried("ok", &[Verdict::Held])], None, false, MARGIN, 0).annotations();
    assert_eq!(lines.lines().count(), 1, "{lines}");
    assert!(lines.starts_with("::error file=chaos/a%2Cb%3Ac.yaml,line=4,title=cut%3A refuted::100%25%0A"), "{lines}");
}

#[test]
fn gitlab_gets_an_issue_a_trouble_and_the_same_fingerprint_next_time() {
    let issues = |why: &str| -> Vec<serde_json::Value> {
        let mut refuted = tried("cut", &[Verdict::Refuted]);
        refuted.runs[0].why = why.into();
        let gate = Gate::judge(vec![refuted, tried("ok", &[Verdict::Held])], None, false, MARGIN, 0);
        serde_json::from_str(&gate.code_quality()).unwrap()
    };
    let (first, second) = (issues("p99 930 ms"), issues("p99 940 ms"));
    assert_eq!(first.len(), 1);
    assert_eq!(first[0]["location"]["path"], "chaos/cut.yaml");
    assert_eq!(first[0]["location"]["lines"]["begin"], 4);
    assert_eq!(first[0]["severity"], "critical");
    assert_eq!(first[0]["fingerprint"], second[0]["fingerprint"]);
    assert_ne!(first[0]["description"], second[0]["description"]);
}

#[test]
fn a_remark_alone_is_a_warning_for_github_and_info_for_gitlab() {
    let baseline = accepted(&slow("kill", THEN));
    let gate = Gate::judge(vec![slow("new", WORSE)], Some(&baseline), false, MARGIN, 0);
    assert!(gate.annotations().starts_with("::warning file="), "{}", gate.annotations());
    assert!(gate.code_quality().contains("\"info\""), "{}", gate.code_quality());
}

#[test]
fn the_fingerprint_is_of_the_meaning_and_not_of_the_words_about_it() {
    let experiment = |text: &str| crate::parse::parse("x", text).unwrap();
    let ready = crate::catalogue::ALL[0].1;
    let one = experiment(ready);
    let mut described = one.clone();
    described.metadata.description = "Something else.".into();
    assert_eq!(fingerprint(&one), fingerprint(&described));
    described.hypothesis = "Something else.".into();
    assert_ne!(fingerprint(&one), fingerprint(&described));
}
