use super::*;
use serde_json::json;

const MS: u64 = 1000;

fn probe(tolerance: serde_json::Value) -> Probe {
    let probe = json!({"name": "checkout", "tcp": {"address": "shop:80"}, "every": "100ms", "tolerance": tolerance});
    serde_json::from_value(probe).unwrap()
}

fn sample(outcome: Outcome, latency_ms: u64) -> Sample {
    Sample { outcome, latency_us: latency_ms * MS, ..Sample::default() }
}

fn valued(value: f64) -> Sample {
    Sample { value: Some(value), ..sample(Outcome::Ok, 1) }
}

/// One sample each 100 ms; judged right after the last.
fn so_far(tolerance: serde_json::Value, samples: &[Sample]) -> Judged {
    run(tolerance, samples, Moment::SoFar)
}

fn at_end(tolerance: serde_json::Value, samples: &[Sample]) -> Judged {
    run(tolerance, samples, Moment::End)
}

fn run(tolerance: serde_json::Value, samples: &[Sample], moment: Moment) -> Judged {
    let mut series = Series::new(&probe(tolerance), Phase::During, 0);
    let mut now = 0;
    for sample in samples {
        now += 100 * MS;
        series.push(now, sample);
    }
    series.judge(now, moment)
}

fn mix(ok: usize, bad: usize) -> Vec<Sample> {
    let mut samples = vec![sample(Outcome::Ok, 10); ok];
    samples.extend(vec![sample(Outcome::Bad, 10); bad]);
    samples
}

#[test]
fn without_a_tolerance_one_failure_is_one_too_many_at_once() {
    assert_eq!(so_far(json!({}), &mix(3, 0)).judgement, Judgement::Pass);
    assert_eq!(so_far(json!({}), &mix(0, 1)).judgement, Judgement::Fail);
    assert_eq!(so_far(json!({}), &mix(500, 1)).judgement, Judgement::Fail);
}

#[test]
fn too_few_samples_are_unknown_and_the_sentence_counts_them() {
    let judged = so_far(json!({"success": ">= 90%"}), &mix(2, 0));
    assert_eq!((judged.judgement, judged.blind), (Judgement::Unknown, false));
    assert!(judged.detail.contains("2 samples, 3 are needed"), "{}", judged.detail);
    assert_eq!(so_far(json!({"minSamples": 10}), &mix(9, 0)).judgement, Judgement::Unknown);
    assert_eq!(so_far(json!({"minSamples": 10}), &mix(10, 0)).judgement, Judgement::Pass);
}

#[test]
fn one_failure_in_twenty_breaks_a_success_of_99_5_percent() {
    let judged = so_far(json!({"success": ">= 99.5%"}), &mix(19, 1));
    assert_eq!(judged.judgement, Judgement::Fail);
    assert!(judged.detail.contains("success 95.00% of 20 samples (must be >= 99.5%)"), "{}", judged.detail);
    assert_eq!(so_far(json!({"success": ">= 99.5%"}), &mix(199, 1)).judgement, Judgement::Pass);
    assert_eq!(so_far(json!({"success": ">= 99.5%"}), &mix(198, 1)).judgement, Judgement::Fail);
}

#[test]
fn a_percentile_is_the_nearest_rank_and_failures_are_slower_than_any_limit() {
    let latencies: Vec<Sample> = (1..=100).map(|ms| sample(Outcome::Ok, ms)).collect();
    assert_eq!(so_far(json!({"p99": "<= 99ms"}), &latencies).judgement, Judgement::Pass);
    assert_eq!(so_far(json!({"p99": "< 99ms"}), &latencies).judgement, Judgement::Fail);
    assert_eq!(so_far(json!({"p50": "<= 50ms", "p95": "<= 95ms"}), &latencies).judgement, Judgement::Pass);
    let judged = so_far(json!({"p99": "<= 1h"}), &mix(97, 3));
    assert_eq!(judged.judgement, Judgement::Fail);
    assert!(judged.detail.contains("beyond any limit (3 failed) of 100 samples"), "{}", judged.detail);
    assert_eq!(so_far(json!({"p95": "<= 1h"}), &mix(97, 3)).judgement, Judgement::Pass);
}

