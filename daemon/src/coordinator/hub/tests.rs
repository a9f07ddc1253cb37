use squall_experiments::inventory::Facts;

use super::*;
use squall_experiments::wire::Order;

fn arrival(node: &str) -> Arrival {
    Arrival {
        node: node.into(),
        session: "s".into(),
        labels: BTreeMap::new(),
        zone: None,
        facts: Facts::default(),
        open: Vec::new(),
    }
}

fn reverted(injection: &str) -> ToCoordinator {
    ToCoordinator::Changed {
        injection: injection.into(),
        state: InjectionState::Reverted,
        report: InjectionReport::default(),
    }
}

#[tokio::test]
async fn a_second_connection_replaces_the_first_and_its_end_is_no_loss() {
    let (hub, _late) = Hub::new(1, Duration::from_secs(10), Signer::derived_from(b"a test"), Vec::new(), |_| {});
    let first = hub.attach(arrival("db1")).await;
    let mut second = hub.attach(arrival("db1")).await;
    assert!(first.close.is_cancelled() && !second.close.is_cancelled());
    hub.detach("db1", first.number).await;
    assert!(hub.is_connected("db1"));
    let welcome = second.frames.recv().await.unwrap();
    assert!(welcome.contains("welcome"), "{welcome}");
    hub.detach("db1", second.number).await;
    assert!(!hub.is_connected("db1") && hub.inventory().nodes.contains_key("db1"));
}

#[tokio::test]
async fn a_run_hears_its_own_nodes_about_its_own_injections_and_nothing_else() {
    let (hub, mut late) = Hub::new(1, Duration::from_secs(10), Signer::derived_from(b"a test"), Vec::new(), |_| {});
    let db1 = hub.attach(arrival("db1")).await;
    let web = hub.attach(arrival("web")).await;
    while late.try_recv().is_ok() {}
    let (inbox, mut heard) = mpsc::channel(8);
    hub.listen("run", BTreeSet::from(["db1".to_owned()]), inbox);
    hub.heard("db1", db1.number, reverted("other/0.db1")).await;
    hub.heard("web", web.number, reverted("run/0.db1")).await;
    hub.heard("db1", db1.number, reverted("run/0.db1")).await;
    hub.detach("web", web.number).await;
    hub.detach("db1", db1.number).await;
    assert!(matches!(heard.recv().await, Some(Input::Changed { node, .. }) if node == "db1"));
    assert!(matches!(heard.recv().await, Some(Input::AgentLost { node }) if node == "db1"));
    assert!(heard.try_recv().is_err());
    assert!(matches!(late.try_recv(), Ok(Late::Changed { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_plan_waits_for_what_its_targets_still_try_and_for_nobody_else_and_not_for_ever() {
    let (hub, _late) = Hub::new(1, Duration::from_secs(10), Signer::derived_from(b"a test"), Vec::new(), |_| {});
    let facts = |trying| Facts { trying, ..Facts::default() };
    let mut db1 = hub.attach(Arrival { facts: facts(true), ..arrival("db1") }).await;
    let _web = hub.attach(Arrival { facts: facts(true), ..arrival("web") }).await;
    let started = tokio::time::Instant::now();
    let limit = Duration::from_secs(3);
    hub.wait_tried(|node| node.name == "cache", limit).await;
    assert!(started.elapsed().is_zero(), "no target tries anything");
    let answer = async {
        let _welcome = db1.frames.recv().await;
        let asked = db1.frames.recv().await.unwrap();
        assert!(asked.contains("try"), "{asked}");
        hub.heard("db1", db1.number, ToCoordinator::FactsNow { facts: Box::new(facts(false)) }).await;
    };
    tokio::join!(hub.wait_tried(|node| node.name == "db1", limit), answer);
    assert!(started.elapsed().is_zero(), "db1 has answered");
    hub.wait_tried(|_| true, limit).await;
    assert_eq!(started.elapsed(), limit, "web does not answer");
}

#[tokio::test]
async fn a_run_that_hears_late_of_a_connection_does_not_take_what_was_ordered_on_it_for_absent() {
    let (hub, _late) = Hub::new(1, Duration::from_secs(10), Signer::derived_from(b"a test"), Vec::new(), |_| {});
    let (inbox, mut heard) = mpsc::channel(8);
    hub.listen("run", BTreeSet::from(["db1".to_owned()]), inbox);
    let _attached = hub.attach(arrival("db1")).await;
    let (run, injection, fault) = ("run".into(), "run/0.db1".into(), "cpu-pressure".into());
    let (duration_ms, lease_ms) = (1_000, 10_000);
    let order = Order { epoch: 1, run, injection, fault, effects: Vec::new(), duration_ms, lease_ms };
    assert!(hub.send("db1", &ToAgent::Inject(order)));
    let mut back = heard.recv().await.unwrap();
    hub.refresh(&mut back);
    let Input::AgentBack { open, .. } = back else { panic!("{back:?}") };
    assert_eq!(open, [OpenInjection { injection: "run/0.db1".into(), state: InjectionState::Ordered }]);
}

#[tokio::test]
async fn an_agent_that_does_not_read_is_dropped_instead_of_waited_for() {
    let (hub, _late) = Hub::new(1, Duration::from_secs(10), Signer::derived_from(b"a test"), Vec::new(), |_| {});
    let attached = hub.attach(arrival("db1")).await;
    let sent = (0..OUTBOX + 1).filter(|_| hub.send("db1", &ToAgent::Halt { run: None })).count();
    assert!(sent < OUTBOX + 1 && attached.close.is_cancelled());
    assert!(!hub.send("unknown", &ToAgent::Halt { run: None }));
}
