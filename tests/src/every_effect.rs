//! One effect of each reversible kind, small, for suites that care about all of them and not about what one does.

use std::net::IpAddr;
use std::time::Duration;

use squall_experiments::effect::{
    Amount, Connections, Cut, Direction, Distribution, Effect, Engine, Flow, Freeze, Hog, HoldSpace, PacketDelay,
    PacketFilter, Spare,
};
use squall_experiments::target::ProcessSelector;
use squall_experiments::units::{Percent, Size, Span};

/// All packets of that interface to and from a peer are dropped.
pub fn cut_off(peer: IpAddr, interface: &str) -> Effect {
    let peers = vec![peer.to_string().parse().expect("an address is a network of one")];
    let flow = Flow { peers, ..flow(interface) };
    let share = Percent::new(100.0).expect("a share");
    Effect::PacketFilter(PacketFilter { flow, how: Cut::Drop, connections: Connections::All, share })
}

/// All packets of that interface are later by 200 ms each way; with netem, which delays only what leaves, one way.
pub fn delay(interface: &str, engine: Engine) -> Effect {
    let direction = if engine == Engine::Netem { Direction::To } else { Direction::Both };
    Effect::PacketDelay(PacketDelay {
        flow: Flow { direction, ..flow(interface) },
        engine,
        latency: Span(Duration::from_millis(200)),
        jitter: Span(Duration::ZERO),
        correlation: Percent::ZERO,
        distribution: Distribution::Uniform,
        loss: Percent::ZERO,
        duplicate: Percent::ZERO,
        reorder: Percent::ZERO,
        corrupt: Percent::ZERO,
        seed: 1,
    })
}

/// Whoever listens on that port stands still.
pub fn freeze(port: u16) -> Effect {
    Effect::Freeze(Freeze { processes: ProcessSelector { port: Some(port), ..ProcessSelector::default() } })
}

pub fn fill(path: &str) -> Effect {
    let (amount, reserve) = (Amount::Bytes(Size(8 << 20)), Size(1 << 20));
    Effect::HoldSpace(HoldSpace { path: path.to_owned(), amount, reserve })
}

pub fn burn() -> Effect {
    Effect::Hog(Hog::Cpu { workers: 1, load: Percent::new(10.0).expect("a share") })
}

pub fn occupy() -> Effect {
    Effect::Hog(Hog::Memory { amount: Amount::Bytes(Size(16 << 20)), reserve: Size(64 << 20) })
}

fn flow(interface: &str) -> Flow {
    let interface = Some(interface.to_owned());
    Flow { direction: Direction::Both, interface, spare: Spare::ALL.to_vec(), ..Flow::default() }
}
