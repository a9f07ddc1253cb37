//! The web UI in a real browser (headless Chromium): log in, look, start, watch, halt, report, keep a schedule, start a game day and approve. The coordinator is real; its agents are
//! simulated, so nothing is injected anywhere.

use std::sync::Arc;

use serde_json::{Value, json};
use squall_tests::browser::{self, Browser, Look};
use squall_tests::skip::skip;
use squalld::coordinator::{Config, Running, start};
use squalld::sim_agent::{Dial, SimAgent};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const TAB: u32 = 9;
const ENTER: u32 = 13;

/// A shop that is always open.
async fn shop() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\ngoods";
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    format!("http://{address}/")
}

async fn agent(running: &Running, node: &str, number: u32) -> SimAgent {
    let identity = running.enroll(node).unwrap();
    let agent = SimAgent::start(node, number, &[("role", "web"), ("service", "shop")]);
    agent.dial(Some(Dial { address: running.address, ca: running.access.ca.clone(), identity: Some(identity) }));
    running.wait_connected(node).await;
    agent
}

/// Burns a processor of one node while the shop is watched.
fn experiment(shop: &str, duration: &str) -> Value {
    json!({
        "apiVersion": "squall/v1", "kind": "Experiment",
        "metadata": {"name": "replica-cpu", "description": "A neighbour burns one processor of one replica."},
        "hypothesis": "Customers are served while one replica burns a processor.",
        "steadyState": [{"name": "shop", "http": {"url": shop}, "every": "100ms", "tolerance": {"success": ">= 99%", "p95": "<= 500ms"}}],
        "method": [{"fault": "cpu-pressure", "on": {"nodes": {"role": "web"}, "pick": {"count": 1}}, "with": {"workers": 1}, "for": duration}]
    })
}

fn written(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap()
}

const FITS: &str = "document.documentElement.scrollWidth <= window.innerWidth";

