//! What an order would hit, for people, from what `prepare` found out.

use squall_experiments::effect::{Hog, HostWide};
use squall_experiments::units::{Size, Span};

use super::effects::inside::Inside;
use super::effects::service::Service;
use super::effects::service::control::Control;
use super::effects::{Hold, ProcessId, SparedFlow};
use super::kernel::procfs;
use super::processes::{self, Everyone};

pub fn of(hold: &Hold) -> Vec<String> {
    match hold {
        Hold::PacketFilter { spared, inside, .. } => inside.iter().map(network_of).chain(flows(spared)).collect(),
        Hold::PacketDelay { delay, spared, inside, .. } => {
            let engine = serde_json::to_value(delay.engine).ok().and_then(|name| name.as_str().map(str::to_owned));
            let engine = engine.into_iter().map(|engine| format!("engine {engine}"));
            inside.iter().map(network_of).chain(engine).chain(flows(spared)).collect()
        }
        Hold::Signal { signal, own, .. } => match processes::select(&signal.processes, own) {
            Ok(found) => found.iter().map(|found| format!("signals {found}")).collect(),
            Err(refusal) => vec![refusal.0],
        },
        Hold::Freeze { processes } => processes.iter().map(|process| format!("freezes {}", named(*process))).collect(),
        Hold::Space { directory, bytes, .. } => {
            let whole = procfs::filesystem_size(directory).map_or_else(|| "?".to_owned(), readable);
            vec![format!("fills {} of {whole} on the filesystem of {}", readable(*bytes), directory.display())]
        }
        Hold::Hog { hog: Hog::Cpu { workers, load }, .. } => vec![format!("burns {load} of {workers} processors")],
        Hold::Hog { hog: Hog::Memory { .. }, bytes, .. } => vec![format!("occupies {} of memory", readable(*bytes))],
        Hold::Load { load, hosts } => {
            let to = |(host, addresses): &(String, Vec<std::net::SocketAddr>)| {
                let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                format!("sends up to {} requests a second to {host} ({})", load.peak(), addresses.join(", "))
            };
            hosts.iter().map(to).collect()
        }
        Hold::Unit { service, .. } => {
            let undo = Span(service.patience());
            vec![
                format!("stops {}", defined(service)),
                format!("may take up to {undo} until it runs again, by this node's policy"),
            ]
        }
        Hold::Host { what, own, protected, services } => {
            let verb = if *what == HostWide::Freeze { "freezes" } else { "kills" };
            let count = Everyone::but(own, protected).now(|_| false).map_or(0, |found| found.len());
            let all = std::iter::once(format!("{verb} {count} processes"));
            all.chain(services.iter().map(|(service, _)| format!("then starts {}", defined(service)))).collect()
        }
    }
}

fn defined(service: &Service) -> String {
    match &service.control {
        Control::Systemd { unit } => format!("the service {} (unit {unit})", service.name),
        Control::Programs { stop, start, .. } => {
            format!("the service {} (stop: {}; start: {})", service.name, stop.join(" "), start.join(" "))
        }
    }
}

fn named(process: ProcessId) -> String {
    let command = procfs::arguments(process.pid).join(" ");
    let name = || procfs::stat(process.pid).map(|stat| stat.name).unwrap_or_default();
    format!("process {} {}", process.pid, if command.is_empty() { name() } else { command })
}

fn network_of(inside: &Inside) -> String {
    format!("in the network of {} (namespace {})", named(inside.process), inside.network.inode)
}

fn flows(spared: &[SparedFlow]) -> Vec<String> {
    let mut notes: Vec<_> = spared.iter().map(|flow| format!("spares {}", flow.why)).collect();
    notes.dedup();
    notes
}

/// In the largest unit that leaves at least one: `47.6MiB`.
fn readable(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.iter().find(|(shift, _)| bytes >= 1 << shift) {
        Some((shift, _)) if bytes.is_multiple_of(1 << shift) => Size(bytes).to_string(),
        Some((shift, unit)) => format!("{:.1}{unit}", bytes as f64 / (1_u64 << shift) as f64),
        None => Size(bytes).to_string(),
    }
}
