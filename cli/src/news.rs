//! A run's events as they happen; a lost connection is taken up again.

use std::time::{Duration, Instant};

use squall_experiments::run_event::{Event, RunEvent};
use tokio::sync::mpsc;

use crate::client::Client;
use crate::exit::Failure;
use crate::sse;

/// Silence after which the connection is made anew (probes and leases make a run talk more often than this).
const SILENCE: Duration = Duration::from_secs(20);
/// How long a lost coordinator is waited for. Agents undo by lease long before.
const PATIENCE: Duration = Duration::from_secs(60);

pub enum News {
    Event(Box<RunEvent>),
    Lost(String),
    Back,
    GaveUp(Failure),
}

pub fn is_last(event: &RunEvent) -> bool {
    matches!(event.event, Event::Finished { .. })
}

/// Ends after the last event, or with [`News::GaveUp`]. Dropping it ends the reading.
pub struct Reader {
    news: mpsc::Receiver<News>,
    task: tokio::task::JoinHandle<()>,
}

impl Reader {
    /// From event number `next` on.
    pub fn start(client: Client, run: String, next: u64) -> Reader {
        let (say, news) = mpsc::channel(256);
        Reader { news, task: tokio::spawn(read(client, run, next, say)) }
    }

    pub async fn next(&mut self) -> Option<News> {
        self.news.recv().await
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads until the last event, connecting anew after each loss from where it was.
async fn read(client: Client, run: String, first: u64, say: mpsc::Sender<News>) {
    let mut next = first;
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
            Err(failure) if next == first && lost.is_none() => {
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
            let last = is_last(&event);
            if say.send(News::Event(Box::new(event))).await.is_err() || last {
                return Ok(());
            }
        }
    }
}
