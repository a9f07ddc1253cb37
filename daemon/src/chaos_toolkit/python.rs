//! `python`: one interpreter for a run, in which functions are called; it ends with the run, and so does all that it starts.

use std::cell::Cell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use squall_experiments::chaos_toolkit::journal::Outcome;
use squall_experiments::chaos_toolkit::secrets::Values;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::ChildStdin;
use tokio::sync::{Mutex as Turn, oneshot};

use super::Surroundings;
use super::tree::Tree;
use crate::private_file::write_private;
use crate::program::{self, Program};

const DRIVER: &str = include_str!("driver.py");
/// For what is cut short to end by itself.
const CUT: Duration = Duration::from_secs(2);

#[derive(Debug, Deserialize)]
struct Answer {
    id: u64,
    #[serde(default, deserialize_with = "present")]
    ok: Option<Value>,
    failed: Option<String>,
    broken: Option<String>,
    /// Nobody asked: the run is to end.
    #[serde(default)]
    exit: bool,
}

/// A null that is there is a value.
fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

impl From<Answer> for Outcome {
    fn from(answer: Answer) -> Self {
        match (answer.ok, answer.failed, answer.broken) {
            (_, Some(why), _) => Outcome::Failed(why),
            (_, _, Some(why)) => Outcome::Broken(why),
            (value, ..) => Outcome::Done(value.unwrap_or_default()),
        }
    }
}

/// Who waits for an answer; None once no more will come.
type Waiting = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<Answer>>>>>;

struct Live {
    stdin: ChildStdin,
    waiting: Waiting,
    next: u64,
    /// Killed when this is dropped.
    _tree: Tree,
}

/// Started when it is first needed, and again after [`Python::stop`].
#[derive(Default)]
pub struct Python {
    live: Turn<Option<Live>>,
    /// How often it was started.
    starts: Cell<u64>,
}

/// Calls of one lane are made one after the other, in one thread.
pub type Lane = u64;

/// Of what is not in the background: the main thread.
pub const MAIN: Lane = 0;

/// How a function is called.
#[derive(Clone, Copy)]
pub struct Manner {
    pub lane: Lane,
    /// It gets secrets also without naming them.
    pub all_secrets: bool,
    /// It gets the configuration that controls share.
    pub held: bool,
}

impl Python {
    /// Is there such a function that takes these arguments?
    pub async fn check(&self, provider: &Value, around: &Surroundings) -> Result<(), String> {
        let arguments = provider.get("arguments").cloned().unwrap_or_else(|| json!({}));
        let request =
            json!({"op": "check", "module": provider["module"], "func": provider["func"], "arguments": arguments});
        match self.asked(request, around).await {
            Outcome::Failed(why) | Outcome::Broken(why) => Err(why),
            _ => Ok(()),
        }
    }

    pub async fn run(&self, provider: &Value, values: &Values, around: &Surroundings, manner: Manner) -> Outcome {
        let arguments = provider.get("arguments").cloned().unwrap_or_else(|| json!({}));
        let named = provider.get("secrets").and_then(Value::as_array);
        let of = |name: &Value| values.secrets.get(name.as_str()?)?.as_object();
        let secrets: Option<Map<String, Value>> = match named {
            Some(names) => {
                Some(names.iter().filter_map(of).flatten().map(|(key, value)| (key.clone(), value.clone())).collect())
            }
            None if manner.all_secrets => {
                let inner = values.secrets.values().filter_map(Value::as_object).flatten();
                Some(inner.map(|(key, value)| (key.clone(), value.clone())).collect())
            }
            None => None,
        };
        let request = json!({
            "op": "call", "module": provider["module"], "func": provider["func"], "arguments": values.fill_arguments(&arguments),
            "secrets": secrets, "configuration": values.configuration, "lane": manner.lane, "held": manner.held,
        });
        self.asked(request, around).await
    }

    /// Can this control be called, as far as that can be known before?
    pub async fn check_control(&self, control: &Value, global: bool, around: &Surroundings) -> Result<(), String> {
        match self.asked(json!({"op": "check_control", "control": control, "global": global}), around).await {
            Outcome::Failed(why) | Outcome::Broken(why) => Err(why),
            _ => Ok(()),
        }
    }

    /// Ends it in the middle of whatever it does.
    pub async fn stop(&self) {
        self.live.lock().await.take();
    }

