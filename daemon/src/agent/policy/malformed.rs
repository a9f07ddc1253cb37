//! What no policy allows: orders that no honest coordinator writes. Pure: the host is not looked at.

use squall_experiments::effect::{Effect, Flow, Hog, HostWide, Load};
use squall_experiments::target::ProcessSelector;
use squall_experiments::wire::Order;

/// Effects of one order; a fault compiles to three at most.
const MOST_EFFECTS: usize = 16;
const MOST_PEERS: usize = 4096;
const MOST_PORTS: usize = 1024;
/// Bytes of a name.
const LONGEST_NAME: usize = 512;
/// Bytes of a path or of a pattern (PATH_MAX without its end).
const LONGEST_PATH: usize = 4095;
/// Bytes of a request's body.
const LONGEST_BODY: usize = 64 * 1024;
/// Bytes of an interface's name (IFNAMSIZ without its end).
const LONGEST_INTERFACE: usize = 15;
/// Nothing that people plan takes longer than a year, and arithmetic with it stays far from its ends.
const LONGEST_MS: u64 = 366 * 86_400_000;

pub fn reasons(order: &Order) -> Vec<String> {
    let mut found = Found(Vec::new());
    for (field, text) in [("run", &order.run), ("injection", &order.injection), ("fault", &order.fault)] {
        found.name(field, text);
    }
    for (field, ms) in [("duration", order.duration_ms), ("lease", order.lease_ms)] {
        if !(1..=LONGEST_MS).contains(&ms) {
            found.say(format!("{field}: {ms} ms is not from 1 ms to 366 days"));
        }
    }
    if order.effects.len() > MOST_EFFECTS {
        found.say(format!("{} effects in one order, more than {MOST_EFFECTS}", order.effects.len()));
        return found.0;
    }
    for effect in &order.effects {
        found.effect(effect);
    }
    found.0
}

/// The same for a selector that comes without an order, to be counted.
pub fn selector_reasons(selector: &ProcessSelector) -> Vec<String> {
    let mut found = Found(Vec::new());
    found.processes(selector);
    found.0
}

struct Found(Vec<String>);

impl Found {
    fn say(&mut self, what: String) {
        self.0.push(format!("malformed order: {what}"));
    }

    fn effect(&mut self, effect: &Effect) {
        match effect {
            Effect::PacketFilter(effect) => self.flow(&effect.flow),
            Effect::PacketDelay(effect) => self.flow(&effect.flow),
            Effect::Signal(effect) => self.processes(&effect.processes),
            Effect::Freeze(effect) => self.processes(&effect.processes),
            Effect::HoldSpace(effect) => self.path("path", &effect.path),
            Effect::Hog(Hog::Cpu { workers: 0, .. }) => self.say("workers: none".to_owned()),
            Effect::Hog(Hog::Cpu { .. } | Hog::Memory { .. }) => {}
            Effect::Unit(effect) => self.name("service", &effect.service),
            Effect::Load(load) => self.load(load),
            Effect::Host(HostWide::Freeze) => {}
            Effect::Host(HostWide::Crash { restart }) => {
                if restart.len() > MOST_EFFECTS {
                    self.say(format!("{} services to start, more than {MOST_EFFECTS}", restart.len()));
                    return;
                }
                for (index, service) in restart.iter().enumerate() {
                    self.name("service", service);
                    if restart[..index].contains(service) {
                        self.say(format!("service: `{}` is to be started twice", shown(service)));
                    }
                }
            }
        }
    }

