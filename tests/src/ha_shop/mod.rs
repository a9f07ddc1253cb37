//! The shop: a real, small, highly available system on hosts of a lab, and its deliberately weak variants. docs/shop.md has the picture.
//!
//! ```no_run
//! use squall_tests::ha_shop::{Shop, Weakness};
//! let shop = Shop::weak(Weakness::UnsafeFailover).start();
//! let fleet = shop.fleet();
//! println!("{}", fleet.squall(&["nodes"]).stdout);
//! ```

pub mod backup;
mod balancer;
mod database;
mod monitoring;
pub mod play;
mod service;
mod web;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::fleet::{Agent, Fleet};
use crate::lab::{Finished, Host, Lab, Running, programs, wait_until};
use crate::skip::{lab_keeps_time, skip};

/// Every host, its role (a label of its agent) and its zone. The coordinator is on `ctl`, which has no agent.
pub const HOSTS: [(&str, &str, &str); 12] = [
    ("lb", "balancer", "a"),
    ("web1", "web", "a"),
    ("web2", "web", "b"),
    ("web3", "web", "c"),
    ("db1", "database", "a"),
    ("db2", "database", "b"),
    ("db3", "database", "c"),
    ("cache", "cache", "a"),
    ("rec", "recommendations", "b"),
    ("mon", "monitoring", "a"),
    ("offsite", "offsite", "d"),
    ("street", "customers", "d"),
];
/// What `street` may send: customers come in crowds from there, and from nowhere else.
const CROWDS: &str = "load: {targets: [10.77.0.0/16], rate: 1000}\n";
/// Where the coordinator is, and the customers that its probes are.
pub const CONTROL: &str = "ctl";
/// The longest the whole shop may take to open, on a busy machine.
const OPENING: Duration = Duration::from_secs(120);

/// What a shop can do without, and should not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weakness {
    /// The balancer sends customers to replicas whether they answer or not, and tries no other.
    NoHealthCheck,
    /// Commits are acknowledged before a second node has them, and any replica may become primary.
    UnsafeFailover,
    /// What the cache or the recommendations do wrong is the customer's.
    NoFallback,
    /// Prometheus has no alert rules.
    NoAlerts,
    /// The autoscaler takes a load that it cannot measure for no load, and takes replicas away at once.
    HastyScaler,
    /// What PostgreSQL archives is thrown away, and it is told that all is well: the backup grows old.
    BrokenArchive,
}

impl Weakness {
    pub const ALL: [Weakness; 6] = [
        Weakness::NoHealthCheck,
        Weakness::UnsafeFailover,
        Weakness::NoFallback,
        Weakness::NoAlerts,
        Weakness::HastyScaler,
        Weakness::BrokenArchive,
    ];
}

/// What the shop is made of; `make shop` installs what is missing.
const PROGRAMS: [&str; 11] = [
    "haproxy",
    "psql",
    "patroni",
    "etcd",
    "redis-server",
    "prometheus",
    "prometheus-alertmanager",
    "curl",
    "pgbackrest",
    "etcdctl",
    "openssl",
];

/// True if a shop can be opened here. Otherwise the test is reported as skipped and must return.
pub fn is_possible(test: &str) -> bool {
    let places = ["/usr/bin", "/usr/sbin", "/usr/local/bin"];
    let is_there = |program: &&&str| places.iter().any(|place| Path::new(place).join(program).is_file());
    if let Some(missing) = PROGRAMS.iter().find(|program| !is_there(program)) {
        skip(test, &format!("{missing} is not installed: make shop-setup"));
        return false;
    }
    lab_keeps_time(test)
}

/// A shop that is not open yet.
#[derive(Debug, Clone, Default)]
pub struct Recipe {
    weak: BTreeSet<Weakness>,
}

impl Recipe {
    pub fn is(&self, weakness: Weakness) -> bool {
        self.weak.contains(&weakness)
    }

