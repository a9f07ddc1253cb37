//! The database: PostgreSQL with streaming replication on three hosts, Patroni deciding which is primary, etcd remembering it.

use std::time::Duration;

use super::{CONTROL, OPENING, Recipe, Weakness, backup, directory, own, service};
use crate::lab::{Finished, Host, Lab, Running, wait_until};

pub(super) const NODES: [&str; 3] = ["db1", "db2", "db3"];
/// The database's own filesystem on each node, small enough to be filled.
pub const DISK: &str = "/var/lib/postgresql";
const DISK_SIZE: &str = "400m";
/// Patroni writes here who the node is: `database=primary`.
pub(super) const LABELS: &str = "/run/postgresql/labels";
pub(super) const DATA: &str = "/var/lib/postgresql/data";
const CONFIG: &str = "/run/shop/patroni.yml";
/// Of the host that restores the backup when all three have lost their storage.
const RECOVERY: &str = "/run/shop/patroni-recovery.yml";
/// Longer than a restore takes, with what was archived in a whole game day.
const RESTORED_WITHIN: &str = "150s";

pub(super) fn start(lab: &Lab, recipe: &Recipe) -> Vec<Running> {
    let etcd = NODES.map(|name| etcd(lab, lab.host(name)));
    let patroni = NODES.map(|name| patroni(lab, lab.host(name), recipe));
    etcd.into_iter().chain(patroni).collect()
}

fn etcd(lab: &Lab, host: &Host) -> Running {
    let at = |host: &Host, port: u16| format!("http://{}:{port}", host.ipv4());
    let cluster: Vec<String> = NODES.iter().map(|name| format!("{name}={}", at(lab.host(name), 2380))).collect();
    let (peer, client) = (at(host, 2380), at(host, 2379));
    let options = [
        ("--name", host.name()),
        ("--data-dir", "/var/lib/etcd"),
        ("--listen-peer-urls", &peer),
        ("--initial-advertise-peer-urls", &peer),
        ("--listen-client-urls", &client),
        ("--advertise-client-urls", &client),
        ("--initial-cluster", &cluster.join(",")),
        ("--initial-cluster-state", "new"),
        // Ten times a heartbeat, so that a busy machine makes no elections.
        ("--heartbeat-interval", "150"),
        ("--election-timeout", "1500"),
        ("--log-level", "warn"),
    ];
    let mut arguments: Vec<&str> = options.iter().flat_map(|(name, value)| [*name, *value]).collect();
    // A member that comes back must not make the others elect anew, in which time the primary would step down. Not the default in 3.4.
    arguments.extend(["--pre-vote", "--enable-v2"]);
    service(host, "etcd", None, "etcd", &arguments)
}

fn patroni(lab: &Lab, host: &Host, recipe: &Recipe) -> Running {
    host.small_disk(DISK, DISK_SIZE);
    directory(host, DATA, "postgres");
    directory(host, "/run/postgresql", "postgres");
    let first = host.name() == NODES[0];
    host.write(CONFIG, config(lab, host, &if first { bootstrap(recipe, "") } else { String::new() }));
    if first {
        host.write(RECOVERY, config(lab, host, &bootstrap(recipe, &backup::bootstrap_method())));
    }
    service(host, "patroni", Some("postgres"), "patroni", &[CONFIG])
}

/// etcd's addresses, each with `scheme` before it.
fn endpoints(lab: &Lab, scheme: &str) -> String {
    NODES.map(|name| format!("{scheme}{}:2379", lab.host(name).ipv4())).join(",")
}

/// The host's own recovery plan, as the policy of its agent has it: the loss of its storage is the stop of a service, which the recovery starts.
pub(super) fn policy(lab: &Lab, name: &str) -> String {
    let own = own();
    let at = lab.host(name).ipv4();
    let storage = format!("--data, {DATA}, --config, {CONFIG}");
    let recovery = if name == NODES[0] { format!(", --recovery, {RECOVERY}") } else { String::new() };
    format!(
        "services:
  database-storage:
    start: [{own}, storage, restore, {storage}{recovery}, --endpoints, '{}']
    stop: [{own}, storage, lose, {storage}]
    status: [{own}, storage, status, --at, '{at}:8008']
    within: {RESTORED_WITHIN}
",
        endpoints(lab, "http://")
    )
}

fn config(lab: &Lab, host: &Host, bootstrap: &str) -> String {
    let (name, address) = (host.name(), host.ipv4());
    format!(
        "scope: shop
name: {name}
restapi: {{listen: '{address}:8008', connect_address: '{address}:8008'}}
# The older of etcd's APIs: with the newer one Patroni 3.0.2 renews the leader's lock without looking whose it is, and a primary that was
# cut off or stood still takes it back from its successor, which has taken orders since.
etcd: {{hosts: [{etcd}]}}
{bootstrap}postgresql:
  listen: '0.0.0.0:5432'
  connect_address: '{address}:5432'
  data_dir: {DATA}
  bin_dir: {bin}
  pgpass: {DISK}/pgpass
  authentication:
    superuser: {{username: postgres}}
    replication: {{username: replicator}}
    rewind: {{username: postgres}}
  create_replica_methods: [basebackup]
  basebackup: {{checkpoint: fast}}
  callbacks: {{on_start: '{mark}', on_restart: '{mark}', on_role_change: '{mark}'}}
  parameters: {{unix_socket_directories: /run/postgresql}}
watchdog: {{mode: 'off'}}
",
        etcd = endpoints(lab, ""),
        mark = format!("{} mark-role {LABELS}", own()),
        bin = programs(),
    )
}

