//! The backups: pgBackRest on the off-site host takes them from the database hosts, which send it what they archive. Both sides speak TLS
//! with one certificate that is made for this shop. The drill that restores them is on the off-site host, too.

use std::fmt::Write as _;
use std::path::Path;

use super::{CONTROL, database, directory, own, service};
use crate::lab::{Finished, Host, Lab, Running, wait_until};

pub(super) const HOST: &str = "offsite";
/// Where the backups are.
const REPOSITORY: &str = "/var/lib/pgbackrest";
/// Configuration, keys and locks.
const PLACE: &str = "/run/backup";
const CONFIG: &str = "/run/backup/pgbackrest.conf";
/// Where the drill restores to.
const SCRATCH: &str = "/var/lib/drill";
/// Whose names it has: pgBackRest compares them.
const NAMES: [&str; 4] = ["offsite.lab", "db1.lab", "db2.lab", "db3.lab"];
/// Both sides' end of TLS, also where a name means an IPv6 address first.
const BOTH: &str = "tls-server-address=::
tls-server-ca-file=/run/backup/cert.pem
tls-server-cert-file=/run/backup/cert.pem
tls-server-key-file=/run/backup/key.pem
tls-server-auth=shop=*
lock-path=/run/backup
compress-type=lz4
log-level-console=warn
log-level-file=off
";

/// As PostgreSQL wants its `archive_command`. An off-site host that cannot be reached must not hold up the end of a primary that was cut off:
/// its archiver waits for each of three tries, and meanwhile Patroni knows of the world what it knew before.
pub(super) fn archive_push() -> String {
    format!("timeout 3 {}", command("archive-push %p"))
}

/// A command line of pgBackRest on a database host.
pub(super) fn command(what: &str) -> String {
    format!("pgbackrest --config={CONFIG} --stanza=shop {what}")
}

/// How Patroni makes a first database from the backup and all that was archived.
pub(super) fn bootstrap_method() -> String {
    format!(
        "  method: pgbackrest
  pgbackrest:
    command: {}
    no_params: true
    keep_existing_recovery_conf: true
",
        command("restore")
    )
}

/// The servers of both sides and the drill.
pub(super) fn start(lab: &Lab) -> Vec<Running> {
    let names = NAMES.map(|name| format!("DNS:{name}")).join(",");
    let offsite = lab.host(HOST);
    prepare(offsite, &config_of_repository());
    let made = offsite.run(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "30",
            "-subj",
            "/CN=shop",
            "-addext",
            &format!("subjectAltName={names}"),
            "-keyout",
            &format!("{PLACE}/key.pem"),
            "-out",
            &format!("{PLACE}/cert.pem"),
        ],
    );
    assert!(made.ok(), "the certificate of the backups: {}", made.stderr);
    let read = |file: &str| std::fs::read(offsite.path(format!("{PLACE}/{file}"))).expect("openssl wrote it");
    let (key, certificate) = (read("key.pem"), read("cert.pem"));
    for name in database::NODES {
        prepare(lab.host(name), &config_of_database());
        lab.host(name).write(&format!("{PLACE}/key.pem"), &key);
        lab.host(name).write(&format!("{PLACE}/cert.pem"), &certificate);
    }
    let config = format!("--config={CONFIG}");
    let server = |name: &str| {
        let host = lab.host(name);
        let owned = host.run("chown", &["-R", "postgres:postgres", PLACE]);
        let closed = host.run("chmod", &["600", &format!("{PLACE}/key.pem")]);
        assert!(owned.ok() && closed.ok(), "{name}: {}{}", owned.stderr, closed.stderr);
        service(host, "backup", Some("postgres"), "pgbackrest", &[&config, "server"])
    };
    let mut programs: Vec<Running> = database::NODES.into_iter().chain([HOST]).map(server).collect();
    let (drill, bin) = (format!("{PLACE}/drill.conf"), database::programs());
    let used = "host=database.lab port=5432 user=postgres dbname=shop connect_timeout=3";
    let mut arguments = vec!["drill", "--listen", "0.0.0.0:8100", "--config", &drill, "--scratch"];
    let scratch = format!("{SCRATCH}/data");
    arguments.extend([&scratch, "--programs", &bin, "--database", used]);
    programs.push(service(offsite, "drill", Some("postgres"), &own(), &arguments));
    programs
}