    /// Ends what is under way in it, and the interpreter only if that does not help: what modules remember stays.
    pub async fn cut(&self, around: &Surroundings) {
        let asked = tokio::time::timeout(CUT, self.asked(json!({"op": "cut"}), around));
        if !matches!(asked.await, Ok(Outcome::Done(Value::Bool(true)))) {
            self.stop().await;
        }
    }

    /// Of the interpreter that answers now; one that is started anew has another.
    pub async fn number(&self, around: &Surroundings) -> anyhow::Result<u64> {
        self.alive(&mut *self.live.lock().await, around)?;
        Ok(self.starts.get())
    }

    pub async fn asked(&self, request: Value, around: &Surroundings) -> Outcome {
        match self.sent(request, around).await {
            Ok(answer) => match answer.await {
                Ok(answer) => answer.into(),
                Err(_) => Outcome::Broken("the Python interpreter ended".to_owned()),
            },
            Err(error) => Outcome::Broken(format!("{error:#}")),
        }
    }

    async fn sent(&self, mut request: Value, around: &Surroundings) -> anyhow::Result<oneshot::Receiver<Answer>> {
        let mut turn = self.live.lock().await;
        let live = self.alive(&mut turn, around)?;
        live.next += 1;
        request["id"] = live.next.into();
        let (sender, receiver) = oneshot::channel();
        if let Ok(mut waiting) = live.waiting.lock()
            && let Some(waiting) = &mut *waiting
        {
            waiting.insert(live.next, sender);
        }
        live.stdin.write_all(format!("{request}\n").as_bytes()).await.context("the Python interpreter ended")?;
        Ok(receiver)
    }

    fn alive<'a>(&self, turn: &'a mut Option<Live>, around: &Surroundings) -> anyhow::Result<&'a mut Live> {
        let lives = |live: &Live| live.waiting.lock().is_ok_and(|waiting| waiting.is_some());
        if !turn.as_ref().is_some_and(lives) {
            *turn = None;
            *turn = Some(start(around)?);
            self.starts.set(self.starts.get() + 1);
        }
        turn.as_mut().context("it was started")
    }
}

fn start(around: &Surroundings) -> anyhow::Result<Live> {
    let named = around.python.as_deref().context("no Python interpreter is configured (--python)")?;
    let interpreter = interpreter(named, around)?;
    let script: PathBuf = around.directory.path()?.join("driver.py");
    write_private(&script, DRIVER.as_bytes())?;
    let mut command = program::command(Program::OfTheUser { path: &interpreter }, [&script])?;
    command.envs(&around.environment).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let lock = around.directory.lock()?;
    let mut tree =
        Tree::start(command, lock).with_context(|| format!("{} cannot be started", interpreter.display()))?;
    let stdin = tree.child.stdin.take().context("no pipe to the interpreter")?;
    let stdout = tree.child.stdout.take().context("no pipe from the interpreter")?;
    let stderr = tree.child.stderr.take().context("no pipe from the interpreter")?;
    let redactor = around.redactor.clone();
    tokio::spawn(async move {
        let mut lines = BufReader::new(stderr).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            eprintln!("{}", redactor.text(&line));
        }
    });
    let waiting: Waiting = Arc::new(Mutex::new(Some(HashMap::new())));
    let told = waiting.clone();
    let left = around.left.clone();
    tokio::spawn(async move {
        let mut lines = BufReader::new(stdout).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let Ok(answer) = serde_json::from_str::<Answer>(&line) else { continue };
            if answer.exit {
                left.cancel();
            }
            let sender = told.lock().ok().and_then(|mut waiting| waiting.as_mut()?.remove(&answer.id));
            if let Some(sender) = sender {
                let _ = sender.send(answer);
            }
        }
        // Everybody who waits hears that nothing comes.
        if let Ok(mut waiting) = told.lock() {
            waiting.take();
        }
    });
    Ok(Live { stdin, waiting, next: 0, _tree: tree })
}

/// A path, or a name to be looked for.
fn interpreter(named: &str, around: &Surroundings) -> anyhow::Result<PathBuf> {
    let found = super::process::program(&json!({"path": named}), around);
    found.map_err(|_| anyhow::anyhow!("the Python interpreter `{named}` is not there, or cannot be started"))
}

/// Whether the interpreter can be found at all.
pub fn is_there(named: &Path, around: &Surroundings) -> bool {
    interpreter(&named.display().to_string(), around).is_ok()
}
