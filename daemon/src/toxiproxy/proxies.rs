//! All proxies by name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Deserialize;

use super::body;
use super::budget::Budget;
use super::problem::Problem;
use super::proxy::{Proxy, Shape};

/// A proxy as a request or a configuration file describes it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Wanted {
    name: Option<String>,
    listen: Option<String>,
    upstream: Option<String>,
    enabled: Option<bool>,
}

impl Wanted {
    /// `place`: where in a list, for the message.
    fn check(self, place: &str) -> Result<(String, Shape), Problem> {
        let needed = |value: Option<String>, name: &str| {
            value.filter(|value| !value.is_empty()).ok_or_else(|| Problem::missing(&format!("{name}{place}")))
        };
        let name = needed(self.name, "name")?;
        let upstream = needed(self.upstream, "upstream")?;
        let listen = self.listen.unwrap_or_default();
        Ok((name, Shape { listen, upstream, enabled: self.enabled.unwrap_or(true) }))
    }
}

/// See the module.
pub struct Proxies {
    all: Mutex<BTreeMap<String, Arc<Proxy>>>,
    /// Held while the set of proxies changes. Who only looks, and who changes toxics, never waits for it.
    changing: tokio::sync::Mutex<()>,
    seed: u64,
    pub budget: Budget,
}

impl Proxies {
    /// `seed`: of everything random.
    pub fn new(seed: u64) -> Self {
        Proxies { all: Mutex::default(), changing: tokio::sync::Mutex::default(), seed, budget: Budget::default() }
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Proxy>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn list(&self) -> Vec<Arc<Proxy>> {
        self.all().values().cloned().collect()
    }

    /// # Errors
    /// Not found.
    pub fn get(&self, name: &str) -> Result<Arc<Proxy>, Problem> {
        self.all().get(name).cloned().ok_or_else(Problem::proxy_not_found)
    }

    fn new_proxy(&self, name: &str, shape: &Shape) -> Arc<Proxy> {
        let Shape { listen, upstream, .. } = shape.clone();
        Arc::new(Proxy::new(name.to_owned(), listen, upstream, self.seed, self.budget.clone()))
    }

    /// # Errors
    /// The body is wrong, the name is taken, or it cannot listen; there is no such proxy then.
    pub async fn create(&self, text: &[u8]) -> Result<Arc<Proxy>, Problem> {
        let (name, shape) = body::read::<Wanted>(text)?.check("")?;
        let _changing = self.changing.lock().await;
        if self.all().contains_key(&name) {
            return Err(Problem::proxy_exists());
        }
        let proxy = self.new_proxy(&name, &shape);
        if shape.enabled {
            proxy.start().await?;
        }
        self.all().insert(name, proxy.clone());
        Ok(proxy)
    }

    /// Creates what is missing, replaces what has other addresses, leaves the rest as it is. Also what came before an error.
    pub async fn populate(&self, text: &[u8]) -> (Vec<Arc<Proxy>>, Option<Problem>) {
        let mut done = Vec::new();
        let wanted = body::read::<Vec<Wanted>>(text).and_then(|list| {
            let numbered = list.into_iter().enumerate();
            numbered
                .map(|(index, wanted)| wanted.check(&format!(" at proxy {}", index + 1)))
                .collect::<Result<Vec<_>, _>>()
        });
        let wanted = match wanted {
            Ok(wanted) => wanted,
            Err(problem) => return (done, Some(problem)),
        };
        let _changing = self.changing.lock().await;
        for (name, shape) in wanted {
            match self.add_or_replace(name, &shape).await {
                Ok(proxy) => done.push(proxy),
                Err(problem) => return (done, Some(problem)),
            }
        }
        (done, None)
    }

    async fn add_or_replace(&self, name: String, shape: &Shape) -> Result<Arc<Proxy>, Problem> {
        let existing = self.all().get(&name).cloned();
        if let Some(existing) = existing {
            if !existing.differs(&shape.listen, &shape.upstream).await? {
                return Ok(existing);
            }
            existing.stop().await;
        }
        let proxy = self.new_proxy(&name, shape);
        if shape.enabled {
            proxy.start().await?;
        }
        self.all().insert(name, proxy.clone());
        Ok(proxy)
    }

    /// Addresses, up or down; what the body does not name stays.
    ///
    /// # Errors
    /// Not found, the body is wrong, or it cannot listen.
    pub async fn update(&self, name: &str, text: &[u8]) -> Result<Arc<Proxy>, Problem> {
        let proxy = self.get(name)?;
        let wanted = body::read::<Wanted>(text)?;
        let old = proxy.shape();
        let shape = Shape {
            listen: wanted.listen.unwrap_or(old.listen),
            upstream: wanted.upstream.unwrap_or(old.upstream),
            enabled: wanted.enabled.unwrap_or(old.enabled),
        };
        proxy.update(shape).await?;
        Ok(proxy)
    }

    /// Closes it and all its connections.
    ///
    /// # Errors
    /// Not found.
    pub async fn remove(&self, name: &str) -> Result<(), Problem> {
        let _changing = self.changing.lock().await;
        let proxy = self.get(name)?;
        self.all().remove(name);
        proxy.stop().await;
        Ok(())
    }

    /// All proxies up, no toxics.
    ///
    /// # Errors
    /// One cannot listen; the others are reset all the same.
    pub async fn reset(&self) -> Result<(), Problem> {
        let mut result = Ok(());
        for proxy in self.list() {
            proxy.chain.clear();
            result = result.and(proxy.start().await);
        }
        result
    }
}