    /// Opens the shop and waits until an order went through. Panics if it does not open: there is no test without it.
    pub fn start(self) -> Shop {
        let begun = Instant::now();
        let names = HOSTS.map(|(name, ..)| name);
        let blueprint = Lab::new().hosts(&names).host(CONTROL);
        let aliases =
            [("shop.lab", "lb"), ("database.lab", "lb"), ("prometheus.lab", "mon"), ("alertmanager.lab", "mon")];
        let lab = aliases.iter().fold(blueprint, |blueprint, (alias, host)| blueprint.alias(alias, host)).start();
        let mut programs = Vec::new();
        programs.extend(backup::start(&lab));
        // The database takes longest: it is started first.
        programs.extend(database::start(&lab, &self));
        programs.extend(service::cache(&lab));
        programs.extend(service::recommendations(&lab));
        programs.extend(balancer::start(&lab, &self));
        programs.extend(web::start(&lab, &self));
        programs.extend(monitoring::start(&lab, &self));
        let mut shop = Shop { programs, lab, recipe: self, opened_after: Duration::ZERO };
        shop.wait_for_replicas();
        database::fill(&shop.lab);
        backup::first(&shop.lab);
        if shop.recipe.is(Weakness::BrokenArchive) {
            backup::break_archive(&shop.lab);
        }
        shop.wait_open();
        shop.opened_after = begun.elapsed();
        shop
    }
}

/// An open shop. Dropped, nothing of it is left; the same if this process is killed.
pub struct Shop {
    // In the order in which they are dropped.
    programs: Vec<Running>,
    pub lab: Lab,
    recipe: Recipe,
    opened_after: Duration,
}

impl Shop {
    /// As it should be.
    pub fn sound() -> Recipe {
        Recipe::default()
    }

    /// With one flaw.
    pub fn weak(weakness: Weakness) -> Recipe {
        Recipe { weak: [weakness].into() }
    }

    /// With several.
    pub fn weak_in(flaws: impl IntoIterator<Item = Weakness>) -> Recipe {
        Recipe { weak: flaws.into_iter().collect() }
    }

    pub fn host(&self, name: &str) -> &Host {
        self.lab.host(name)
    }

    /// What the opening took.
    pub fn opened_after(&self) -> Duration {
        self.opened_after
    }

