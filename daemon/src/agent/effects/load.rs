//! Load: an open loop of HTTP requests. Each has a moment at which it is due, and its latency counts from then, so a system that stalls is
//! not spared the requests that would have been sent meanwhile (no coordinated omission). The holder sends them; its death ends it.
//!
//! What became of them is told over time as well ([`windows`]).
//!
//! A generator that cannot keep its rate says so (`late`, `not_sent`) and proves nothing: then nothing is blamed on the system.

mod windows;

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use rand::SeedableRng as _;
use rand::distr::Distribution as _;
use rand::distr::weighted::WeightedIndex;
use rand_chacha::ChaCha8Rng;
use reqwest::{Client, Method, Url, redirect};
use squall_experiments::arrivals::Arrivals;
use squall_experiments::effect::Load;
use squall_experiments::run_event::Evidence;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::tether::{Outcome, Tether, Wake};
use super::{Hold, Prepared, Refusal};
use windows::Windows;

/// A name must be resolved within this: an agent asks while others wait.
const RESOLVE: Duration = Duration::from_secs(1);
/// A request that leaves this much after it was due was kept back by the generator.
const LATE: Duration = Duration::from_millis(50);
/// Of the requests that were due, those that were late or not sent, above which the rate was not kept.
const NOT_KEPT: f64 = 0.01;
/// The first request is waited for so long before the load is called active.
const FIRST: Duration = Duration::from_secs(2);

pub fn prepare(effect: &Load) -> Result<Prepared, Refusal> {
    Method::from_bytes(effect.method.as_bytes()).map_err(|_| Refusal(format!("`{}` is no method", effect.method)))?;
    let mut hosts: Vec<(String, Vec<SocketAddr>)> = Vec::new();
    for request in &effect.requests {
        let url = parse(&request.url, "0")?;
        let (Some(host), Some(port)) = (url.host_str().map(str::to_owned), url.port_or_known_default()) else {
            return Err(Refusal(format!("`{url}` names no host")));
        };
        let addresses = resolve(&host, port)?;
        match hosts.iter_mut().find(|(known, _)| *known == host) {
            Some((_, known)) => known.extend(addresses),
            None => hosts.push((host, addresses)),
        }
    }
    client(effect, &hosts).map_err(|error| Refusal(format!("{error:#}")))?;
    Ok(Prepared { hold: Hold::Load { load: effect.clone(), hosts }, traces: Vec::new() })
}

fn parse(url: &str, id: &str) -> Result<Url, Refusal> {
    let filled = url.replace("{id}", id);
    let url: Url = filled.parse().map_err(|error| Refusal(format!("`{filled}` is no URL: {error}")))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(Refusal(format!("`{other}` is neither http nor https"))),
    }
}

fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Refusal> {
    let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let (answer, answered) = channel();
    // The system's resolver has no time-out of ours.
    std::thread::spawn(move || answer.send((name.as_str(), port).to_socket_addrs().map(Vec::from_iter)));
    match answered.recv_timeout(RESOLVE) {
        Ok(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
        Ok(Ok(_)) => Err(Refusal(format!("{host} has no address"))),
        Ok(Err(error)) => Err(Refusal(format!("{host} is not known: {error}"))),
        Err(_) => Err(Refusal(format!("{host} was not resolved within {} ms", RESOLVE.as_millis()))),
    }
}

struct Seen {
    /// Microseconds from when a request was due to its answer, its error or its time-out.
    latency: Histogram<u64>,
    due: u64,
    sent: u64,
    late: u64,
    not_sent: u64,
    good: u64,
    /// Words for what went wrong.
    bad: BTreeMap<String, u64>,
    windows: Windows,
}

type Shared = Arc<Mutex<Seen>>;

fn note(shared: &Shared, what: impl FnOnce(&mut Seen)) {
    what(&mut shared.lock().unwrap_or_else(PoisonError::into_inner));
}

pub fn hold(load: &Load, hosts: &[(String, Vec<SocketAddr>)], tether: &mut Tether) -> anyhow::Result<Outcome> {
    let client = client(load, hosts)?;
    let seen = Seen {
        latency: Histogram::new_with_bounds(1, 3_600_000_000, 3)?,
        due: 0,
        sent: 0,
        late: 0,
        not_sent: 0,
        good: 0,
        bad: BTreeMap::new(),
        windows: Windows::new(),
    };
    let shared = Arc::new(Mutex::new(seen));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let start = Instant::now();
    runtime.spawn(generate(load.clone(), client, start, shared.clone()));
    let sent = || shared.lock().map_or(0, |seen| seen.sent);
    while sent() == 0 && start.elapsed() < FIRST {
        if tether.wait(Some(Duration::from_millis(2)), None) == Wake::Release {
            break;
        }
    }
    let first = Evidence {
        what: "load".to_owned(),
        before: "none".to_owned(),
        after: format!("requests are sent, up to {} a second", load.peak()),
        bites: (sent() > 0).then_some(true),
        numbers: BTreeMap::new(),
    };
    tether.active(vec![first]);
    while tether.wait(None, None) != Wake::Release {}
    let lasted = start.elapsed();
    // What is not answered yet is left out: nobody knows how long it would have taken.
    runtime.shutdown_background();
    let seen = shared.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(outcome(load, &seen, lasted))
}

/// Speaks to these addresses and no others, whatever a name means later and wherever an answer points. The system's certificates are read
/// only where a URL needs them: a host may have none.
fn client(load: &Load, hosts: &[(String, Vec<SocketAddr>)]) -> anyhow::Result<Client> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let secure = load.requests.iter().any(|request| parse(&request.url, "0").is_ok_and(|url| url.scheme() == "https"));
    let mut builder = Client::builder().redirect(redirect::Policy::none()).no_proxy().user_agent(concat!(
        "squall/",
        env!("CARGO_PKG_VERSION"),
        " load"
    ));
    if !secure {
        builder = builder.tls_certs_only([]);
    }
    for (host, addresses) in hosts {
        builder = builder.resolve_to_addrs(host, addresses);
    }
    builder.build().map_err(|error| anyhow::anyhow!("{}", crate::http_client::why_none(&error)))
}

async fn generate(load: Load, client: Client, start: Instant, shared: Shared) {
    let load = Arc::new(load);
    let Ok(choice) = WeightedIndex::new(load.requests.iter().map(|request| request.weight)) else { return };
    let mut random = ChaCha8Rng::seed_from_u64(load.seed);
    let mut flying = JoinSet::new();
    for (number, at) in Arrivals::of(&load.stages).enumerate() {
        let due = start + Duration::from_secs_f64(at.min(1e9));
        // Also where it is late already: the answers need their turn.
        tokio::task::yield_now().await;
        tokio::time::sleep_until(due).await;
        while flying.try_join_next().is_some() {}
        let full = flying.len() >= load.in_flight as usize;
        note(&shared, |seen| {
            seen.due += 1;
            seen.late += u64::from(!full && due.elapsed() > LATE);
            seen.not_sent += u64::from(full);
            seen.sent += u64::from(!full);
            seen.windows.due(due - start, !full);
        });
        if full {
            continue;
        }
        let url = load.requests[choice.sample(&mut random)].url.clone();
        let id = format!("{:016x}-{number}", load.seed);
        flying.spawn(request(load.clone(), client.clone(), url, id, (start, due), shared.clone()));
    }
    while flying.join_next().await.is_some() {}
}