#[test]
fn a_value_is_bounded_in_each_sample_and_a_missing_value_is_no_measurement() {
    let tolerance = json!({"value": ">= 2"});
    assert_eq!(so_far(tolerance.clone(), &[valued(2.0), valued(3.0), valued(2.0)]).judgement, Judgement::Pass);
    let judged = so_far(tolerance.clone(), &[valued(2.0), valued(1.0)]);
    assert_eq!(judged.judgement, Judgement::Fail);
    assert!(judged.detail.contains("value 1 (must be >= 2)"), "{}", judged.detail);
    assert_eq!(so_far(tolerance.clone(), &mix(9, 0)).judgement, Judgement::Unknown);
    assert_eq!(so_far(tolerance, &vec![valued(f64::NAN); 5]).judgement, Judgement::Unknown);
}

#[test]
fn n_of_m_forgives_until_n_of_the_last_m_are_bad() {
    let tolerance = json!({"breach": "2 of 3"});
    let pattern = |text: &str| -> Vec<Sample> {
        text.chars().map(|c| sample(if c == '.' { Outcome::Ok } else { Outcome::Bad }, 1)).collect()
    };
    assert_eq!(so_far(tolerance.clone(), &pattern("..x..x..x")).judgement, Judgement::Pass);
    assert_eq!(so_far(tolerance.clone(), &pattern("..x.x")).judgement, Judgement::Fail);
    // What broke stays broken: the phase has failed, whatever comes later.
    assert_eq!(so_far(tolerance, &pattern("..x.x.....")).judgement, Judgement::Fail);
}

#[test]
fn n_of_m_holds_back_a_share_until_the_phase_ends() {
    let tolerance = json!({"success": ">= 99%", "breach": "2 of 3"});
    assert_eq!(so_far(tolerance.clone(), &mix(19, 1)).judgement, Judgement::Unknown);
    assert_eq!(at_end(tolerance.clone(), &mix(19, 1)).judgement, Judgement::Fail);
    assert_eq!(so_far(tolerance, &mix(19, 2)).judgement, Judgement::Fail);
    let slow = json!({"p99": "<= 20ms", "breach": "2 of 3"});
    let mut samples = mix(5, 0);
    samples.push(sample(Outcome::Ok, 50));
    assert_eq!(so_far(slow.clone(), &samples).judgement, Judgement::Unknown);
    samples.push(sample(Outcome::Ok, 50));
    assert_eq!(so_far(slow, &samples).judgement, Judgement::Fail);
}

#[test]
fn unknown_samples_never_make_a_pass_and_do_not_keep_the_series_fresh() {
    let mut samples = mix(3, 0);
    samples.extend(vec![sample(Outcome::Unknown, 0); 4]);
    assert_eq!(so_far(json!({}), &samples).judgement, Judgement::Unknown);
    let mut series = Series::new(&probe(json!({"staleAfter": "1s"})), Phase::During, 0);
    for at in 1..=3 {
        series.push(at * 100 * MS, &sample(Outcome::Ok, 1));
    }
    assert_eq!(series.judge(1299 * MS, Moment::SoFar).judgement, Judgement::Pass);
    series.push(1299 * MS, &sample(Outcome::Unknown, 1));
    let judged = series.judge(1300 * MS, Moment::SoFar);
    assert_eq!((judged.judgement, judged.blind), (Judgement::Unknown, true));
}

#[test]
fn silence_is_blind_after_five_intervals_and_one_timeout() {
    let probe = probe(json!({}));
    assert_eq!(probe.stale_after_us(), 2_000_000);
    let series = Series::new(&probe, Phase::During, 5_000_000);
    assert!(!series.judge(6_999_999, Moment::SoFar).blind);
    assert!(series.judge(7_000_000, Moment::SoFar).blind);
}

#[test]
fn an_old_phase_is_judged_again_from_its_samples() {
    let samples = mix(19, 1);
    let timed = samples.iter().enumerate().map(|(i, s)| (i as u64 * 100 * MS, s));
    assert_eq!(
        judge(&probe(json!({"success": ">= 95%"})), Phase::During, timed, 0, 2_000_000).judgement,
        Judgement::Pass
    );
}
