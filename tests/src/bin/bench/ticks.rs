//! How late an agent's own clock rings, with and without hogs: what a deadline is worth on a burdened host.

use squall_experiments::effect::{Amount, Effect, Hog, HoldSpace};
use squall_experiments::run_event::InjectionState;
use squall_experiments::units::{Percent, Size};
use squall_experiments::wire::ToAgent;
use squall_tests::commander::{Commander, order};
use squall_tests::fleet::Agent;
use squall_tests::lab::Lab;

use super::table::Table;

const SAMPLES: usize = 100;
const LIFE_MS: u64 = 50;

pub fn measure(table: &mut Table) -> anyhow::Result<()> {
    let lab = Lab::new().hosts(&["b", "ctl"]).start();
    lab.host("b").small_disk("/run/data", "16m");
    let commander = Commander::start(lab.host("ctl"));
    let _agent = commander.agent(lab.host("b"), &Agent::default());
    table.times("an agent's deadline rings late by, idle", &late(&commander, "idle"), "");
    let workers = std::thread::available_parallelism().map_or(2, |count| 2 * count.get() as u32);
    let cpu = Effect::Hog(Hog::Cpu { workers, load: "100%".parse::<Percent>().map_err(anyhow::Error::msg)? });
    let memory = Effect::Hog(Hog::Memory { amount: Amount::Bytes(Size(256 << 20)), reserve: Size(1 << 30) });
    commander.inject("hogs/0.b", &[cpu, memory]);
    let what = format!("the same beside {workers} workers at 100% and 256 MiB occupied");
    table.times(&what, &late(&commander, "burdened"), "1000 ms");
    commander.revert("hogs/0.b");
    commander.end("hogs/0.b");
    Ok(())
}

/// Milliseconds from the end of the ordered duration to the agent's first act, by the agent's own clock.
fn late(commander: &Commander, run: &str) -> Vec<f64> {
    let space = HoldSpace { path: "/run/data".into(), amount: Amount::Bytes(Size(1 << 16)), reserve: Size(0) };
    let one = |number| {
        let name = format!("{run}/{number}.b");
        let order = squall_experiments::wire::Order {
            duration_ms: LIFE_MS,
            ..order(&name, &[Effect::HoldSpace(space.clone())])
        };
        commander.say(ToAgent::Inject(order));
        let report = commander.state(&name, InjectionState::Reverting);
        commander.end(&name);
        report.agent_us as f64 / 1000.0 - LIFE_MS as f64
    };
    (0..SAMPLES).map(one).collect()
}
