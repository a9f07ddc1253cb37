//! The node's labels: those that the agent was started with, and those in a file that the system on the host keeps itself (who is
//! primary changes with each failover).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use super::role::label;

/// Of the file; more is not read.
const MOST_BYTES: u64 = 16 << 10;
/// Of a key and of a value.
const LONGEST: usize = 128;

#[derive(Debug, Clone, Default)]
pub struct Labels {
    /// These cannot be changed by the file.
    pub fixed: BTreeMap<String, String>,
    /// Lines `KEY=VALUE`; empty ones and those that begin with `#` are left out. It need not be there.
    pub file: Option<PathBuf>,
}

impl Labels {
    /// As they are now. A line that is no label is left out, and a file that cannot be read has none.
    pub fn now(&self) -> BTreeMap<String, String> {
        let mut text = String::new();
        if let Some(path) = self.file.as_ref().filter(|path| path.is_file())
            && let Ok(file) = File::open(path)
            && file.take(MOST_BYTES).read_to_string(&mut text).is_err()
        {
            text.clear();
        }
        let mut labels = read(&text);
        labels.extend(self.fixed.clone());
        labels
    }
}

fn read(text: &str) -> BTreeMap<String, String> {
    let plain = |text: &str| text.len() <= LONGEST && !text.chars().any(char::is_control);
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter_map(|line| label(line).ok())
        .filter(|(key, value)| plain(key) && plain(value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_adds_labels_and_changes_none_that_the_agent_was_started_with() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("labels");
        let fixed = BTreeMap::from([("role".to_owned(), "database".to_owned())]);
        let labels = Labels { fixed: fixed.clone(), file: Some(path.clone()) };
        assert_eq!(labels.now(), fixed, "no file, no labels");
        std::fs::write(&path, "# by Patroni\n\n database=primary \nrole=web\nno label\n=x\nb\u{1}=c\n").unwrap();
        let now = labels.now();
        assert_eq!(now.len(), 2, "{now:?}");
        assert_eq!((now["role"].as_str(), now["database"].as_str()), ("database", "primary"));
        std::fs::write(&path, "database=replica").unwrap();
        assert_eq!(labels.now()["database"], "replica");
    }

    #[test]
    fn a_text_without_end_is_no_label() {
        assert_eq!(read(&format!("a={}", "x".repeat(LONGEST + 1))), BTreeMap::new());
        assert_eq!(read(&format!("a={}", "x".repeat(LONGEST))).len(), 1);
    }
}
