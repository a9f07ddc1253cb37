//! Ten thousand who want to watch one run: as many as there are places do, the others are told so, and a halt goes past all of them.

use std::time::Instant;

use futures_util::{StreamExt as _, stream};
use reqwest::{Client, Method, Response, StatusCode};
use squall_experiments::api::{Problem, ProblemKind};
use squall_experiments::run_event::{Event, Verdict};
use squalld::coordinator::credentials::Credentials;
use squalld::coordinator::permission::Role;

use crate::world::{Shop, World, data, experiment, within};

const STREAMS: usize = 10_000;
/// As docs/safety.md says.
const MOST: usize = 1024;
const MOST_OF_ONE: usize = 128;
const WATCHERS: usize = 10;
/// Requests that are on their way at the same time.
const AT_ONCE: usize = 64;

struct Watcher {
    client: Client,
    token: String,
}

/// People on several machines: one address may have 1024 connections.
fn watchers(world: &World) -> Vec<Watcher> {
    let authority = reqwest::Certificate::from_pem(world.running.access.ca.as_bytes()).unwrap();
    let watcher = |number: usize| {
        let address: std::net::IpAddr = format!("127.0.1.{}", number + 1).parse().unwrap();
        let builder = Client::builder().tls_certs_only([authority.clone()]).no_proxy().local_address(address);
        let token =
            Credentials::of(world.dir.path()).add_user(&format!("watcher{number}"), Role::Viewer, None).unwrap();
        Watcher { client: builder.build().unwrap(), token }
    };
    (0..WATCHERS).map(watcher).collect()
}

/// An open stream, or who was told that there are too many.
async fn watch(world: &World, watcher: &Watcher, run: &str) -> Option<Response> {
    let url = format!("{}/v1/runs/{run}/stream", world.running.access.url);
    let answer = watcher.client.get(url).bearer_auth(&watcher.token).send().await.unwrap();
    if answer.status() == StatusCode::OK {
        return Some(answer);
    }
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    let problem: Problem = answer.json().await.unwrap();
    assert_eq!(problem.kind, ProblemKind::Refused);
    assert!(problem.reasons[0].contains("128 for one user, 1024 for all"), "{problem:?}");
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_ten_thousand_streams_as_many_are_open_as_may_be_the_others_are_told_429_and_a_halt_halts() {
    squalld::process_life::raise_descriptor_limit();
    let world = World::new().await;
    let _agent = world.agent("web1", 1).await;
    let shop = Shop::open().await;
    let run = world.submit(&experiment(&shop, "9m")).await;
    let watchers = watchers(&world);
    let one = stream::iter(0..2 * MOST_OF_ONE).map(|_| watch(&world, &watchers[0], &run));
    let of_one: Vec<_> = one.buffer_unordered(AT_ONCE).collect().await;
    assert_eq!(of_one.iter().flatten().count(), MOST_OF_ONE);
    let rest = stream::iter(of_one.len()..STREAMS).map(|number| watch(&world, &watchers[number % WATCHERS], &run));
    let rest: Vec<_> = rest.buffer_unordered(AT_ONCE).collect().await;
    let open: Vec<Response> = of_one.into_iter().chain(rest).flatten().collect();
    assert_eq!(open.len(), MOST);

    let start = Instant::now();
    let halt = watchers[1].client.post(format!("{}/v1/halt", world.running.access.url));
    let halted = within(halt.bearer_auth(&watchers[1].token).send()).await.unwrap();
    assert_eq!(halted.status(), StatusCode::OK);
    // It has a place like everyone else's streams; events can be read without one.
    let over = within(async {
        loop {
            let events = world.request(Method::GET, &format!("/v1/runs/{run}")).send().await.unwrap();
            let summary: squall_experiments::api::RunSummary = events.json().await.unwrap();
            if let Some(verdict) = summary.verdict {
                return verdict;
            }
        }
    })
    .await;
    eprintln!("beside {MOST} open streams of {STREAMS} a halt was over after {:?}", start.elapsed());
    assert_eq!(over, Verdict::Aborted);
    // Everyone who watched sees the end.
    let ends = stream::iter(open).map(|answer| async {
        let text = answer.text().await.unwrap();
        let last = text.lines().filter_map(data).next_back().map(|last| last.event);
        assert!(matches!(last, Some(Event::Finished { verdict: Verdict::Aborted, .. })), "{last:?}");
    });
    let ended = within(ends.buffer_unordered(AT_ONCE).count()).await;
    assert_eq!(ended, MOST);
    assert!(watch(&world, &watchers[0], &run).await.is_some(), "places are given back");
}