/// In every look, and that nothing is wider than the screen.
async fn pictures(browser: &mut Browser, name: &str) {
    for (suffix, look) in [("light", Look::DESK), ("dark", Look::DARK), ("phone", Look::PHONE)] {
        browser.look(look).await.unwrap();
        let bytes = browser.picture(&format!("{name}-{suffix}")).await.unwrap();
        assert!(bytes > 5_000, "{name}-{suffix} is empty: {bytes} bytes");
        assert_eq!(browser.value(FITS).await.unwrap(), true, "{name}-{suffix} is wider than the screen");
    }
    browser.look(Look::DESK).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_logs_in_starts_an_experiment_watches_it_halts_it_and_reads_its_report() {
    let test = "a_person_logs_in_starts_an_experiment_watches_it_halts_it_and_reads_its_report";
    let Some(program) = browser::program() else {
        return skip(test, "there is no chromium (apt-get install chromium)");
    };
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let mut config = Config::new(dir.path().to_owned(), "127.0.0.1:0".parse().unwrap());
    config.ephemeral = true;
    let running = start(config).await.unwrap();
    let (url, shop) = (running.access.url.clone(), shop().await);
    let _agents = (agent(&running, "web1", 1).await, agent(&running, "web2", 2).await);
    let mut browser = Browser::start(&program).await.unwrap();
    browser.look(Look::DESK).await.unwrap();

    // The host's name alone leads here, too.
    browser.open(&format!("{url}/")).await.unwrap();
    browser.until_text("Log in to Squall").await.unwrap();
    // Whatever is asked for first: the log-in page, then what was asked for.
    browser.open(&format!("{url}/ui/runs")).await.unwrap();
    browser.until_text("Log in to Squall").await.unwrap();
    pictures(&mut browser, "log-in").await;
    browser.fill("Token", "guessed").await.unwrap();
    browser.press("Log in").await.unwrap();
    browser.until_text("This token is not").await.unwrap();
    browser.fill("Token", &running.access.token).await.unwrap();
    browser.fill("Your name", "ada").await.unwrap();
    browser.press("Log in").await.unwrap();
    browser.until_text("There is no run yet").await.unwrap();

    // The keyboard alone: the first stop leads past the navigation.
    browser.key("Tab", TAB).await.unwrap();
    browser.until("document.activeElement.className === 'skip'").await.unwrap();
    browser.until("getComputedStyle(document.activeElement).outlineStyle === 'solid'").await.unwrap();
    browser.key("Enter", ENTER).await.unwrap();
    browser.until("document.activeElement.id === 'main'").await.unwrap();

    // A node that comes is there without anybody loading the page again.
    browser.open(&format!("{url}/ui/fleet")).await.unwrap();
    browser.until_text("2 of 2 known nodes connected").await.unwrap();
    browser.value("window.stayed = true").await.unwrap();
    let _third = agent(&running, "web3", 3).await;
    browser.until_text("3 of 3 known nodes connected").await.unwrap();
    assert_eq!(browser.value("window.stayed").await.unwrap(), true, "the page was loaded again");
    pictures(&mut browser, "fleet").await;

    browser.open(&format!("{url}/ui/start")).await.unwrap();
    pictures(&mut browser, "catalogue").await;
    browser.press("replica-cpu").await.unwrap();
    browser.until("location.search === '?experiment=replica-cpu' && document.querySelector('textarea').value.includes('kind: Experiment')").await.unwrap();
    browser.fill("The experiment", &written(&experiment(&shop, "5m"))).await.unwrap();
    browser.press("Show the plan").await.unwrap();
    browser.until_text("would do it").await.unwrap();
    pictures(&mut browser, "plan").await;
    browser.press("Start this run").await.unwrap();

    // It goes on by itself: the fault becomes active, samples are drawn.
    browser.until("location.pathname.startsWith('/ui/runs/')").await.unwrap();
    browser.until_text("Halt this run").await.unwrap();
    browser.value("window.stayed = true").await.unwrap();
    browser
        .until("[...document.querySelectorAll('.tile')].some((tile) => tile.innerText.includes('active'))")
        .await
        .unwrap();
    let drawn = "document.querySelectorAll('svg .ok circle').length";
    let first = browser.value(drawn).await.unwrap().as_u64().unwrap();
    browser.until(&format!("{drawn} > {}", first + 10)).await.unwrap();
    assert_eq!(browser.value("window.stayed").await.unwrap(), true, "the page was loaded again");
    pictures(&mut browser, "run").await;

    // Without a script it is there all the same.
    browser.scripts(false).await.unwrap();
    let here = browser.value("location.href").await.unwrap();
    browser.open(here.as_str().unwrap()).await.unwrap();
    browser.until_text("Halt this run").await.unwrap();
    assert!(browser.value(drawn).await.unwrap().as_u64().unwrap() > first);
    browser.scripts(true).await.unwrap();

    // From another page, with what every page has.
    browser.open(&format!("{url}/ui/audit")).await.unwrap();
    browser.until_text("The log verifies").await.unwrap();
    pictures(&mut browser, "audit").await;
    browser.press("Halt everything").await.unwrap();
    browser.until_text("Halt was sent to 1 active run").await.unwrap();
    browser.until("document.querySelector('[role=status] .mark, span[role=status]').innerText.includes('Aborted') || document.body.innerText.includes('Download the report')").await.unwrap();
    browser.until_text("reverted").await.unwrap();
    pictures(&mut browser, "report").await;

    let run = browser.value("location.pathname.split('/').pop()").await.unwrap();
    let run = run.as_str().unwrap();
    browser.open(&format!("{url}/ui/compare?a={run}&b={run}")).await.unwrap();
    browser.until_text("Success during").await.unwrap();
    pictures(&mut browser, "compare").await;
    keeps_a_schedule(&mut browser, &url).await;
    plays_a_game_day(&mut browser, &url, &shop).await;
    browser.press("Log out").await.unwrap();
    browser.until_text("Log in to Squall").await.unwrap();

    // The refused log-in is one the browser tells of as well.
    let complaints: Vec<&String> = browser.complaints().iter().filter(|complaint| !complaint.contains("401")).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    drop(browser);
    assert_eq!(running.stop("the test").await, Vec::<String>::new());
}

async fn keeps_a_schedule(browser: &mut Browser, url: &str) {
    browser.open(&format!("{url}/ui/calendar")).await.unwrap();
    browser.press("New schedule").await.unwrap();
    browser.until("document.querySelector('textarea').value.includes('kind: Schedule')").await.unwrap();
    pictures(browser, "schedule").await;
    let schedule = json!({"apiVersion": "squall/v1", "kind": "Schedule", "metadata": {"name": "nightly"},
        "cron": "30 2 * * *", "run": {"catalogue": "replica-kill"}});
    browser.fill("The schedule", &written(&schedule)).await.unwrap();
    browser.press("Keep it").await.unwrap();
    browser.until_text("The schedule nightly is kept").await.unwrap();
    browser.until_text("02:30").await.unwrap();
    pictures(browser, "calendar").await;
}

/// It waits for an approval, which is given in the same browser; then it goes on by itself.
async fn plays_a_game_day(browser: &mut Browser, url: &str, shop: &str) {
    let day = json!({"apiVersion": "squall/v1", "kind": "GameDay", "metadata": {"name": "evening"},
        "hypothesis": "Customers are served in the evening.", "owner": "ada",
        "agenda": [{"approval": {"ask": "Is everybody ready?"}}, {"run": {"experiment": experiment(shop, "2s")}}]});
    browser.open(&format!("{url}/ui/game-days")).await.unwrap();
    browser.press("Start a game day").await.unwrap();
    browser.until_text("shop-ha").await.unwrap();
    pictures(browser, "game-days").await;
    browser.fill("The game day", &written(&day)).await.unwrap();
    browser.press("Show the plan").await.unwrap();
    browser.until_text("What each step would do now").await.unwrap();
    pictures(browser, "game-day-plan").await;
    browser.press("Start this game day").await.unwrap();
    browser.until_text("Waits for an answer: Is everybody ready?").await.unwrap();
    pictures(browser, "approval").await;
    browser.fill("Comment", "All are here.").await.unwrap();
    browser.press("Approve: go on").await.unwrap();
    browser.until("!document.body.innerText.includes('Approve: go on')").await.unwrap();
    browser.until_text("All are here.").await.unwrap();
    browser.until_text("Download the scorecard").await.unwrap();
    browser.until("document.querySelector('[role=status]').innerText.includes('Held')").await.unwrap();
    pictures(browser, "game-day").await;
}
