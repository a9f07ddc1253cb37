//! Following a run to its end: its events as they happen, a lost connection taken up again, Ctrl-C.

use std::time::Duration;

use squall_experiments::api::Halted;
use squall_experiments::run_event::RunEvent;

use crate::client::{Client, escaped};
use crate::exit::Failure;
use crate::interrupts::Interrupts;
use crate::news::{News, Reader, is_last};
use crate::progress::Progress;

const TICK: Duration = Duration::from_millis(200);

/// What Ctrl-C does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnInterrupt {
    /// Our run: the first halts it, the second stops waiting.
    Halt,
    /// Someone's run: it goes on without us.
    Leave,
}

#[derive(Debug, PartialEq)]
pub enum Ended {
    /// All of its events.
    Finished(Vec<RunEvent>),
    /// We stopped waiting.
    Left,
}

pub async fn follow(
    client: &Client,
    run: &str,
    progress: &mut dyn Progress,
    on: OnInterrupt,
    interrupts: &mut Interrupts,
) -> Result<Ended, Failure> {
    let mut reader = Reader::start(client.clone(), run.to_owned(), 0);
    let mut tick = tokio::time::interval(TICK);
    let mut events: Vec<RunEvent> = Vec::new();
    let mut halting: Option<tokio::task::JoinHandle<Result<Halted, Failure>>> = None;
    let mut halted = false;
    let ended = loop {
        tokio::select! {
            heard = reader.next() => match heard {
                Some(News::Event(event)) => {
                    progress.event(&event);
                    let last = is_last(&event);
                    events.push(*event);
                    if last {
                        break Ok(Ended::Finished(events));
                    }
                }
                Some(News::Lost(why)) => progress.say(&format!("connection to the coordinator lost ({why}), trying again")),
                Some(News::Back) => progress.say("connected again"),
                Some(News::GaveUp(failure)) => break Err(failure),
                None => break Err(Failure::unreachable("the event stream ended without a verdict", "")),
            },
            () = interrupts.next() => {
                if on == OnInterrupt::Leave {
                    progress.say("stopped watching; the run goes on (`squall halt` would stop it)");
                    break Ok(Ended::Left);
                }
                if halted {
                    progress.say("stopped waiting. Nothing is lost: agents undo everything by themselves when their leases run out");
                    break Ok(Ended::Left);
                }
                halted = true;
                progress.say("halting: every fault is being undone (press Ctrl-C again to stop waiting)");
                let (client, run) = (client.clone(), run.to_owned());
                halting = Some(tokio::spawn(async move { halt(&client, Some(&run)).await }));
            },
            told = async { halting.as_mut()?.await.ok() }, if halting.is_some() => {
                halting = None;
                if let Some(Err(failure)) = told {
                    progress.say(&format!("the halt did not reach the coordinator: {}", failure.message));
                    halted = false;
                }
            },
            _ = tick.tick() => progress.tick(),
        }
    };
    drop(reader);
    progress.close();
    ended
}

/// One run, or all.
pub async fn halt(client: &Client, run: Option<&str>) -> Result<Halted, Failure> {
    let path = run.map_or_else(|| "/v1/halt".to_owned(), |run| format!("/v1/runs/{}/halt", escaped(run)));
    client.post(&path, &serde_json::json!({})).await
}
