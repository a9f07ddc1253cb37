//! What this host's network can do. Each answer is tried in a network namespace made for it, which goes at once; nothing is guessed and
//! nothing of the host is touched.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use squall_experiments::effect::{Connections, Cut, Flow};
use squall_experiments::inventory::{Ability, Can, Interface};

use crate::agent::effects::Refusal;
use crate::agent::effects::flow_rules::{Action, LATE, Rules};
use crate::agent::effects::packet_delay;
use crate::agent::kernel::capability::Capability;
use crate::agent::kernel::netlink::Refused;
use crate::agent::kernel::nft::{self, Queue, QueueKind};
use crate::agent::kernel::{links, namespace};

static FOUND: OnceLock<Vec<(Ability, Can)>> = OnceLock::new();

/// PacketFilter, ConnectionState, PacketQueue, Netem. Tried once in the life of the process.
pub fn abilities() -> Vec<(Ability, Can)> {
    FOUND.get_or_init(try_all).clone()
}

/// Begins to try, on a thread of its own that has the caller's rights. Returns once it has begun: whoever asks from now on waits for its
/// answers, so that a thread which has given these rights up does not try without them, however late this one gets a processor.
pub fn begin_to_try() {
    let (begun, has_begun) = std::sync::mpsc::channel();
    let tries = move || {
        FOUND.get_or_init(|| {
            let _ = begun.send(());
            try_all()
        });
    };
    let _ = std::thread::Builder::new().name("squall-abilities".to_owned()).spawn(tries);
    // An error: there is no thread, or they were tried before.
    let _ = has_begun.recv();
}

/// Refuses, with what is missing, where the host cannot.
pub fn require(ability: Ability) -> Result<(), Refusal> {
    match abilities().into_iter().find(|(found, _)| *found == ability) {
        Some((_, Can::Yes)) => Ok(()),
        Some((_, Can::No { why, hint })) if hint.is_empty() => Err(Refusal(why)),
        Some((_, Can::No { why, hint })) => Err(Refusal(format!("{why} ({hint})"))),
        None => Err(Refusal("this ability was not tried".into())),
    }
}

/// How packets are queued on this kernel: found with the abilities, so that no holder tries what is refused (an aborted batch costs
/// the kernel a grace period of RCU, some 10 to 20 ms). None: not at all.
pub fn queue_kind() -> Option<QueueKind> {
    let _ = abilities();
    QUEUE_KIND.get().copied().flatten()
}

/// Interfaces of this network namespace.
pub fn interfaces() -> Result<Vec<Interface>, Refused> {
    Ok(links::all()?
        .into_iter()
        .map(|link| Interface {
            name: link.name,
            addresses: link.addresses,
            up: link.up,
            mtu: link.mtu,
            root_qdisc: link.root_qdisc,
        })
        .collect())
}

static QUEUE_KIND: OnceLock<Option<QueueKind>> = OnceLock::new();

fn try_all() -> Vec<(Ability, Can)> {
    if !Capability::NetAdmin.is_permitted() {
        return nothing(&no("CAP_NET_ADMIN is missing".into(), "grant the agent the capability"));
    }
    let tried = namespace::in_new_network(|| {
        vec![
            (Ability::PacketFilter, packet_filter()),
            (Ability::ConnectionState, connection_state()),
            (Ability::PacketQueue, packet_queue()),
            (Ability::Netem, netem()),
        ]
    });
    tried.unwrap_or_else(|error| {
        nothing(&no(
            format!("no network namespace can be made to try it in: {error}"),
            "the agent needs CAP_SYS_ADMIN at its start",
        ))
    })
}

fn nothing(why: &Can) -> Vec<(Ability, Can)> {
    [Ability::PacketFilter, Ability::ConnectionState, Ability::PacketQueue, Ability::Netem]
        .map(|ability| (ability, why.clone()))
        .to_vec()
}

fn no(why: String, hint: &str) -> Can {
    Can::No { why, hint: hint.to_owned() }
}

/// Commits the very rules that an effect would use.
fn commit(action: Action) -> Result<(), Refused> {
    let flow = Flow::default();
    let life = Duration::from_secs(1);
    // A name each: while another thread forks, the child has this socket too, and the table outlives its closing by a moment.
    static TRIALS: AtomicU32 = AtomicU32::new(0);
    let table = format!("squall-try-{}", TRIALS.fetch_add(1, Ordering::Relaxed));
    let rules = Rules { table: &table, flow: &flow, spared: &[], action, output_priority: LATE, life };
    rules.batch().commit(&mut nft::open()?)
}

fn cut(how: Cut, connections: Connections) -> Action {
    Action::Cut { how, connections, fraction: 0.5, nowhere: None }
}

fn packet_filter() -> Can {
    for how in [Cut::Drop, Cut::Reject, Cut::Reset] {
        if let Err(refused) = commit(cut(how, Connections::All)) {
            let why = format!("nf_tables refuses a table owned by its socket with {how:?} rules: {refused}");
            return no(why, "Linux 5.12 or later with CONFIG_NF_TABLES, CONFIG_NFT_REJECT, CONFIG_NFT_NUMGEN");
        }
    }
    Can::Yes
}

fn connection_state() -> Can {
    match commit(cut(Cut::Drop, Connections::Established)) {
        Ok(()) => Can::Yes,
        Err(refused) => no(
            format!("nf_tables cannot ask for a connection's state: {refused}"),
            "CONFIG_NF_CONNTRACK and CONFIG_NFT_CT",
        ),
    }
}

fn packet_queue() -> Can {
    if !Capability::NetRaw.is_permitted() {
        return no("copies of packets cannot be sent: CAP_NET_RAW is missing".into(), "grant the agent the capability");
    }
    let mut last = None;
    for kind in QueueKind::ALL {
        let queue = Queue { kind, number: 1, bypass: true };
        match commit(Action::Queue { input: queue, output: queue }) {
            Ok(()) => {
                QUEUE_KIND.get_or_init(|| Some(kind));
                return Can::Yes;
            }
            Err(refused) => last = Some(refused),
        }
    }
    let why = last.map(|refused| refused.to_string()).unwrap_or_default();
    no(
        format!("neither nft's `queue` nor the xtables target NFQUEUE is known to the kernel: {why}"),
        "CONFIG_NETFILTER_NETLINK_QUEUE with CONFIG_NFT_QUEUE, or with CONFIG_NFT_COMPAT and CONFIG_NETFILTER_XT_TARGET_NFQUEUE",
    )
}

fn netem() -> Can {
    // Loopback is the only interface of a fresh namespace.
    const LOOPBACK: u32 = 1;
    match packet_delay::try_netem(LOOPBACK) {
        Ok(()) => Can::Yes,
        Err(refused) => no(
            format!("the kernel has no netem below a prio qdisc: {refused}"),
            "CONFIG_NET_SCH_PRIO and CONFIG_NET_SCH_NETEM; the packet-queue engine does without",
        ),
    }
}