    /// The coordinator, and an agent on every other host.
    pub fn fleet(&self) -> Fleet<'_> {
        let agents: Vec<_> = HOSTS.iter().map(|(name, ..)| (*name, agent(&self.lab, name))).collect();
        Fleet::start(&self.lab, CONTROL, &agents)
    }

    /// curl as a customer: method, path, body; status and answer.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let url = format!("http://shop.lab{path}");
        let mut arguments = vec!["-m", "5", "-X", method, &url];
        if !body.is_empty() {
            arguments.extend(["-H", "Content-Type: application/json", "-d", body]);
        }
        self.curl(&arguments)
    }

    /// The restore drill on the off-site host: status and answer.
    pub fn drill(&self) -> (u16, String) {
        self.curl(&["-m", "60", "http://offsite.lab:8100/drill"])
    }

    fn curl(&self, arguments: &[&str]) -> (u16, String) {
        let all = [&["-sS", "-w", "\n%{http_code}"], arguments].concat();
        let answer = self.host(CONTROL).run("curl", &all);
        let (text, status) = answer.stdout.rsplit_once('\n').unwrap_or(("", "0"));
        (status.parse().unwrap_or(0), if text.is_empty() { answer.stderr } else { text.to_owned() })
    }

    /// The host whose PostgreSQL is primary. None: none is, or more than one.
    pub fn primary(&self) -> Option<&'static str> {
        let mut primaries = database::NODES.into_iter().filter(|node| database::is_primary(&self.lab, node));
        primaries.next().filter(|_| primaries.next().is_none())
    }

    /// The primary, once there is one.
    pub fn wait_primary(&self) -> &'static str {
        let mut found = None;
        wait_until(OPENING, || {
            found = self.primary();
            found.is_some()
        });
        found.expect("a primary")
    }

    /// SQL on the primary, through the balancer, as the superuser.
    pub fn sql(&self, statement: &str) -> Finished {
        database::sql(&self.lab, statement)
    }

    /// Tail of a program's log.
    pub fn log(&self, host: &str, program: &str) -> String {
        let text = std::fs::read_to_string(self.host(host).path(format!("/var/log/{program}.log"))).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }

    /// Bits rot on the off-site disk; nothing says so. How many files.
    pub fn corrupt_backup(&self) -> usize {
        backup::corrupt(&self.lab)
    }

    /// Waits until nothing of an earlier failure is left: one primary, two replicas that follow it, every server of haproxy up.
    pub fn wait_whole(&self) {
        self.wait_for_replicas();
        let all_up = || balancer::servers_down(&self.lab) == 0 && self.primary().is_some();
        assert!(wait_until(OPENING, all_up), "the shop does not get whole:\n{}", self.why_not());
    }

    fn wait_for_replicas(&self) {
        database::wait_for_replicas(&self.lab, !self.recipe.is(Weakness::UnsafeFailover));
    }

    fn wait_open(&mut self) {
        let id = format!("opening-{}", uuid::Uuid::now_v7());
        let order = format!("{{\"id\":\"{id}\",\"product\":1}}");
        let mut last = (0, String::new());
        let opened = wait_until(OPENING, || {
            std::thread::sleep(Duration::from_millis(100));
            last = self.ask("POST", "/checkout", &order);
            matches!(last.0, 200 | 201) && self.ask("GET", &format!("/orders/{id}"), "").0 == 200
        });
        assert!(opened, "the shop does not open: {last:?}\n{}", self.why_not());
        let all_run = self.programs.iter_mut().all(Running::is_running);
        assert!(all_run, "programs of the shop ended:\n{}", self.why_not());
    }

    fn why_not(&self) -> String {
        let logs = [
            ("db1", "patroni"),
            ("db1", "etcd"),
            ("lb", "haproxy"),
            ("lb", "scaler"),
            ("web1", "shop"),
            ("mon", "prometheus"),
        ];
        logs.map(|(host, program)| format!("== {program} on {host}\n{}", self.log(host, program))).join("\n")
    }
}

/// Labels and zone of a host's agent.
pub fn agent(lab: &Lab, host: &str) -> Agent {
    let (_, role, zone) = HOSTS.into_iter().find(|(name, ..)| *name == host).expect("a host of the shop");
    let labels = [("role", role), ("service", "shop")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let labels_from = (role == "database").then_some(database::LABELS);
    let policy = match role {
        "customers" => CROWDS.to_owned(),
        "database" => database::policy(lab, host),
        _ => String::new(),
    };
    Agent { labels: labels.into(), zone: Some(zone.to_owned()), labels_from, policy, ..Agent::default() }
}

/// A program that is started again whenever it ends, as a service manager would; its output in /var/log/NAME.log.
fn service(host: &Host, name: &str, user: Option<&str>, program: &str, arguments: &[&str]) -> Running {
    let log = host.path(format!("/var/log/{name}.log"));
    let log = || std::fs::OpenOptions::new().create(true).append(true).open(&log).expect("the log can be written");
    let mut command = host.talk("keep");
    command.args(["--after", "1000", "--"]);
    if let Some(user) = user {
        // PDEATHSIG is lost with the user: setpriv sets it again.
        let group = format!("--regid={user}");
        command.args(["setpriv", &format!("--reuid={user}"), &group, "--init-groups", "--pdeathsig", "KILL", "--"]);
    }
    command.arg(program).args(arguments);
    host.start(command.stdin(std::process::Stdio::null()).stdout(log()).stderr(log()))
}

/// A directory of a user's own.
fn directory(host: &Host, path: &str, owner: &str) {
    let done = host.run("install", &["-d", "-o", owner, "-g", owner, "-m", "700", path]);
    assert!(done.ok(), "{}: {path}: {}", host.name(), done.stderr);
}

/// The shop's own program.
fn own() -> String {
    programs::program("squall-shop").to_str().expect("a plain path").to_owned()
}
