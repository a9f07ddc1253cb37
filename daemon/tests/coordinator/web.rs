//! The web UI as a browser meets it: who gets in, what a form needs, what a role may, and that every text stays text.

use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::json;
use squall_experiments::api::{Health, RunSummary};
use squall_experiments::run_event::{InjectionState, Verdict};
use squalld::coordinator::credentials::Credentials;
use squalld::coordinator::permission::Role;
use squalld::sim_agent::SimAgent;

use crate::corpus::POISON;
use crate::world::{Shop, World, experiment, within};

const PAGES: [&str; 11] = [
    "/ui/fleet",
    "/ui/runs",
    "/ui/start",
    "/ui/start?experiment=replica-kill",
    "/ui/calendar",
    "/ui/compare",
    "/ui/game-days",
    "/ui/game-days/new",
    "/ui/game-days/new?day=shop-ha",
    "/ui/schedules/new",
    "/ui/audit",
];
const SESSION: &str = "__Host-squall";

/// A browser with one person in front of it.
pub struct Browser {
    client: Client,
    url: String,
    cookies: String,
    form_token: String,
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// Of the first form of a page.
fn form_token(page: &str) -> String {
    page.split("name=\"form_token\" value=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .unwrap_or_default()
        .to_owned()
}

/// The hidden field of a page.
fn field(page: &str, name: &str) -> String {
    let value = page.split(&format!("name=\"{name}\" value=\"")).nth(1).and_then(|rest| rest.split('"').next());
    let value = value.unwrap_or_else(|| panic!("no field {name} in {page}"));
    value.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

fn new_cookie(answer: &Response, name: &str) -> Option<String> {
    let all = answer.headers().get_all("set-cookie").into_iter().filter_map(|value| value.to_str().ok());
    all.filter_map(|value| value.split(';').next())
        .find(|pair| pair.starts_with(&format!("{name}=")))
        .map(str::to_owned)
}

impl World {
    fn browser(&self) -> Browser {
        let authority = reqwest::Certificate::from_pem(self.running.access.ca.as_bytes()).unwrap();
        let client = Client::builder().tls_certs_only([authority]).no_proxy().redirect(Policy::none()).build().unwrap();
        Browser { client, url: self.running.access.url.clone(), cookies: String::new(), form_token: String::new() }
    }

    /// Somebody of this role, logged in.
    pub async fn visitor(&self, name: &str, role: Role) -> Browser {
        let token = Credentials::of(self.dir.path()).add_user(name, role, None).unwrap();
        let mut browser = self.browser();
        let answer = browser.log_in(&token, "").await;
        assert_eq!(answer.status(), 303, "{name}");
        browser
    }
}

impl Browser {
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).header("cookie", &self.cookies)
    }

    pub async fn get(&self, path: &str) -> (u16, String) {
        let answer = self.request(Method::GET, path).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn log_in(&mut self, token: &str, name: &str) -> Response {
        let answer = self.request(Method::GET, "/ui/login").send().await.unwrap();
        self.cookies = new_cookie(&answer, "__Host-squall-form").unwrap();
        self.form_token = form_token(&answer.text().await.unwrap());
        let answer = self.post("/ui/login", &[("token", token), ("name", name)]).await;
        if let Some(cookie) = new_cookie(&answer, SESSION) {
            self.cookies = cookie;
            self.form_token = form_token(&self.get("/ui/fleet").await.1);
        }
        answer
    }

    pub async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Response {
        let mut body = format!("form_token={}", self.form_token);
        for (name, value) in fields {
            body.push_str(&format!("&{name}={}", encoded(value)));
        }
        self.send(path, body).send().await.unwrap()
    }

    fn send(&self, path: &str, body: String) -> RequestBuilder {
        self.request(Method::POST, path).header("content-type", "application/x-www-form-urlencoded").body(body)
    }
}

#[tokio::test]
async fn without_a_session_every_page_is_the_log_in_page_and_every_form_does_nothing() {
    let (world, shop) = (World::new().await, Shop::open().await);
    let web = world.agent("web1", 1).await;
    let run = world.submit(&experiment(&shop, "20s")).await;
    within(web.until(|seen| seen.states.values().any(|state| *state == InjectionState::Active))).await;
    let stranger = world.browser();
    for page in PAGES.iter().copied().chain(["/ui/runs/last", "/ui/live", "/ui/runs/last/report.html", "/ui/nothing"]) {
        let (status, body) = stranger.get(page).await;
        assert_eq!(status, 401, "{page}");
        assert!(body.contains("Log in to Squall") && !body.contains("neighbour") && !body.contains("web1"), "{page}");
    }
    // Whoever types the host's name alone is led there; the API goes on answering 401.
    let root = stranger.request(Method::GET, "/").send().await.unwrap();
    assert_eq!((root.status().as_u16(), &root.headers()["location"]), (303, &"/ui/fleet".parse().unwrap()));
    assert_eq!(stranger.get("/v1/runs").await.0, 401);
    for form in [
        "/ui/halt",
        "/ui/runs/last/halt",
        "/ui/runs",
        "/ui/plan",
        "/ui/lever/release",
        "/ui/logout",
        "/ui/game-days",
        "/ui/schedules",
    ] {
        let answer = stranger.post(form, &[]).await;
        assert_eq!(answer.status(), 401, "{form}");
        assert!(answer.text().await.unwrap().contains("nothing was done"), "{form}");
    }
    assert_eq!(world.summary(&run).await.verdict, None);
}

#[tokio::test]
async fn a_token_opens_a_session_in_a_cookie_that_no_script_and_no_other_site_gets() {
    let world = World::new().await;
    let mut browser = world.browser();
    let wrong = browser.log_in("guessed", "").await;
    assert_eq!((wrong.status().as_u16(), new_cookie(&wrong, SESSION)), (401, None));
    let right = browser.log_in(&world.running.access.token, "ada").await;
    assert_eq!(right.headers()["location"], "/ui/fleet");
    let cookies: Vec<_> =
        right.headers().get_all("set-cookie").into_iter().map(|value| value.to_str().unwrap()).collect();
    for attribute in ["Secure", "HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=28800"] {
        assert!(cookies[0].split("; ").any(|found| found == attribute), "{attribute} in {cookies:?}");
    }
    assert!(browser.get("/ui/fleet").await.1.contains("ada \u{b7} admin"));
    // The API is not opened by a cookie: a page of another site has nothing to send there.
    assert_eq!(browser.get("/v1/runs").await.0, 401);
    // A form that was not got here opens nothing: nobody is logged in as somebody else.
    let planted = world.browser();
    let body = format!("form_token=x&token={}", world.running.access.token);
    assert_eq!(planted.send("/ui/login", body).send().await.unwrap().status(), 403);
}

#[tokio::test]
async fn a_session_ends_with_its_user_and_with_logging_out() {
    let world = World::new().await;
    let (ada, bob) = (world.visitor("ada", Role::Viewer).await, world.visitor("bob", Role::Viewer).await);
    assert_eq!(ada.get("/ui/runs").await.0, 200);
    assert!(Credentials::of(world.dir.path()).remove_user("ada").unwrap());
    assert_eq!(ada.get("/ui/runs").await.0, 401);
    assert_eq!(bob.post("/ui/logout", &[]).await.status(), 303);
    assert_eq!(bob.get("/ui/runs").await.0, 401);
}

#[tokio::test]
async fn a_form_without_the_sessions_own_token_or_from_another_site_is_refused() {
    let (world, shop) = (World::new().await, Shop::open().await);
    let web = world.agent("web1", 1).await;
    let (ada, bob) = (world.visitor("ada", Role::Operator).await, world.visitor("bob", Role::Operator).await);
    let run = world.submit(&experiment(&shop, "20s")).await;
    within(web.until(|seen| seen.states.values().any(|state| *state == InjectionState::Active))).await;
    for path in ["/ui/halt", "/ui/runs/last/halt", "/ui/runs", "/ui/plan", "/ui/lever/engage", "/ui/logout"] {
        for body in [
            String::new(),
            "form_token=".into(),
            format!("form_token={}", bob.form_token),
            "form_token=x&form_token=y".into(),
        ] {
            let answer = ada.send(path, body).send().await.unwrap();
            assert_eq!(answer.status(), 403, "{path}");
            assert!(answer.text().await.unwrap().contains("not one of your session"), "{path}");
        }
        let own = format!("form_token={}", ada.form_token);
        let foreign = ada.send(path, own.clone()).header("sec-fetch-site", "cross-site").send().await.unwrap();
        assert_eq!(foreign.status(), 403, "{path}");
        let json = ada.request(Method::POST, path).json(&json!({"form_token": ada.form_token})).send().await.unwrap();
        assert_eq!(json.status(), 400, "{path}");
    }
    assert_eq!(world.summary(&run).await.verdict, None);
    assert_eq!(ada.get("/ui/runs").await.0, 200);
}

#[tokio::test]
async fn everyone_who_is_logged_in_halts_one_run_and_everything() {
    let (world, shop) = (World::new().await, Shop::open().await);
    let web = world.agent("web1", 1).await;
    for (n, role) in Role::ALL.into_iter().enumerate() {
        let browser = world.visitor(role.name(), role).await;
        let run = world.submit(&experiment(&shop, "20s")).await;
        within(web.until(|seen| {
            seen.states.iter().any(|(name, state)| name.starts_with(&run) && *state == InjectionState::Active)
        }))
        .await;
        let (_, page) = browser.get("/ui/audit").await;
        assert!(
            page.contains("Halt everything") && page.contains(&format!("/ui/runs/{run}/halt")),
            "{role}: halt is in reach"
        );
        let path = if n % 2 == 0 { "/ui/halt".to_owned() } else { format!("/ui/runs/{run}/halt") };
        let answer = browser.post(&path, &[]).await;
        assert_eq!(
            (answer.status().as_u16(), answer.headers()["location"].to_str().unwrap()),
            (303, &*format!("/ui/runs/{run}")),
            "{role}"
        );
        assert!(browser.get("/ui/fleet").await.1.contains("Halt was sent"), "{role}");
        let (verdict, why) = world.verdict(&run).await;
        assert!(verdict == Verdict::Aborted && why.contains(role.name()), "{role}: {why}");
    }
}

#[tokio::test]
async fn a_viewer_sees_every_page_and_neither_plans_nor_starts_nor_releases() {
    let (world, shop) = (World::new().await, Shop::open().await);
    let _web = world.agent("web1", 1).await;
    let viewer = world.visitor("vera", Role::Viewer).await;
    for page in PAGES {
        assert_eq!(viewer.get(page).await.0, 200, "{page}");
    }
    let text = experiment(&shop, "1s").to_string();
    for path in ["/ui/plan", "/ui/runs", "/ui/lever/release", "/ui/schedules/x/run", "/ui/schedules", "/ui/game-days"] {
        let answer = viewer.post(path, &[("experiment", &text)]).await;
        assert_eq!(answer.status(), 403, "{path}");
        assert!(answer.text().await.unwrap().contains("the role viewer may not"), "{path}");
    }
    let author = world.visitor("arthur", Role::Author).await;
    let plan = author.post("/ui/plan", &[("experiment", &text)]).await;
    assert_eq!(plan.status(), 200);
    let plan = plan.text().await.unwrap();
    assert!(plan.contains("The role author may not start runs") && !plan.contains("Start this run"));
    assert_eq!(author.post("/ui/runs", &[("experiment", &text)]).await.status(), 403);
    assert!(world.get::<Vec<RunSummary>>("/v1/runs").await.is_empty());
}

#[tokio::test]
async fn the_plan_that_was_shown_is_the_one_that_starts() {
    let (world, shop) = (World::new().await, Shop::open().await);
    let web = world.agent("web1", 1).await;
    let runner = world.visitor("rita", Role::Runner).await;
    let text = experiment(&shop, "200ms").to_string();
    let shown = runner.post("/ui/plan", &[("experiment", &text)]).await.text().await.unwrap();
    assert!(shown.contains("would do it") && shown.contains("Start this run"), "{shown}");
    let (seed, plan) = (field(&shown, "seed"), field(&shown, "plan"));
    assert!(world.get::<Vec<RunSummary>>("/v1/runs").await.is_empty(), "a plan does nothing");
    assert_eq!(field(&shown, "experiment"), text);

    // The fleet changes in between: what would happen is another thing now.
    web.dial(None);
    within(async {
        while world.get::<Health>("/v1/health").await.nodes > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let _second = world.agent("web0", 2).await;
    let anew = runner.post("/ui/runs", &[("experiment", &text), ("seed", &seed), ("plan", &plan)]).await;
    let anew = anew.text().await.unwrap();
    assert!(anew.contains("has changed since you looked"), "{anew}");
    assert!(world.get::<Vec<RunSummary>>("/v1/runs").await.is_empty());
    let started =
        runner.post("/ui/runs", &[("experiment", &text), ("seed", &seed), ("plan", &field(&anew, "plan"))]).await;
    assert_eq!(started.status(), 303);
    let place = started.headers()["location"].to_str().unwrap().to_owned();
    let run = place.rsplit('/').next().unwrap();
    assert_eq!(world.verdict(run).await.0, Verdict::Held);
    assert!(world.summary(run).await.by.starts_with("rita at "));
    let (status, page) = runner.get(&place).await;
    assert!(status == 200 && page.contains("Held") && page.contains("class=\"canvas\""), "{page}");
    assert!(page.contains("reverted"), "each node's state is told");
    let (_, comparison) = runner.get(&format!("/ui/compare?a={run}&b={run}")).await;
    assert!(comparison.contains("Success during") && comparison.contains("same"), "{comparison}");
    assert!(web.seen().orders.len() < 20);
}

#[tokio::test]
async fn mistakes_and_refusals_are_told_beside_the_text_that_has_them() {
    let world = World::new().await;
    let runner = world.visitor("rita", Role::Runner).await;
    let broken = runner.post("/ui/plan", &[("experiment", "apiVersion: squall/v1\nkind: Experiment\nmore: 1\n")]).await;
    assert_eq!(broken.status(), 400);
    let page = broken.text().await.unwrap();
    assert!(page.contains("line 3") && page.contains("kind: Experiment\nmore: 1"), "{page}");
    let shop = Shop::open().await;
    let refused = runner.post("/ui/plan", &[("experiment", &experiment(&shop, "1s").to_string())]).await;
    assert_eq!(refused.status(), 422);
    assert!(refused.text().await.unwrap().contains("Refused"));
    for seed in ["-1", "one", "99999999999999999999"] {
        assert_eq!(
            runner
                .post("/ui/plan", &[("experiment", &experiment(&shop, "1s").to_string()), ("seed", seed)])
                .await
                .status(),
            400
        );
    }
    let huge = "x".repeat(300_000);
    assert_eq!(runner.post("/ui/plan", &[("experiment", &huge)]).await.status(), 400);
}

/// What a browser would take for more than text.
pub fn alive(page: &str) -> Option<String> {
    let raw = ["<script>alert", "<script>a", "\"; drop", "<u>", "onload="].iter().find(|raw| page.contains(**raw));
    let control = page.chars().find(|c| c.is_control() && *c != '\n');
    raw.map(|raw| (*raw).to_owned()).or(control.map(|c| format!("{c:?}")))
}

#[tokio::test]
async fn every_text_that_comes_from_outside_stays_text_on_every_page() {
    let (world, shop) = (World::new().await, Shop::open().await);
    let labels: Vec<(&str, &str)> = POISON.iter().map(|poison| ("role", *poison)).collect();
    for (n, label) in labels.iter().enumerate() {
        let name = format!("n{n}");
        let agent = SimAgent::start(&name, n as u32 + 1, &[*label]);
        agent.dial(Some(world.dial(&name)));
        within(world.running.wait_connected(&name)).await;
        std::mem::forget(agent);
    }
    let mut ada = world.browser();
    for poison in POISON {
        ada.log_in(&world.running.access.token, poison).await;
        let mut changed = experiment(&shop, "1s");
        changed["hypothesis"] = json!(format!("<u>{poison}</u>"));
        changed["metadata"]["description"] = json!(poison);
        changed["steadyState"][0]["name"] = json!(poison);
        let answer = ada.post("/ui/plan", &[("experiment", &changed.to_string()), ("seed", poison)]).await;
        assert!([200, 400, 422].contains(&answer.status().as_u16()), "{poison:?}: {}", answer.status());
        let page = answer.text().await.unwrap();
        assert_eq!(alive(&page), None, "{poison:?}");
        for path in ["/ui/runs/", "/ui/start?experiment=", "/ui/compare?a=", "/ui/compare?b=last&a=", "/ui/runs?from="]
        {
            let (status, page) = ada.get(&format!("{path}{}", encoded(poison))).await;
            assert!([200, 400, 404].contains(&status), "{path} {poison:?}: {status}");
            assert_eq!(alive(&page), None, "{path} {poison:?}");
        }
    }
    let mut changed = experiment(&shop, "100ms");
    changed["hypothesis"] = json!("<u>bold</u><script>alert(1)</script>");
    changed["method"][0]["on"]["nodes"] = json!({"names": ["n20"]});
    let run = world.submit(&changed).await;
    world.verdict(&run).await;
    for page in PAGES.iter().copied().chain([&*format!("/ui/runs/{run}"), &*format!("/ui/compare?a={run}&b={run}")]) {
        let (status, page_text) = ada.get(page).await;
        assert_eq!((status, alive(&page_text)), (200, None), "{page}");
    }
    let (_, fleet) = ada.get("/ui/fleet").await;
    assert!(fleet.contains("role=&lt;script&gt;alert(1)&lt;/script&gt;"), "the label is shown as it is");
    assert!(ada.get(&format!("/ui/runs/{run}")).await.1.contains("&lt;u&gt;bold&lt;/u&gt;"));
}

#[tokio::test]
async fn every_answer_forbids_what_a_page_of_ours_never_needs() {
    let world = World::new().await;
    let ada = world.visitor("ada", Role::Admin).await;
    for path in PAGES.iter().copied().chain([
        "/ui/login",
        "/ui/style.css",
        "/ui/live.js",
        "/ui/icon.svg",
        "/ui/nothing",
        "/ui/runs/none",
    ]) {
        let answer = ada.request(Method::GET, path).send().await.unwrap();
        let headers = answer.headers().clone();
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(
            policy.starts_with("default-src 'none'") && !policy.contains("unsafe") && !policy.contains("http"),
            "{path}: {policy}"
        );
        assert_eq!(headers["x-frame-options"], "DENY", "{path}");
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        if headers["content-type"].to_str().unwrap().starts_with("text/html") {
            assert_eq!(headers["cache-control"], "no-store", "{path}");
            let page = answer.text().await.unwrap();
            // What the policy would silence anyway is not there.
            for inline in [" style=\"", "<style", " onclick", "javascript:", "href=\"http", "src=\"http"] {
                assert!(!page.contains(inline), "{path}: {inline}");
            }
            assert_eq!(page.matches("<script").count(), 1, "{path}");
            assert!(page.contains("href=\"#main\"") && page.contains("id=\"main\""), "{path} can be skipped to");
            for input in page.split("<input ").skip(1).filter(|input| !input.starts_with("type=\"hidden\"")) {
                let id = input.split("id=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
                assert!(page.contains(&format!("<label for=\"{id}\"")), "{path}: {id} has a label");
            }
        }
    }
}

#[tokio::test]
async fn an_open_page_hears_of_changes_until_its_session_ends() {
    let world = World::new().await;
    let ada = world.visitor("ada", Role::Viewer).await;
    let mut live = ada.request(Method::GET, "/ui/live").send().await.unwrap();
    assert_eq!(live.headers()["content-type"], "text/event-stream");
    let first = within(live.chunk()).await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&first).contains("event: changed\ndata: now"));
    let _web = world.agent("web1", 1).await;
    let second = within(live.chunk()).await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&second).contains("event: changed"));
    assert!(ada.get("/ui/fleet").await.1.contains("web1"));
    ada.post("/ui/logout", &[]).await;
    assert!(within(live.chunk()).await.unwrap().is_none());
}

#[tokio::test]
async fn the_audit_page_says_who_did_what_and_finds_a_record_that_was_changed() {
    let world = World::new().await;
    let vera = world.visitor("vera", Role::Viewer).await;
    vera.post("/ui/lever/engage", &[]).await;
    vera.post("/ui/lever/release", &[]).await;
    let health: Health = world.get("/v1/health").await;
    assert_eq!(health.active_runs, 0);
    // The log's own thread writes it.
    let page = within(async {
        loop {
            let (_, page) = vera.get("/ui/audit").await;
            if page.contains("POST /ui/lever/release refused (403)") {
                return page;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(
        page.contains("The log verifies")
            && page.contains("safety lever engaged")
            && page.contains("vera at 127.0.0.1")
    );
    let file = world.dir.path().join(squall_experiments::audit::file_name(1));
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("\"vera at", "\"vega at")).unwrap();
    assert!(vera.get("/ui/audit").await.1.contains("The log is broken"));
}