    fn load(&mut self, load: &Load) {
        if !(1..=MOST_EFFECTS).contains(&load.requests.len()) || !(1..=MOST_EFFECTS).contains(&load.stages.len()) {
            self.say(format!("load: not 1 to {MOST_EFFECTS} requests and stages"));
            return;
        }
        for request in &load.requests {
            self.text("url", &request.url, LONGEST_PATH);
            if request.weight == 0 {
                self.say("weight: none".to_owned());
            }
        }
        self.name("method", &load.method);
        if load.headers.len() > MOST_EFFECTS || load.body.as_ref().is_some_and(|body| body.len() > LONGEST_BODY) {
            self.say(format!("load: more than {MOST_EFFECTS} headers, or a body above {LONGEST_BODY} bytes"));
            return;
        }
        for (name, value) in &load.headers {
            self.name("header", name);
            self.text("header", value, LONGEST_PATH);
        }
        let rates = load.stages.iter().flat_map(|stage| [stage.from, stage.to]);
        if rates.into_iter().any(|rate| !(0.0..=1e6).contains(&rate)) || !(1..=10_000).contains(&load.in_flight) {
            self.say("load: a rate is not from 0 to a million, or requests in flight not from 1 to 10000".to_owned());
        }
        let longest = std::time::Duration::from_millis(LONGEST_MS);
        if load.timeout.0.is_zero()
            || load.timeout.0 > longest
            || load.stages.iter().any(|stage| stage.over.0 > longest)
        {
            self.say("load: a time is not above zero and at most 366 days".to_owned());
        }
    }

    fn flow(&mut self, flow: &Flow) {
        if flow.peers.len() > MOST_PEERS {
            self.say(format!("{} peers in one effect, more than {MOST_PEERS}", flow.peers.len()));
        }
        if flow.local_ports.len() > MOST_PORTS || flow.remote_ports.len() > MOST_PORTS {
            self.say(format!("more than {MOST_PORTS} ports in one effect"));
        }
        if let Some(selector) = &flow.inside {
            self.processes(selector);
        }
        let Some(name) = &flow.interface else { return };
        // As dev_valid_name() of net/core/dev.c, and nothing that a front end takes for an option or for a wildcard.
        let odd = |c: char| c.is_control() || c.is_whitespace() || ['/', ':', '"', '*', '+'].contains(&c);
        let dots = name == "." || name == "..";
        if name.is_empty() || name.len() > LONGEST_INTERFACE || name.starts_with('-') || dots || name.contains(odd) {
            self.say(format!("interface: `{}` cannot be an interface's name", shown(name)));
        }
    }

    fn processes(&mut self, selector: &ProcessSelector) {
        let names = [
            ("name", &selector.name),
            ("user", &selector.user),
            ("unit", &selector.unit),
            ("container", &selector.container),
        ];
        for (field, text) in names.into_iter().filter_map(|(field, text)| Some((field, text.as_ref()?))) {
            // A login shell is called `-bash` and a unit `-.mount`: they are compared and never handed to a program.
            self.text(field, text, LONGEST_NAME);
        }
        if let Some(pattern) = &selector.command {
            self.text("command", pattern, LONGEST_PATH);
        }
        if let Some(path) = &selector.pid_file {
            self.path("pidFile", path);
        }
        if let Some(cgroup) = &selector.cgroup {
            self.text("cgroup", cgroup, LONGEST_PATH);
            if cgroup.split('/').any(|part| part == "..") {
                self.say(format!("cgroup: `{}` leads upwards", shown(cgroup)));
            }
        }
    }

    fn name(&mut self, field: &str, text: &str) {
        self.text(field, text, LONGEST_NAME);
        if text.starts_with('-') {
            self.say(format!("{field}: `{}` looks like an option", shown(text)));
        }
    }

    fn path(&mut self, field: &str, text: &str) {
        self.text(field, text, LONGEST_PATH);
        if !text.starts_with('/') {
            self.say(format!("{field}: `{}` is not an absolute path", shown(text)));
        }
    }

    fn text(&mut self, field: &str, text: &str, longest: usize) {
        if text.is_empty() {
            self.say(format!("{field}: empty"));
        } else if text.len() > longest {
            self.say(format!("{field}: {} bytes, more than {longest}", text.len()));
        } else if text.contains(char::is_control) {
            self.say(format!("{field}: `{}` holds a control character", shown(text)));
        }
    }
}

/// For a terminal and for a log: bounded, and nothing in it moves the cursor.
fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    text.chars().take(LONGEST).flat_map(char::escape_debug).collect()
}
