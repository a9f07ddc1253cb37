//! What a run has to undo, on disk before it begins: the experiment with the values of its names, and which rollbacks are done.
//!
//! Secrets are not in it: the guard gets them through its pipe, and who plays a left record again has them in the environment.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use squall_experiments::chaos_toolkit::job::Job;

const NAME: &str = "rollbacks";

/// The first line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// Without its secrets, and without the environment of its files.
    pub job: Job,
    /// The values of names, those of probes included.
    pub configuration: Map<String, Value>,
    /// When the rollbacks were written, for the journal.
    pub started: String,
}

/// Every other line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Mark {
    Done(usize),
    /// A control made something else of what there is to undo.
    Changed {
        text: String,
        configuration: Map<String, Value>,
    },
    /// There is nothing more to do.
    Over,
}

/// The run and whoever plays its rollbacks write into one.
pub type Shared = Rc<RefCell<Record>>;

/// Locked (shared) by the run and by its guard while they live.
pub struct Record {
    file: File,
    path: PathBuf,
}

impl Record {
    /// It is on the disk when this returns.
    pub fn create(directory: &Path, intent: &Intent) -> anyhow::Result<Record> {
        let path = directory.join(NAME);
        let mut file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path)?;
        file.lock_shared()?;
        let mut line = serde_json::to_vec(intent)?;
        line.push(b'\n');
        file.write_all(&line)?;
        file.sync_data().context("fdatasync")?;
        // The names on the way to it, too.
        for directory in directory.ancestors().take(3) {
            File::open(directory)?.sync_all()?;
        }
        Ok(Record { file, path })
    }

    pub fn open(directory: &Path) -> anyhow::Result<Record> {
        let path = directory.join(NAME);
        let file = OpenOptions::new().append(true).open(&path).with_context(|| path.display().to_string())?;
        file.lock_shared()?;
        Ok(Record { file, path })
    }

    /// As [`Record::open`], unless a run or a guard still has it.
    pub fn open_left(directory: &Path) -> anyhow::Result<Option<Record>> {
        let path = directory.join(NAME);
        let file = OpenOptions::new().append(true).open(&path).with_context(|| path.display().to_string())?;
        Ok(file.try_lock().is_ok().then_some(Record { file, path }))
    }

    pub fn read(&self) -> anyhow::Result<State> {
        let text = std::fs::read(&self.path)?;
        State::of(&text).with_context(|| self.path.display().to_string())
    }

    pub fn done(&mut self, index: usize) -> anyhow::Result<()> {
        self.mark(&Mark::Done(index))
    }

    /// It is on the disk when this returns.
    pub fn changed(&mut self, text: String, configuration: Map<String, Value>) -> anyhow::Result<()> {
        self.mark(&Mark::Changed { text, configuration })?;
        self.file.sync_data().context("fdatasync")
    }

    pub fn over(&mut self) -> anyhow::Result<()> {
        self.mark(&Mark::Over)
    }

    fn mark(&mut self, mark: &Mark) -> anyhow::Result<()> {
        let line = format!("{}\n", serde_json::to_string(mark)?);
        // Not synced: a mark that a power cut takes away only has its rollback played once more.
        Ok(self.file.write_all(line.as_bytes())?)
    }
}

#[derive(Debug, PartialEq)]
pub struct State {
    pub intent: Intent,
    pub done: BTreeSet<usize>,
    pub over: bool,
}

impl State {
    fn of(text: &[u8]) -> anyhow::Result<State> {
        let mut lines = text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
        let mut intent: Intent =
            serde_json::from_slice(lines.next().context("nothing was written: nothing had begun")?)?;
        let (mut done, mut over) = (BTreeSet::new(), false);
        for line in lines {
            // A line that broke off says that its rollback may have to be played once more.
            match serde_json::from_slice(line) {
                Ok(Mark::Done(index)) => drop(done.insert(index)),
                Ok(Mark::Over) => over = true,
                Ok(Mark::Changed { text, configuration }) => {
                    intent.job.text = text;
                    intent.configuration = configuration;
                }
                Err(_) => {}
            }
        }
        Ok(State { intent, done, over })
    }
}

#[cfg(test)]
mod tests {
    use squall_experiments::chaos_toolkit::strategy::{Rollbacks, Strategy};

    use super::*;

    fn intent() -> Intent {
        let job = Job {
            file: "e.json".into(),
            text: "{}".into(),
            strategy: Strategy::Default,
            rollbacks: Rollbacks::Default,
            frequency: 1.0,
            fail_fast: false,
            dry: None,
            configuration: Map::new(),
            secrets: Map::new(),
            environment: std::collections::BTreeMap::new(),
            controls: Vec::new(),
            settings: Value::Null,
            python: None,
            journal: "/j".into(),
            state_dir: "/s".into(),
        };
        Intent { job, configuration: Map::new(), started: "s".into() }
    }

    #[test]
    fn what_is_done_is_read_again_and_a_torn_line_counts_as_not_done() {
        let directory = tempfile::tempdir().unwrap();
        let mut record = Record::create(directory.path(), &intent()).unwrap();
        record.changed("{\"a\": 1}".into(), Map::from_iter([("b".to_owned(), 2.into())])).unwrap();
        record.done(1).unwrap();
        record.file.write_all(b"{\"done\": 2").unwrap();
        let state = Record::open(directory.path()).unwrap().read().unwrap();
        assert_eq!((state.intent.job.text.as_str(), &state.intent.configuration["b"]), ("{\"a\": 1}", &2.into()));
        assert_eq!((state.done, state.over), (BTreeSet::from([1]), false));
    }

    #[test]
    fn nobody_takes_a_record_that_is_in_use() {
        let directory = tempfile::tempdir().unwrap();
        let mut record = Record::create(directory.path(), &intent()).unwrap();
        assert!(Record::open_left(directory.path()).unwrap().is_none());
        record.over().unwrap();
        drop(record);
        let left = Record::open_left(directory.path()).unwrap().unwrap();
        assert!(left.read().unwrap().over);
    }
}
