//! Following a run to its end: its events as they happen, a lost connection taken up again, Ctrl-C.

use std::time::{Duration, Instant};

use squall_experiments::api::Halted;
use squall_experiments::run_event::{Event, RunEvent};
use tokio::sync::mpsc;

use crate::client::{Client, escaped};
use crate::exit::Failure;
use crate::interrupts::Interrupts;
use crate::progress::Progress;
use crate::sse;

/// Silence after which the connection is made anew (probes and leases make a run talk more often than this).
const SILENCE: Duration = Duration::from_secs(20);
/// How long a lost coordinator is waited for. Agents undo by lease long before.
const PATIENCE: Duration = Duration::from_secs(60);
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

enum News {
    Event(Box<RunEvent>),
    Lost(String),
    Back,
    GaveUp(Failure),
}

pub async fn follow(
    client: &Client,
    run: &str,
    progress: &mut dyn Progress,
    on: OnInterrupt,
    interrupts: &mut Interrupts,
) -> Result<Ended, Failure> {
    let (say, mut news) = mpsc::channel(256);
    let reader = tokio::spawn(read(client.clone(), run.to_owned(), say));
    let mut tick = tokio::time::interval(TICK);
    let mut events: Vec<RunEvent> = Vec::new();
    let mut halting: Option<tokio::task::JoinHandle<Result<Halted, Failure>>> = None;
    let mut halted = false;
    let ended = loop {
        tokio::select! {
            heard = news.recv() => match heard {
                Some(News::Event(event)) => {
                    progress.event(&event);
                    let last = matches!(event.event, Event::Finished { .. });
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
    reader.abort();
    progress.close();
    ended
}

/// One run, or all.
pub async fn halt(client: &Client, run: Option<&str>) -> Result<Halted, Failure> {
    let path = run.map_or_else(|| "/v1/halt".to_owned(), |run| format!("/v1/runs/{}/halt", escaped(run)));
    client.post(&path, &serde_json::json!({})).await
}

/// Reads until the last event, connecting anew after each loss from where it was.
async fn read(client: Client, run: String, say: mpsc::Sender<News>) {
    let mut next: u64 = 0;
    let mut lost: Option<Instant> = None;
    let mut pause = Duration::from_millis(100);
    loop {
        let why = match client.stream(&run, next.checked_sub(1)).await {
            Ok(response) => {
                if lost.take().is_some() && say.send(News::Back).await.is_err() {
                    return;
                }
                let before = next;
                match pass_on(response, &mut next, &say).await {
                    Ok(()) => return,
                    Err(why) => {
                        if next > before {
                            pause = Duration::from_millis(100);
                        }
                        why
                    }
                }
            }
            // Before the first event there is nothing to take up again: it is an error like any other.
            Err(failure) if next == 0 && lost.is_none() => {
                let _ = say.send(News::GaveUp(failure)).await;
                return;
            }
            Err(failure) => {
                if lost.is_some_and(|since| since.elapsed() > PATIENCE) {
                    let hint = "agents undo everything by themselves when their leases run out; `squall watch last` takes up the run again";
                    let _ = say.send(News::GaveUp(Failure { hint: hint.to_owned(), ..failure })).await;
                    return;
                }
                failure.message
            }
        };
        if lost.is_none() {
            lost = Some(Instant::now());
            if say.send(News::Lost(why)).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

/// Ok: the run finished. Err: why the connection is of no more use.
async fn pass_on(mut response: reqwest::Response, next: &mut u64, say: &mpsc::Sender<News>) -> Result<(), String> {
    let mut parser = sse::Parser::default();
    loop {
        let chunk = match tokio::time::timeout(SILENCE, response.chunk()).await {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None)) => return Err("it closed the stream".to_owned()),
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err(format!("nothing heard for {} s", SILENCE.as_secs())),
        };
        for frame in parser.push(&chunk)? {
            let event: RunEvent =
                serde_json::from_str(&frame.data).map_err(|error| format!("an event is unreadable: {error}"))?;
            // After a new connection some may come twice.
            if event.seq < *next {
                continue;
            }
            *next = event.seq + 1;
            let last = matches!(event.event, Event::Finished { .. });
            if say.send(News::Event(Box::new(event))).await.is_err() || last {
                return Ok(());
            }
        }
    }
}
