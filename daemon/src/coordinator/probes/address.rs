//! Addresses that a probe may not talk to: an experiment must not read a cloud's instance metadata through the coordinator.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

pub use squall_experiments::metadata_address::denied;

type Looking = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// How names become addresses. Each request looks once, and connects to what was judged here and to nothing else: a name whose answer
/// changes in between wins nothing.
#[derive(Clone)]
pub struct Names(Arc<dyn Fn(String, u16) -> Looking + Send + Sync>);

impl Default for Names {
    /// The system's.
    fn default() -> Self {
        Names(Arc::new(|host, port| {
            Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
        }))
    }
}

impl Names {
    /// Resolves `host:port` and leaves out what is denied.
    ///
    /// # Errors
    /// A sentence: the name cannot be resolved, or every address of it is denied.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        let found = (self.0)(host.to_owned(), port).await.map_err(|error| format!("cannot resolve {host}: {error}"))?;
        let (mut allowed, mut why) = (Vec::new(), None);
        for address in found {
            match denied(address.ip()) {
                None => allowed.push(address),
                Some(reason) => why = Some(reason),
            }
        }
        match why {
            Some(why) if allowed.is_empty() => Err(format!("{host}: {why}")),
            None if allowed.is_empty() => Err(format!("cannot resolve {host}: it has no address")),
            _ => Ok(allowed),
        }
    }

    /// One list of addresses for each look, the last one for all looks after it; and how many looks there were.
    #[cfg(test)]
    pub fn told(looks: &[&[&str]]) -> (Names, Arc<std::sync::atomic::AtomicUsize>) {
        let looks: Vec<Vec<std::net::IpAddr>> =
            looks.iter().map(|look| look.iter().map(|address| address.parse().unwrap()).collect()).collect();
        let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = count.clone();
        let answer = move |_, port| -> Looking {
            let look = counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed).min(looks.len() - 1);
            let found = looks[look].iter().map(|address| SocketAddr::new(*address, port)).collect();
            Box::pin(std::future::ready(Ok(found)))
        };
        (Names(Arc::new(answer)), count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_literal_address_is_checked_like_a_name() {
        let names = Names::default();
        // Decimal, octal and hexadecimal as inet_aton(3) reads them.
        for host in ["169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376"] {
            let error = names.resolve(host, 80).await.unwrap_err();
            assert!(error.contains("metadata") || error.contains("cannot resolve"), "{host}: {error}");
        }
        assert_eq!(names.resolve("127.0.0.1", 80).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn of_a_names_addresses_the_denied_ones_are_left_out() {
        let (names, _) =
            Names::told(&[&["169.254.169.254", "10.0.0.1", "64:ff9b::a9fe:a9fe"], &["fd00:ec2::254"], &[]]);
        let allowed = names.resolve("shop", 80).await.unwrap();
        assert_eq!(allowed, ["10.0.0.1:80".parse().unwrap()]);
        assert!(names.resolve("shop", 80).await.unwrap_err().contains("shop: link-local and metadata"));
        assert!(names.resolve("shop", 80).await.unwrap_err().contains("it has no address"));
    }
}
