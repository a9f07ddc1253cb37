//! The toxics of one proxy, in the order in which they were added, and who of the connections they hit.
//!
//! A change is published at once and waits for nobody: each link takes it up before it moves its next byte.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::body::{object, string};
use super::problem::Problem;
use super::toxics::Attributes;

/// Which way data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Upstream,
    /// From the server to the client.
    Downstream,
}

impl Direction {
    pub const BOTH: [Direction; 2] = [Direction::Upstream, Direction::Downstream];

    pub fn as_str(self) -> &'static str {
        match self {
            Direction::Upstream => "upstream",
            Direction::Downstream => "downstream",
        }
    }

    fn parse(text: &str) -> Option<Direction> {
        Direction::BOTH.into_iter().find(|direction| direction.as_str().eq_ignore_ascii_case(text))
    }
}

/// One toxic as it is now; an update makes another with the same `id`.
#[derive(Debug, Clone, Serialize)]
pub struct Toxic {
    pub attributes: Attributes,
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(rename = "stream", serialize_with = "direction_text")]
    pub direction: Direction,
    /// Share of connections that it hits: 0 none, 1 all.
    pub toxicity: f32,
    #[serde(skip)]
    pub id: u64,
}

fn direction_text<S: Serializer>(direction: &Direction, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(direction.as_str())
}

impl Toxic {
    fn parse(text: &[u8]) -> Result<Toxic, Problem> {
        let fields = object(text)?;
        let direction = match string(&fields, "stream")? {
            Some(stream) if !stream.is_empty() => Direction::parse(&stream).ok_or_else(Problem::invalid_stream)?,
            _ => Direction::Downstream,
        };
        let kind = string(&fields, "type")?.unwrap_or_default();
        let fresh = Attributes::new(&kind).ok_or_else(Problem::invalid_type)?;
        let name = string(&fields, "name")?
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| format!("{kind}_{}", direction.as_str()));
        let toxicity = toxicity(&fields)?.unwrap_or(1.0);
        static IDS: AtomicU64 = AtomicU64::new(0);
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        Ok(Toxic { attributes: changed(&fresh, &fields)?, name, kind, direction, toxicity, id })
    }
}

fn toxicity(fields: &Map<String, Value>) -> Result<Option<f32>, Problem> {
    match fields.get("toxicity") {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_f64() {
            Some(share) => Ok(Some(share as f32)),
            None => Err(Problem::bad_body(&format!("toxicity: expected a number from 0 to 1, found {value}"))),
        },
    }
}

fn changed(old: &Attributes, fields: &Map<String, Value>) -> Result<Attributes, Problem> {
    match fields.get("attributes") {
        None | Some(Value::Null) => Ok(old.clone()),
        Some(Value::Object(changes)) => {
            old.with(changes).map_err(|error| Problem::bad_body(&format!("attributes: {error}")))
        }
        Some(other) => Err(Problem::bad_body(&format!("attributes: expected an object, found {other}"))),
    }
}

type Toxics = Arc<Vec<Arc<Toxic>>>;

/// See the module.
pub struct Chain {
    all: watch::Sender<Toxics>,
}

impl Default for Chain {
    fn default() -> Self {
        Chain { all: watch::Sender::new(Toxics::default()) }
    }
}

impl Chain {
    /// What a link follows.
    pub fn follow(&self) -> watch::Receiver<Toxics> {
        self.all.subscribe()
    }

    /// Upstream first, each direction in the order of adding, as Toxiproxy lists them.
    pub fn list(&self) -> Vec<Arc<Toxic>> {
        let all = self.all.borrow().clone();
        let of = |direction| all.iter().filter(move |toxic| toxic.direction == direction).cloned();
        Direction::BOTH.into_iter().flat_map(of).collect()
    }

    /// # Errors
    /// Not found.
    pub fn get(&self, name: &str) -> Result<Arc<Toxic>, Problem> {
        self.all.borrow().iter().find(|toxic| toxic.name == name).cloned().ok_or_else(Problem::toxic_not_found)
    }

    /// # Errors
    /// The body is wrong, or a toxic of this name is there, in whichever direction.
    pub fn add(&self, body: &[u8]) -> Result<Arc<Toxic>, Problem> {
        let toxic = Arc::new(Toxic::parse(body)?);
        self.change(|all| {
            if all.iter().any(|other| other.name == toxic.name) {
                return Err(Problem::toxic_exists());
            }
            all.push(toxic.clone());
            Ok(toxic)
        })
    }

    /// Toxicity and the attributes that `body` names; type, name and stream stay.
    ///
    /// # Errors
    /// Not found, or the body is wrong.
    pub fn update(&self, name: &str, body: &[u8]) -> Result<Arc<Toxic>, Problem> {
        self.change(|all| {
            let Some(old) = all.iter_mut().find(|toxic| toxic.name == name) else {
                return Err(Problem::toxic_not_found());
            };
            let fields = object(body)?;
            let attributes = changed(&old.attributes, &fields)?;
            let toxicity = toxicity(&fields)?.unwrap_or(old.toxicity);
            *old = Arc::new(Toxic { attributes, toxicity, ..old.as_ref().clone() });
            Ok(old.clone())
        })
    }

