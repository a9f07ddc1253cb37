//! The coordinator of one command: the usual one, or with `--local` one of its own, gone after it.

use std::path::PathBuf;

use squall::local::{Local, Settings, Starting};

use crate::args::Global;
use crate::client::Client;
use crate::exit::Failure;
use crate::interrupts::Interrupts;

/// What the daemon of `--local` is told.
#[derive(clap::Args)]
pub struct LocalArgs {
    /// On this host alone: a coordinator and an agent for this one command (real faults need root)
    #[arg(long)]
    pub local: bool,
    /// With --local: a label that the experiment's selectors can name (repeatable)
    #[arg(long = "label", value_name = "KEY=VALUE", requires = "local")]
    labels: Vec<String>,
    /// With --local: the node's own limits [default: squalld's built-in policy]
    #[arg(long, value_name = "FILE", requires = "local")]
    policy: Option<PathBuf>,
    /// With --local: programs that `command` probes may start
    #[arg(long, value_name = "FILE", requires = "local")]
    probe_commands: Option<PathBuf>,
}

impl LocalArgs {
    /// `--local` of a verb that has nothing else.
    pub fn own(labels: Vec<String>, policy: Option<PathBuf>, probe_commands: Option<PathBuf>) -> Self {
        LocalArgs { local: true, labels, policy, probe_commands }
    }

    fn settings(&self) -> Settings {
        Settings {
            labels: self.labels.clone(),
            policy: self.policy.clone(),
            probe_commands: self.probe_commands.clone(),
            program: None,
        }
    }
}

/// A coordinator that is on its way, so that the command's own mistakes are looked for meanwhile: its start is most of a short run's time.
pub enum Coming {
    Usual,
    Own(Result<Box<Starting>, Failure>),
}

impl Coming {
    /// What is in the way of it is told by [`Coming::for_the`]: mistakes in what the user wrote come first.
    pub fn start(local: &LocalArgs) -> Coming {
        if local.local { Coming::Own(Starting::spawn(&local.settings()).map(Box::new)) } else { Coming::Usual }
    }

    /// It is needed: `wanted` had no mistake. Otherwise it ends before anything is asked of it.
    pub async fn for_the<T>(self, wanted: Result<T, Failure>, global: &Global) -> Result<(Coordinator, T), Failure> {
        match (self, wanted) {
            (Coming::Usual, wanted) => {
                let wanted = wanted?;
                Ok((Coordinator::Usual(Client::of(global.access.as_deref())?), wanted))
            }
            (Coming::Own(starting), Ok(wanted)) => Ok((Coordinator::Own(Box::new(starting?.ready().await?)), wanted)),
            (Coming::Own(Ok(starting)), Err(mistake)) => {
                starting.stop().await;
                Err(mistake)
            }
            (Coming::Own(Err(_)), Err(mistake)) => Err(mistake),
        }
    }
}

/// A coordinator for one command: the usual one, or one of our own.
pub enum Coordinator {
    Usual(Client),
    Own(Box<Local>),
}

impl Coordinator {
    pub async fn get(local: &LocalArgs, global: &Global) -> Result<Coordinator, Failure> {
        let (coordinator, ()) = Coming::start(local).for_the(Ok(()), global).await?;
        Ok(coordinator)
    }
    pub fn client(&self) -> &Client {
        match self {
            Coordinator::Usual(client) => client,
            Coordinator::Own(local) => &local.client,
        }
    }
    /// Ends only if a squalld of our own does, which it should not before it is told to.
    pub async fn died(&mut self) -> Failure {
        match self {
            Coordinator::Usual(_) => std::future::pending().await,
            Coordinator::Own(local) => local.died().await,
        }
    }
    pub async fn stop(self) -> Result<(), Failure> {
        match self {
            Coordinator::Usual(_) => Ok(()),
            Coordinator::Own(local) => {
                let mut interrupts = Interrupts::new()?;
                local.stop(interrupts.next()).await
            }
        }
    }
}
