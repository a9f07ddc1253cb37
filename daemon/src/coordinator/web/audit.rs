//! The coordinator's own audit log: its latest records, and whether the chain holds.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use axum::extract::{Extension, State};
use axum::response::Response;
use maud::html;
use squall_experiments::audit::{self, Chain, Checked, Fault, File, HEAD_FILE, Head, Record, Witness};
use squall_experiments::report::words;

use super::guard::Visitor;
use super::layout::{Page, Shell, mark, text};
use crate::coordinator::Coordinator;
use crate::coordinator::api::problem::ApiError;

/// Records shown.
const SHOWN: usize = 200;

pub async fn show(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(visitor): Extension<Visitor>,
) -> Result<Response, ApiError> {
    let directory = coordinator.data_dir.clone();
    let read = tokio::task::spawn_blocking(move || read(&directory)).await;
    let (verified, latest) = read.map_err(anyhow::Error::from)??;
    let body = html! {
        h1 { "Audit" }
        @match &verified {
            Ok(log) => {
                p class="notice good" {
                    (mark("good", "The log verifies")) ": records " (log.first) " to " (log.head.seq) " in " (log.files) " file(s) are what was written. "
                    "The agents' logs have seen heads of it: " code { "squall audit verify --against" } " asks them."
                }
            }
            Err(fault) => { p class="notice wrong" role="alert" { (mark("wrong", "The log is broken")) ": " (text(&fault.to_string())) } }
        }
        div class="scroll" tabindex="0" role="group" aria-label="Latest records" {
            table {
                thead { tr { th class="n" scope="col" { "Record" } th scope="col" { "When" } th scope="col" { "Who" } th scope="col" { "What" } } }
                tbody {
                    @for record in latest.iter().rev() {
                        tr {
                            td class="n" { (record.seq) }
                            td class="when" { (words::wall(record.wall_ms)) }
                            td { bdi { (text(&record.who)) } }
                            td class="long" { (text(&record.what.as_ref().map_or_else(|| record.raw.to_string(), ToString::to_string))) }
                        }
                    }
                }
            }
        }
        p class="about" { "The latest " (latest.len()) " records, as of when this page was loaded." }
    };
    let page = Page { title: "Audit", way: "/ui/audit", still: true, ..Page::default() };
    Ok(Shell { coordinator: &coordinator, visitor: &visitor }.page(&page, body))
}

/// Whether the log holds, against its head file too; and its latest records.
fn read(directory: &Path) -> anyhow::Result<(Result<Checked, Fault>, Vec<Record>)> {
    let cannot = || format!("cannot read the audit log in {}", directory.display());
    // Before the log, which only grows.
    let head =
        std::fs::read(directory.join(HEAD_FILE)).ok().and_then(|json| serde_json::from_slice::<Head>(&json).ok());
    let entries = std::fs::read_dir(directory).with_context(cannot)?;
    let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.retain(|name| audit::file_number(name).is_some());
    names.sort_unstable_by_key(|name| audit::file_number(name));
    let mut contents = Vec::new();
    for name in &names {
        contents.push(std::fs::read(directory.join(name)).with_context(cannot)?);
    }
    // It is being written: the last record may not be whole yet.
    if let Some(last) = contents.last_mut() {
        let whole = last.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        last.truncate(whole);
        if whole == 0 {
            contents.pop();
        }
    }
    let files: Vec<File> = names.iter().zip(&contents).map(|(name, bytes)| File { name, bytes }).collect();
    let witness = head.map(|head| Witness { place: HEAD_FILE.to_owned(), head });
    let checked = Checked::of(&files, Chain::Whole).and_then(|log| log.against(&witness).map(|_| log));
    let mut latest: Vec<Record> = contents
        .iter()
        .rev()
        .flat_map(|bytes| bytes.rsplit(|byte| *byte == b'\n'))
        .filter(|line| !line.is_empty())
        .take(SHOWN)
        .filter_map(|line| Record::read(line).ok())
        .collect();
    latest.reverse();
    Ok((checked, latest))
}