    /// # Errors
    /// Not found.
    pub fn remove(&self, name: &str) -> Result<(), Problem> {
        self.change(|all| {
            let index = all.iter().position(|toxic| toxic.name == name).ok_or_else(Problem::toxic_not_found)?;
            all.remove(index);
            Ok(())
        })
    }

    pub fn clear(&self) {
        self.all.send_replace(Toxics::default());
    }

    fn change<T>(&self, change: impl FnOnce(&mut Vec<Arc<Toxic>>) -> Result<T, Problem>) -> Result<T, Problem> {
        let mut result = Err(Problem::toxic_not_found());
        self.all.send_if_modified(|shared| {
            let mut all = shared.as_ref().clone();
            result = change(&mut all);
            if result.is_ok() {
                *shared = Arc::new(all);
            }
            result.is_ok()
        });
        result
    }
}

/// One direction of one connection's share in what is random: the same seed, proxy, connection and toxic have the same luck again.
#[derive(Debug, Clone)]
pub struct Luck {
    root: Sha256,
}

impl Luck {
    /// `connection`: how many the proxy had before.
    pub fn new(seed: u64, proxy: &str, connection: u64, direction: Direction) -> Self {
        let mut root = Sha256::new();
        root.update(seed.to_be_bytes());
        root.update((proxy.len() as u64).to_be_bytes());
        root.update(proxy);
        root.update(connection.to_be_bytes());
        root.update(direction.as_str());
        Luck { root }
    }

    /// A number from 0 up to but not 1, drawn once: a toxic hits if its toxicity is larger. So an update of the toxicity
    /// draws no second time, and 0 hits nobody.
    pub fn with(&self, toxic: &Toxic) -> f32 {
        self.generator(toxic, b"toxicity").random()
    }

    /// What else is random about this toxic on this connection.
    pub fn dice(&self, toxic: &Toxic) -> ChaCha12Rng {
        self.generator(toxic, b"stage")
    }

    fn generator(&self, toxic: &Toxic, purpose: &[u8]) -> ChaCha12Rng {
        let mut hash = self.root.clone();
        hash.update(purpose);
        hash.update(&toxic.name);
        ChaCha12Rng::from_seed(hash.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toxic(text: &str) -> Toxic {
        Toxic::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_is_not_said_is_downstream_always_and_named_after_type_and_stream() {
        let toxic = toxic(r#"{"type": "latency"}"#);
        let text = serde_json::to_string(&toxic).unwrap();
        assert_eq!(
            text,
            r#"{"attributes":{"latency":0,"jitter":0},"name":"latency_downstream","type":"latency","stream":"downstream","toxicity":1.0}"#
        );
    }

    #[test]
    fn mistakes_are_told_with_toxiproxys_words() {
        let message = |text: &str| Toxic::parse(text.as_bytes()).unwrap_err().message;
        assert_eq!(message(r#"{"type": "lightning"}"#), "invalid toxic type");
        assert_eq!(
            message(r#"{"type": "latency", "stream": "up"}"#),
            "stream was invalid, can be either upstream or downstream"
        );
        assert!(message("{").starts_with("bad request body: "));
        assert!(message(r#"{"type": "latency", "toxicity": "all"}"#).contains("toxicity"));
        assert!(message(r#"{"type": "latency", "attributes": {"latency": "x"}}"#).starts_with("bad request body: "));
    }

    #[test]
    fn a_name_is_taken_in_both_directions() {
        let chain = Chain::default();
        chain.add(br#"{"type": "latency", "name": "a"}"#).unwrap();
        let again = chain.add(br#"{"type": "latency", "name": "a", "stream": "upstream"}"#).unwrap_err();
        assert_eq!((again.status.as_u16(), again.message.as_str()), (409, "toxic already exists"));
        chain.add(br#"{"type": "latency", "stream": "upstream"}"#).unwrap();
        let names: Vec<_> = chain.list().iter().map(|toxic| toxic.name.clone()).collect();
        assert_eq!(names, ["latency_upstream", "a"]);
    }

    #[test]
    fn an_update_that_is_refused_changes_nothing() {
        let chain = Chain::default();
        chain.add(br#"{"type": "bandwidth", "name": "a", "attributes": {"rate": 5}}"#).unwrap();
        assert!(chain.update("a", br#"{"attributes": {"rate": "fast"}, "toxicity": 0.5}"#).is_err());
        let toxic = chain.get("a").unwrap();
        assert_eq!(
            (serde_json::to_string(&toxic.attributes).unwrap().as_str(), toxic.toxicity),
            (r#"{"rate":5}"#, 1.0)
        );
        assert_eq!(chain.update("a", br#"{"toxicity": 0.5}"#).unwrap().toxicity, 0.5);
        assert_eq!(chain.remove("b").unwrap_err().status.as_u16(), 404);
    }

    #[test]
    fn luck_is_the_same_again_and_hits_as_many_as_the_toxicity_says() {
        let toxic = toxic(r#"{"type": "latency"}"#);
        let luck = |connection| Luck::new(7, "p", connection, Direction::Upstream).with(&toxic);
        assert_eq!(luck(3), luck(3));
        let hit = (0..10_000).filter(|connection| luck(*connection) < 0.3).count();
        assert!((2800..3200).contains(&hit), "{hit}");
        assert!((0..10_000).all(|connection| (0.0..1.0).contains(&luck(connection))));
    }
}
