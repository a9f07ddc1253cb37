//! The web hosts: a keeper on each, which runs the shop's replicas.

use super::{Recipe, Weakness, own, service};
use crate::lab::{Lab, Running};

pub(super) const NODES: [&str; 3] = ["web1", "web2", "web3"];
/// Replicas that one host can have.
pub(super) const SLOTS: u16 = 3;

pub(super) fn start(lab: &Lab, recipe: &Recipe) -> Vec<Running> {
    let database = |port: u16| format!("host=database.lab port={port} user=shop dbname=shop application_name=shop");
    let (primary, replicas) = (database(5432), database(5433));
    let mut serve = vec!["--database", &primary, "--database-replicas", &replicas];
    serve.extend(["--cache", "redis://cache.lab:6379", "--recommendations", "http://rec.lab:8090"]);
    if recipe.is(Weakness::NoFallback) {
        serve.push("--no-fallback");
    }
    let keep = |name: &&str| {
        let most = SLOTS.to_string();
        let mut arguments =
            vec!["keep", "--listen", "0.0.0.0:8000", "--name", name, "--replicas", "1", "--most", &most, "--"];
        arguments.extend(&serve);
        service(lab.host(name), "shop", None, &own(), &arguments)
    };
    NODES.iter().map(keep).collect()
}