fn prepare(host: &Host, config: &str) {
    directory(host, PLACE, "postgres");
    if host.name() == HOST {
        directory(host, REPOSITORY, "postgres");
        directory(host, SCRATCH, "postgres");
        let local = format!(
            "[global]\nrepo1-path={REPOSITORY}\nlock-path={SCRATCH}\nlog-level-console=warn\nlog-level-file=off\n\n\
             [shop]\npg1-path={SCRATCH}/data\npg1-socket-path={SCRATCH}/data\n"
        );
        host.write(&format!("{PLACE}/drill.conf"), local);
    }
    host.write(CONFIG, config);
}

fn config_of_database() -> String {
    let tls = tls("repo1-host");
    format!(
        "[global]\nrepo1-host=offsite.lab\nio-timeout=5\n{tls}{BOTH}\n[shop]\npg1-path={}\npg1-socket-path=/run/postgresql\n",
        database::DATA
    )
}

fn config_of_repository() -> String {
    let mut text = format!("[global]\nrepo1-path={REPOSITORY}\nrepo1-retention-full=2\nstart-fast=y\n{BOTH}\n[shop]\n");
    for (index, name) in database::NODES.into_iter().enumerate() {
        let host = format!("pg{}", index + 1);
        let _ = write!(text, "{host}-host={name}.lab\n{}", tls(&format!("{host}-host")));
        let _ = writeln!(text, "{host}-path={}\n{host}-socket-path=/run/postgresql", database::DATA);
    }
    text
}

/// How `side` is reached.
fn tls(side: &str) -> String {
    format!(
        "{side}-type=tls\n{side}-config={PLACE}/pgbackrest.conf\n{side}-ca-file={PLACE}/cert.pem\n\
         {side}-cert-file={PLACE}/cert.pem\n{side}-key-file={PLACE}/key.pem\n"
    )
}

/// A first full backup, which needs the database to be there and its archive to work. Waits for it.
pub(super) fn first(lab: &Lab) {
    for what in ["stanza-create", "backup"] {
        let done = as_postgres(lab.host(HOST), what);
        assert!(done.ok(), "{what}: {}{}", done.stdout, done.stderr);
    }
}

fn as_postgres(host: &Host, what: &str) -> Finished {
    let config = format!("--config={CONFIG}");
    let arguments =
        ["--reuid=postgres", "--regid=postgres", "--init-groups", "--", "pgbackrest", &config, "--stanza=shop"];
    host.run("setpriv", &[&arguments[..], &[what]].concat())
}

/// What lies on the off-site disk is not what was written there: one byte in the middle of each file of the database's backups. How many.
pub(super) fn corrupt(lab: &Lab) -> usize {
    corrupt_below(&lab.host(HOST).path(format!("{REPOSITORY}/backup/shop")))
}

fn corrupt_below(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).expect("the backups can be listed").flatten();
    let corrupt = |entry: std::fs::DirEntry| {
        let (path, kind) = (entry.path(), entry.file_type().expect("its kind is known"));
        if kind.is_dir() {
            return corrupt_below(&path);
        }
        // Not the manifests, which say what should be there, nor the link to the newest.
        if !kind.is_file() || path.extension().is_none_or(|kind| kind != "lz4") {
            return 0;
        }
        let mut bytes = std::fs::read(&path).expect("a backup can be read");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x55;
        std::fs::write(&path, bytes).expect("a backup can be written");
        1
    };
    entries.map(corrupt).sum()
}

/// From now on the archive takes everything and keeps nothing.
pub(super) fn break_archive(lab: &Lab) {
    let change = r#"{"postgresql": {"parameters": {"archive_command": "/bin/true"}}}"#;
    let url = format!("http://{}.lab:8008/config", database::NODES[0]);
    let done = lab.host(CONTROL).run("curl", &["-sSf", "-m", "5", "-X", "PATCH", "-d", change, &url]);
    assert!(done.ok(), "{}", done.stderr);
    let broken = || database::sql(lab, "SHOW archive_command").stdout.trim() == "/bin/true";
    assert!(wait_until(super::OPENING, broken), "the archive does not break");
}
