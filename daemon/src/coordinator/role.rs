//! `squalld coordinator` and `squalld enroll`: from arguments to an exit.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use squall_experiments::units::Span;

use super::brought::Files;
use super::identity::Authority;
use super::notify::FIRST_PAUSE;
use super::{Config, DEFAULT_LISTEN, identity, start};
use crate::clock::Wall;
use crate::process_life::{StopSignals, is_root, log_to_stderr, raise_descriptor_limit, runtime};

/// Where a coordinator keeps its things, unless told otherwise.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/squall/coordinator";

#[derive(Args, Debug)]
pub struct CoordinatorArgs {
    /// Authority, store and access.json (made if missing).
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
    /// Address and port of the one TLS port.
    #[arg(long, value_name = "ADDR", default_value = DEFAULT_LISTEN)]
    listen: SocketAddr,
    /// A name or address by which agents and people reach it (repeatable).
    #[arg(long = "name", value_name = "HOST")]
    names: Vec<String>,
    /// Life of an injection without a sign from here.
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    lease: Span,
    /// Programs that `command` probes may start: a YAML file `name: [program, argument...]`.
    #[arg(long, value_name = "FILE")]
    probe_commands: Option<PathBuf>,
    /// Where people on this machine reach it without a token [default: squall.sock in the data directory].
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Members of this group are operators on the socket, besides root and the user who runs this.
    #[arg(long, value_name = "GROUP")]
    socket_group: Option<String>,
    /// Life of the certificates that nodes get when they enrol; they renew them when a third is left.
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    certificate_life: Span,
    /// A certificate of your own authority (PEM, with its chain) for this port, beside the coordinator's own; files that are replaced are taken up without a restart.
    #[arg(long, value_name = "FILE", requires_all = ["tls_key", "tls_ca"])]
    tls_cert: Option<PathBuf>,
    /// Its private key (PEM).
    #[arg(long, value_name = "FILE", requires_all = ["tls_cert", "tls_ca"])]
    tls_key: Option<PathBuf>,
    /// Authorities of that certificate, and of nodes that show certificates of their own (PEM).
    #[arg(long, value_name = "FILE", requires_all = ["tls_cert", "tls_key"])]
    tls_ca: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct OrderKeyArgs {
    /// The coordinator's data directory.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
}

#[derive(Args, Debug)]
pub struct EnrollArgs {
    /// The coordinator's data directory.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
    /// The node's name.
    node: String,
    /// Where ca.pem, node.pem and node.key are written.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Serves until SIGINT or SIGTERM, then halts every run and waits for its reverts.
///
/// # Errors
/// It cannot start, or it left something unconfirmed.
pub fn coordinator(args: CoordinatorArgs) -> anyhow::Result<()> {
    log_to_stderr("info");
    raise_descriptor_limit();
    if is_root() {
        tracing::warn!(
            "this coordinator runs as root and needs no privilege: give it a user of its own (squalld-coordinator.service)"
        );
    }
    let CoordinatorArgs {
        data_dir,
        listen,
        names,
        lease,
        probe_commands,
        socket,
        socket_group,
        certificate_life,
        tls_cert,
        tls_key,
        tls_ca,
    } = args;
    let brought = match (tls_cert, tls_key, tls_ca) {
        (Some(certificate), Some(key), Some(authorities)) => Some(Files { certificate, key, authorities }),
        _ => None,
    };
    let config = Config {
        data_dir,
        listen,
        names,
        lease: lease.0,
        probe_commands,
        socket,
        socket_group,
        ephemeral: false,
        certificate_life: certificate_life.0,
        brought,
        limits: super::Limits::default(),
        wall: Wall::default(),
        webhook_pause: FIRST_PAUSE,
    };
    runtime(2)?.block_on(async {
        let mut signals = StopSignals::catch()?;
        let running = start(config).await?;
        say(&running.ready)?;
        let signal = signals.asked().await;
        tracing::info!(signal, "stopping: halting every run");
        let dirty = running.stop(&format!("{signal} at the coordinator")).await;
        if !dirty.is_empty() {
            bail!("not confirmed as reverted: {}", dirty.join(", "));
        }
        Ok(())
    })
}

/// # Errors
/// See [`identity::enroll`].
pub fn enroll(args: &EnrollArgs) -> anyhow::Result<()> {
    for path in identity::enroll(&args.data_dir, &args.node, &args.out)? {
        println!("{}", path.display());
    }
    Ok(())
}

/// Prints the public key of the coordinator's orders (PEM), which belongs into the `ca.pem` of a node with a certificate of another authority.
///
/// # Errors
/// The data directory has no authority.
pub fn order_key(args: &OrderKeyArgs) -> anyhow::Result<()> {
    identity::has_authority(&args.data_dir)?;
    print!("{}", Authority::open(&args.data_dir)?.order_signer().public_pem());
    Ok(())
}

/// The first line on standard output.
pub(crate) fn say(ready: &squall_experiments::api::Ready) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, ready)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}
