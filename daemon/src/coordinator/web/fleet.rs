//! Every node that is known: is it well, what is on it, what can it do.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::response::Response;
use maud::{Markup, html};
use squall_experiments::api::NodeNow;
use squall_experiments::inventory::{Ability, Can, Facts};
use squall_experiments::report::words;
use squall_experiments::wire::OpenInjection;

use super::guard::Visitor;
use super::layout::{Page, Shell, mark, text, word};
use crate::coordinator::Coordinator;
use crate::coordinator::api;

pub async fn show(State(coordinator): State<Arc<Coordinator>>, Extension(visitor): Extension<Visitor>) -> Response {
    let nodes = api::nodes(State(coordinator.clone())).await.0;
    let connected = nodes.iter().filter(|now| now.node.connected).count();
    let body = html! {
        div data-part="fleet" {
            h1 { "Fleet" }
            p class="about" { (connected) " of " (nodes.len()) " known nodes connected." }
            @if nodes.is_empty() {
                p class="notice" { "No node has connected yet. " code { "squalld token NODE" } " on this machine makes a token with which one enrols." }
            }
            @for now in &nodes { (node(now, &coordinator.hub.open(&now.node.name))) }
        }
    };
    Shell { coordinator: &coordinator, visitor: &visitor }
        .page(&Page { title: "Fleet", way: "/ui/fleet", ..Page::default() }, body)
}

fn node(now: &NodeNow, open: &[OpenInjection]) -> Markup {
    let NodeNow { node, unconfirmed } = now;
    html! {
        article class="card" {
            div class="head" {
                h2 { bdi { (text(&node.name)) } }
                (health(now, open))
            }
            p class="about" {
                @if let Some(zone) = &node.zone { "zone " bdi { (text(zone)) } " \u{b7} " }
                @for (key, value) in &node.labels { span class="tag" { (text(key)) "=" (text(value)) } " " }
            }
            @if !open.is_empty() {
                ul class="lines" {
                    @for injection in open {
                        @let run = injection.injection.split('/').next().unwrap_or_default();
                        li { a href={ "/ui/runs/" (text(run)) } { (text(words::short(&injection.injection))) } " is " (words::state(Some(injection.state))) }
                    }
                }
            }
            @if !unconfirmed.is_empty() {
                p class="notice wrong" { strong { "Not confirmed to be undone: " } (text(&unconfirmed.iter().map(|name| words::short(name)).collect::<Vec<_>>().join(", "))) ". Somebody must look at this host." }
            }
            details {
                summary { "Facts and abilities" }
                (facts(&node.facts))
            }
        }
    }
}

fn health(now: &NodeNow, open: &[OpenInjection]) -> Markup {
    match (now.unconfirmed.len(), now.node.connected, open.len()) {
        (1.., _, _) => mark("grave", "dirty"),
        (_, false, _) => mark("wrong", "not connected"),
        (_, true, 0) => mark("good", "connected"),
        (_, true, 1) => mark("warn", "1 injection"),
        (_, true, many) => mark("warn", &format!("{many} injections")),
    }
}

fn facts(facts: &Facts) -> Markup {
    let gib = facts.memory_bytes as f64 / f64::from(1 << 30);
    let addresses: Vec<String> = facts.addresses.iter().map(ToString::to_string).collect();
    let rows = [
        ("squalld", facts.version.clone()),
        ("Kernel", facts.kernel.clone()),
        ("Processors", facts.cpus.to_string()),
        ("Memory", format!("{gib:.1} GiB")),
        ("Addresses", addresses.join(", ")),
        ("Faults that its policy allows", facts.allowed_faults.join(", ")),
    ];
    html! {
        dl class="facts" {
            @for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) { div { dt { (name) } dd { (text(value)) } } }
            @for interface in &facts.interfaces {
                div {
                    dt { "Interface " (text(&interface.name)) }
                    dd { (if interface.up { "up" } else { "down" }) ", MTU " (interface.mtu) ", " (text(&interface.root_qdisc)) }
                }
            }
        }
        div class="scroll" tabindex="0" role="group" aria-label="Abilities" {
            table {
                thead { tr { th scope="col" { "Ability" } th scope="col" { "Can" } th scope="col" { "Why not" } } }
                tbody { @for one in Ability::ALL { (ability(facts, one)) } }
            }
        }
    }
}

fn ability(facts: &Facts, ability: Ability) -> Markup {
    html! {
        tr {
            th scope="row" { (word(ability)) }
            @match facts.abilities.get(&ability) {
                Some(Can::Yes) => { td { (mark("good", "yes")) } td {} }
                Some(Can::No { why, hint }) => { td { (mark("plain", "no")) } td { (text(why)) " " span class="quiet" { (text(hint)) } } }
                None => { td { (mark("plain", "unknown")) } td { (facts.cannot(ability).unwrap_or_default()) } }
            }
        }
    }
}
