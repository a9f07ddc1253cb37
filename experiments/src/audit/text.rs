//! A record in a sentence.

use std::fmt;

use super::{Record, What};

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = || "everything".to_owned();
        match self {
            What::Begun { log, after, .. } if after.is_empty() => write!(f, "log of {log} begins"),
            What::Begun { log, after, .. } => write!(f, "log of {log} begins anew: {after}"),
            What::Continued { log, file } => write!(f, "log of {log} goes on in file {file}"),
            What::Started { version, boot_id, pid } => {
                write!(f, "started: version {version}, process {pid}, boot {boot_id}")
            }
            What::Stopped => f.write_str("stopped"),
            What::Policy { source, sha256 } => write!(f, "policy {source}, sha256 {sha256}"),
            What::Torn { bytes } => write!(f, "{bytes} bytes of a half-written record were taken away"),
            What::Missed { head } => write!(f, "record {} of the head file was missing", head.seq),
            What::Unwritten { records } => write!(f, "{records} records found no room"),
            What::Seen { head } => write!(f, "seen: {} at record {} {}", head.log, head.seq, head.hash),
            What::Order { node, injection, fault, epoch, duration_ms, lease_ms, effects, .. } => {
                let names: Vec<&str> = effects.iter().map(crate::effect::Effect::name).collect();
                write!(
                    f,
                    "order {injection} for {node}: {fault} ({}), {duration_ms} ms, lease {lease_ms} ms, epoch {epoch}",
                    names.join(", ")
                )
            }
            What::State { injection, state, cause, detail } => {
                write!(f, "{injection} is {}", word(state))?;
                if let Some(cause) = cause {
                    write!(f, ", cause {}", word(cause))?;
                }
                if !detail.is_empty() {
                    write!(f, ": {detail}")?;
                }
                Ok(())
            }
            What::Halt { run } => write!(f, "halt {}", run.clone().unwrap_or_else(all)),
            What::Revert { injection } => write!(f, "revert {injection}"),
            What::Submitted { run, name, seed, plan } => {
                write!(f, "run {run} submitted: {name}, seed {seed}, plan {plan}")
            }
            What::Admitted { run } => write!(f, "run {run} admitted"),
            What::Refused { run, reasons } => write!(f, "run {run} refused: {}", reasons.join("; ")),
            What::Finished { run, verdict, why } => write!(f, "run {run} finished: {}, {why}", word(verdict)),
            What::Cleared { run } => write!(f, "run {run} cleared by hand"),
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wall = i64::try_from(self.wall_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        let wall = wall.map_or_else(|| self.wall_ms.to_string(), |wall| format!("{wall:.3}"));
        write!(f, "{:>6}  {wall}  {}  ", self.seq, self.who)?;
        match &self.what {
            Some(what) => write!(f, "{what}"),
            None => write!(f, "{}", self.raw),
        }
    }
}

/// As it stands in the file.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(value) => value.to_string(),
        Err(_) => String::new(),
    }
}