/// `method`: another one than a new, empty database.
fn bootstrap(recipe: &Recipe, method: &str) -> String {
    let (synchronous, commit, lag) = match recipe.is(Weakness::UnsafeFailover) {
        false => (true, "on", 1 << 20),
        true => (false, "off", 1_u64 << 40),
    };
    let archive = backup::archive_push();
    let fetch = backup::command("archive-get %f %p");
    format!(
        "bootstrap:
{method}  dcs:
    # The shortest that keeps loop_wait + 2 * retry_timeout <= ttl.
    ttl: 10
    loop_wait: 2
    retry_timeout: 3
    # A primary that does not end is ended: until then it would not learn that there is another.
    primary_stop_timeout: 8
    maximum_lag_on_failover: {lag}
    synchronous_mode: {synchronous}
    postgresql:
      use_pg_rewind: true
      use_slots: true
      # A replica that was away for longer than the primary keeps WAL gets the rest from the archive.
      recovery_conf: {{restore_command: '{fetch}'}}
      parameters:
        max_connections: 120
        shared_buffers: 24MB
        max_wal_size: 64MB
        min_wal_size: 32MB
        wal_keep_size: 64MB
        wal_log_hints: 'on'
        wal_level: replica
        max_wal_senders: 8
        max_replication_slots: 8
        hot_standby: 'on'
        synchronous_commit: '{commit}'
        wal_sender_timeout: 5s
        wal_receiver_timeout: 5s
        max_worker_processes: 4
        autovacuum_max_workers: 1
        jit: 'off'
        track_commit_timestamp: 'off'
        archive_mode: 'on'
        archive_command: '{archive}'
        # What is not archived yet is lost with all three disks. Each time a whole segment goes to the replicas, so segments are small.
        archive_timeout: 5s
  initdb: [{{encoding: UTF8}}, {{locale: C}}, data-checksums, {{wal-segsize: '1'}}]
  pg_hba:
    # A lab has no strangers.
    - local all all trust
    - host all all 10.77.0.0/16 trust
    - host replication all 10.77.0.0/16 trust
"
    )
}

/// Where Debian puts the newest PostgreSQL's own programs.
pub(super) fn programs() -> String {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).max();
    let newest = newest.expect("PostgreSQL is installed: make shop installs what is missing");
    format!("/usr/lib/postgresql/{newest}/bin")
}

/// Waits until a primary and two replicas that follow it are there; `synchronous`: and one of them may take over, as Patroni has written down.
pub(super) fn wait_for_replicas(lab: &Lab, synchronous: bool) {
    let streams = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
    // PostgreSQL waits for a replica a moment before etcd has it, and only what etcd has may take over.
    let may_take_over = |node: &str| {
        let cluster = lab.host(CONTROL).run("curl", &["-sf", "-m", "2", &format!("http://{node}.lab:8008/cluster")]);
        cluster.stdout.contains("sync_standby")
    };
    let following = || {
        std::thread::sleep(Duration::from_millis(200));
        sql(lab, streams).stdout.trim() == "2" && (!synchronous || NODES.into_iter().all(may_take_over))
    };
    let log = || std::fs::read_to_string(lab.host("db1").path("/var/log/patroni.log")).unwrap_or_default();
    assert!(wait_until(OPENING, following), "the database does not come up:\n{}", log());
}

/// The shop's tables and products.
pub(super) fn fill(lab: &Lab) {
    let database = psql(lab, "postgres", &["-c", "CREATE ROLE shop LOGIN", "-c", "CREATE DATABASE shop OWNER shop"]);
    assert!(database.ok(), "{}", database.stderr);
    let tables = "SET ROLE shop;
        CREATE TABLE products (id int PRIMARY KEY, name text NOT NULL, cents int NOT NULL CHECK (cents > 0));
        CREATE TABLE cart (session text, product int REFERENCES products, quantity int NOT NULL, PRIMARY KEY (session, product));
        CREATE TABLE orders (number bigint GENERATED ALWAYS AS IDENTITY, id text PRIMARY KEY, items int NOT NULL, cents int NOT NULL,
            written timestamptz NOT NULL DEFAULT now());
        INSERT INTO products SELECT id, 'Umbrella No. ' || id, 500 + id * 25 FROM generate_series(1, 20) AS id;";
    let filled = sql(lab, tables);
    assert!(filled.ok(), "{}", filled.stderr);
}

/// Statements in the shop's database, through the balancer, as the superuser: rows without headings.
pub(super) fn sql(lab: &Lab, statement: &str) -> Finished {
    // Before it is filled there is only the first database.
    let first = psql(lab, "shop", &["-c", statement]);
    match first.stderr.contains("\"shop\" does not exist") {
        true => psql(lab, "postgres", &["-c", statement]),
        false => first,
    }
}

fn psql(lab: &Lab, database: &str, more: &[&str]) -> Finished {
    let target = format!("host=database.lab port=5432 user=postgres dbname={database} connect_timeout=3");
    let mut arguments = vec!["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", &target];
    arguments.extend(more);
    lab.host(CONTROL).run("psql", &arguments)
}

pub(super) fn is_primary(lab: &Lab, node: &str) -> bool {
    let url = format!("http://{node}.lab:8008/primary");
    lab.host(CONTROL).run("curl", &["-sf", "-m", "2", "-o", "/dev/null", &url]).ok()
}
