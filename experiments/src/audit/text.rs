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
            What::Lever { engaged: true } => f.write_str("safety lever engaged"),
            What::Lever { engaged: false } => f.write_str("safety lever released"),
            What::Schedule { schedule, change } => write!(f, "schedule {schedule} {change}"),
            What::Webhook { webhook, change } => write!(f, "webhook {webhook} {change}"),
            What::GameDay { id, name, change } => write!(f, "game day {name} ({id}) {change}"),
            What::OrderRefused { epoch, sequence, why, unrecorded } => {
                write!(f, "frame {sequence} of epoch {epoch} refused: {why}{}", more(*unrecorded))
            }
            What::RequestRefused { request, status, reasons, unrecorded } => {
                write!(f, "{request} refused ({status}): {}{}", reasons.join("; "), more(*unrecorded))
            }
            What::UserAdded { user, role, expires_ms, done_ms } => {
                let until = expires_ms.map_or_else(|| "for ever".to_owned(), |ms| format!("until {}", wall(ms)));
                write!(f, "user {user} added as {role}, {until}, at {}", wall(*done_ms))
            }
            What::UserRemoved { user, done_ms } => write!(f, "user {user} removed at {}", wall(*done_ms)),
            What::TokenMade { node, expires_ms, done_ms } => {
                write!(f, "enrolment token for {node} made at {}, good until {}", wall(*done_ms), wall(*expires_ms))
            }
            What::Enrolled { node, generation, way, certificate, done_ms } => write!(
                f,
                "{node} got a certificate of generation {generation} by {} at {}, sha256 {certificate}",
                word(way),
                wall(*done_ms)
            ),
            What::Revoked { node, generation, done_ms } => {
                write!(f, "{node} revoked at {}: certificates before generation {generation} are void", wall(*done_ms))
            }
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6}  {}  {}  ", self.seq, wall(self.wall_ms), self.who)?;
        match &self.what {
            Some(what) => write!(f, "{what}"),
            None => write!(f, "{}", self.raw),
        }
    }
}

fn wall(ms: u64) -> String {
    let wall = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    wall.map_or_else(|| ms.to_string(), |wall| format!("{wall:.3}"))
}

fn more(unrecorded: u64) -> String {
    match unrecorded {
        0 => String::new(),
        many => format!(" (and {many} more before this one)"),
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