/// `moments`: the start of the load, and when this request is due.
async fn request(
    load: Arc<Load>,
    client: Client,
    url: String,
    id: String,
    moments: (Instant, Instant),
    shared: Shared,
) {
    let (start, due) = moments;
    let exchange = async {
        let method = Method::from_bytes(load.method.as_bytes()).map_err(|_| "no method".to_owned())?;
        let mut request = client.request(method, parse(&url, &id).map_err(|refusal| refusal.0)?);
        for (name, value) in &load.headers {
            request = request.header(name, value);
        }
        if let Some(body) = &load.body {
            request = request.body(body.replace("{id}", &id));
        }
        let mut response = request.send().await.map_err(|error| word(&error).to_owned())?;
        let status = response.status();
        // To its end, and thrown away: a connection with half an answer on it cannot be used again.
        while response.chunk().await.map_err(|error| word(&error).to_owned())?.is_some() {}
        if status.as_u16() < 400 { Ok(()) } else { Err(format!("status {}", status.as_u16())) }
    };
    let answer = tokio::time::timeout(load.timeout.0, exchange).await;
    let answer = answer.unwrap_or_else(|_| Err("no answer in time".to_owned()));
    let took = due.elapsed();
    note(&shared, |seen| {
        seen.latency.saturating_record((took.as_micros() as u64).max(1));
        seen.windows.answered(due - start, took, answer.is_ok());
        match answer {
            Ok(()) => seen.good += 1,
            Err(why) => *seen.bad.entry(why).or_default() += 1,
        }
    });
}

fn word(error: &reqwest::Error) -> &'static str {
    if error.is_connect() {
        "not connected"
    } else if error.is_builder() {
        "no request could be made"
    } else {
        "connection broken"
    }
}

fn outcome(load: &Load, seen: &Seen, lasted: Duration) -> Outcome {
    let answered = seen.latency.len();
    let quantile = |share: f64| seen.latency.value_at_quantile(share) as f64 / 1000.0;
    let share = |count: u64, of: u64| if of == 0 { 0.0 } else { count as f64 / of as f64 };
    let success = share(seen.good, answered);
    let rate = seen.sent as f64 / lasted.as_secs_f64().max(0.001);
    let held_back = share(seen.late + seen.not_sent, seen.due);
    let kept = seen.due > 0 && held_back <= NOT_KEPT;
    let mut numbers = BTreeMap::from(
        [
            ("due", seen.due as f64),
            ("sent", seen.sent as f64),
            ("late", seen.late as f64),
            ("not_sent", seen.not_sent as f64),
            ("answered", answered as f64),
            ("good", seen.good as f64),
            ("success_percent", success * 100.0),
            ("rate", rate),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    let mut after = format!("{} requests sent, {rate:.1} a second, {:.2}% good", seen.sent, success * 100.0);
    if answered > 0 {
        for (name, share) in [("p50_ms", 0.5), ("p90_ms", 0.9), ("p99_ms", 0.99), ("max_ms", 1.0)] {
            numbers.insert(name.to_owned(), quantile(share));
        }
        after += &format!(", p50 {:.1} ms, p99 {:.1} ms", quantile(0.5), quantile(0.99));
    }
    for (why, count) in &seen.bad {
        after += &format!("; {count} times {why}");
    }
    if !kept {
        after += &format!(
            "; the generator did not keep its rate: of {} due, {} left late and {} were not sent, so this says nothing of the system",
            seen.due, seen.late, seen.not_sent
        );
    }
    let too_few = load.min_success.filter(|least| success < least.fraction());
    let too_slow = load.max_p99.filter(|most| quantile(0.99) > most.as_millis_f64());
    let unmet = match (too_few, too_slow) {
        (Some(least), _) => {
            Some(format!("under the surge {:.2}% of the answers were good, not {least}", success * 100.0))
        }
        (None, Some(most)) => Some(format!("under the surge p99 was {:.1} ms, not within {most}", quantile(0.99))),
        (None, None) => None,
    };
    let unmet = unmet.filter(|_| kept && answered > 0);
    let evidence = Evidence { what: "load".to_owned(), before: "none".to_owned(), after, bites: Some(kept), numbers };
    Outcome { evidence: vec![evidence], unmet, load: seen.windows.told(lasted) }
}
