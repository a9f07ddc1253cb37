//! A game day in the browser: its cockpit, answers and notes, by role.

use serde_json::json;
use squall_experiments::game_day::status::DayStatus;
use squall_experiments::run_event::Verdict;
use squalld::coordinator::permission::Role;

use crate::web::alive;
use crate::world::{Shop, World, experiment, within};

#[tokio::test]
async fn a_game_day_waits_for_an_answer_of_somebody_who_may_and_keeps_notes() {
    let (world, shop) = (World::new().await, Shop::open().await);
    let _web = world.agent("web1", 1).await;
    let day = json!({
        "apiVersion": "squall/v1", "kind": "GameDay", "metadata": {"name": "shop-day"},
        "hypothesis": "The shop <u>survives</u>.", "owner": "ana", "participants": [{"name": "otto", "role": "approver"}],
        "agenda": [{"approval": {"ask": "Go <script>alert(1)</script> on?"}}, {"run": {"experiment": experiment(&shop, "100ms")}}]
    });
    let (status, answer) = world.post("/v1/game-days", &json!({"gameDay": day})).await;
    assert_eq!(status, 201, "{answer}");
    let id = answer["gameDay"].as_str().unwrap().to_owned();
    let until = async |so: &dyn Fn(&DayStatus) -> bool| {
        within(async {
            loop {
                let status: DayStatus = world.get(&format!("/v1/game-days/{id}")).await;
                if so(&status) {
                    return status;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await
    };
    until(&|status| !status.waiting.is_empty()).await;
    let place = format!("/ui/game-days/{id}");
    let (vera, otto) = (world.visitor("vera", Role::Viewer).await, world.visitor("otto", Role::Approver).await);
    assert!(vera.get("/ui/game-days").await.1.contains("shop-day"));
    let (_, cockpit) = vera.get(&place).await;
    assert!(cockpit.contains("Waits for an answer") && cockpit.contains("otto") && !cockpit.contains("Approve: go on"));
    assert_eq!(alive(&cockpit), None);
    for (form, fields) in [("approve", vec![("step", "0"), ("answer", "approve")]), ("notes", vec![("text", "x")])] {
        assert_eq!(vera.post(&format!("{place}/{form}"), &fields).await.status(), 403, "{form}");
    }
    for wrong in [
        [("step", "7"), ("answer", "approve")],
        [("step", "x"), ("answer", "approve")],
        [("step", "0"), ("answer", "")],
    ] {
        let status = otto.post(&format!("{place}/approve"), &wrong).await.status().as_u16();
        assert!([400, 422].contains(&status), "{wrong:?}: {status}");
    }
    let noted =
        otto.post(&format!("{place}/notes"), &[("text", "The pager <script>alert(2)</script>\r\nis silent.")]).await;
    assert_eq!(noted.status(), 303);
    let (_, cockpit) = otto.get(&place).await;
    assert!(cockpit.contains("The pager &lt;script&gt;") && cockpit.contains("otto at 127.0.0.1"), "{cockpit}");
    assert_eq!(alive(&cockpit), None);
    let approved =
        otto.post(&format!("{place}/approve"), &[("step", "0"), ("answer", "approve"), ("comment", "ready")]).await;
    assert_eq!(approved.headers()["location"].to_str().unwrap(), place);
    let over = until(&|status| status.summary.verdict.is_some()).await;
    assert_eq!(over.summary.verdict, Some(Verdict::Held), "{}", over.summary.why);
    let (_, cockpit) = vera.get(&place).await;
    assert!(
        cockpit.contains("ready")
            && cockpit.contains("Download the scorecard")
            && !cockpit.contains("Halt this game day")
    );
    let (status, card) = vera.get(&format!("{place}/report.html")).await;
    assert!(status == 200 && card.contains("shop-day"));
}

#[tokio::test]
async fn everyone_halts_a_game_day() {
    let world = World::new().await;
    let day = json!({
        "apiVersion": "squall/v1", "kind": "GameDay", "metadata": {"name": "pause"}, "hypothesis": "h", "owner": "ana",
        "agenda": [{"approval": {"ask": "Go on?"}}]
    });
    let (status, answer) = world.post("/v1/game-days", &json!({"gameDay": day})).await;
    assert_eq!(status, 201, "{answer}");
    let place = format!("/ui/game-days/{}", answer["gameDay"].as_str().unwrap());
    let vera = world.visitor("vera", Role::Viewer).await;
    assert!(vera.get(&place).await.1.contains("Halt this game day"));
    assert_eq!(vera.post(&format!("{place}/halt"), &[]).await.status(), 303);
    assert!(vera.get(&place).await.1.contains("Halt was sent"));
}

#[tokio::test]
async fn a_game_day_is_planned_and_started_from_a_text() {
    let (world, shop) = (World::new().await, Shop::open().await);
    let _web = world.agent("web1", 1).await;
    let agenda = json!([{"approval": {"ask": "Go on?"}}, {"run": {"experiment": experiment(&shop, "100ms")}}]);
    let day = json!({
        "apiVersion": "squall/v1", "kind": "GameDay", "metadata": {"name": "typed"}, "hypothesis": "h <b>", "owner": "ana",
        "preChecks": {"nodes": [{"of": {"role": "web"}, "atLeast": 2}]}, "agenda": agenda
    });
    let text = day.to_string();
    let rita = world.visitor("rita", Role::Runner).await;
    let shown = rita.post("/ui/game-days/plan", &[("day", &text)]).await;
    assert_eq!(shown.status(), 200);
    let shown = shown.text().await.unwrap();
    for part in ["Plan of <bdi>typed", "does not hold", "Go on?", "neighbour", "Start this game day"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert_eq!(alive(&shown), None);
    assert!(rita.get("/ui/game-days").await.1.contains("There was none yet"), "a plan starts nothing");
    // Mistakes and files are told beside the text.
    for (wrong, why) in [
        (text.replace("agenda", "agendo"), "agendo"),
        (text.replace(&agenda[1].to_string(), r#"{"run": {"file": "x.yaml"}}"#), "reads no files"),
    ] {
        let answer = rita.post("/ui/game-days/plan", &[("day", &wrong)]).await;
        assert_eq!(answer.status(), 400, "{why}");
        let answer = answer.text().await.unwrap();
        assert!(
            answer.contains(why) && answer.contains("There are mistakes") && answer.contains("&lt;b&gt;"),
            "{answer}"
        );
        assert_eq!(rita.post("/ui/game-days", &[("day", &wrong)]).await.status(), 400);
    }
    let text = text.replace("\"atLeast\":2", "\"atLeast\":1");
    let started = rita.post("/ui/game-days", &[("day", &text)]).await;
    assert_eq!(started.status(), 303);
    let cockpit = started.headers()["location"].to_str().unwrap().to_owned();
    assert!(cockpit.starts_with("/ui/game-days/"), "{cockpit}");
    let arthur = world.visitor("arthur", Role::Author).await;
    assert_eq!(arthur.post("/ui/game-days/plan", &[("day", &text)]).await.status(), 200);
    assert_eq!(arthur.post("/ui/game-days", &[("day", &text)]).await.status(), 403);
    assert_eq!(rita.post(&format!("{cockpit}/halt"), &[]).await.status(), 303);
}

#[tokio::test]
async fn a_schedule_is_kept_from_a_text_and_stands_in_the_calendar() {
    let world = World::new().await;
    let rita = world.visitor("rita", Role::Runner).await;
    let text = "apiVersion: squall/v1\r\nkind: Schedule\r\nmetadata: {name: nightly}\r\ncron: '30 2 * * *'\r\nrun: {catalogue: replica-kill}\r\n";
    let wrong = rita.post("/ui/schedules", &[("schedule", &text.replace("30 2", "99 2"))]).await;
    assert_eq!(wrong.status(), 400);
    let wrong = wrong.text().await.unwrap();
    assert!(wrong.contains("There are mistakes") && wrong.contains("line 4") && wrong.contains("99 2"), "{wrong}");
    let kept = rita.post("/ui/schedules", &[("schedule", text)]).await;
    assert_eq!((kept.status().as_u16(), &kept.headers()["location"]), (303, &"/ui/calendar".parse().unwrap()));
    let (_, calendar) = rita.get("/ui/calendar").await;
    assert!(calendar.contains("The schedule nightly is kept") && calendar.contains("02:30"), "{calendar}");
    // Not over another by accident; on purpose, yes.
    let again = rita.post("/ui/schedules", &[("schedule", text)]).await;
    assert_eq!(again.status(), 422);
    assert_eq!(rita.post("/ui/schedules", &[("schedule", text), ("replace", "yes")]).await.status(), 303);
}
