//! Webhooks: what happens is written into the store, and one task for each webhook delivers it in order, signed, again and
//! again with growing pauses until it is taken or given up. Nothing that runs ever waits for it.

mod send;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use squall_experiments::notification::{Notification, WebhookInfo};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::store::{Delivery, Store, Webhook};

/// What happened and is not in the store yet.
const INBOX: usize = 256;
/// The pause after the first failure; it doubles each time.
pub const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Then a delivery is given up: with the pauses above, after about half an hour.
const MOST_TRIES: u32 = 14;

pub struct Notifier {
    store: Store,
    said: mpsc::Sender<Notification>,
    first_pause: Duration,
    stop: CancellationToken,
    /// Of each webhook: wakes its task when something waits.
    tasks: Mutex<BTreeMap<String, Task>>,
}

#[derive(Clone)]
struct Task {
    wake: Arc<Notify>,
    stop: CancellationToken,
}

impl Notifier {
    /// Goes on with what waits in the store.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn start(store: Store, first_pause: Duration) -> anyhow::Result<Arc<Self>> {
        let (said, mut heard) = mpsc::channel::<Notification>(INBOX);
        let stop = CancellationToken::new();
        let notifier = Arc::new(Notifier { store, said, first_pause, stop: stop.clone(), tasks: Mutex::default() });
        for webhook in notifier.store.webhooks()? {
            notifier.attend(&webhook.name);
        }
        let keeping = notifier.clone();
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            while let Some(notification) = heard.recv().await {
                if let Err(error) = keeping.keep(&notification) {
                    tracing::error!(error = format!("{error:#}"), "a notification could not be kept");
                }
            }
        }));
        Ok(notifier)
    }

    /// Tells every webhook that wants it. Never waits; where more happens than can be written down, it is said in the log.
    pub fn say(&self, notification: Notification) {
        if let Err(error) = self.said.try_send(notification) {
            tracing::warn!(%error, "a notification was dropped");
        }
    }

    fn keep(&self, notification: &Notification) -> anyhow::Result<()> {
        for mut webhook in self.store.webhooks()?.into_iter().filter(|hook| hook.events.contains(&notification.event)) {
            let id = uuid::Uuid::now_v7().to_string();
            let delivery = Delivery { id, webhook: webhook.name.clone(), notification: notification.clone() };
            if !self.store.add_delivery(&delivery)? {
                webhook.dropped += 1;
                self.store.keep_webhook(&webhook)?;
            }
            if let Some(task) = self.lock().get(&webhook.name) {
                task.wake.notify_one();
            }
        }
        Ok(())
    }

    /// # Errors
    /// It cannot be stored, or (false) there is one of this name.
    pub fn add(self: &Arc<Self>, webhook: &Webhook) -> anyhow::Result<bool> {
        let added = self.store.add_webhook(webhook)?;
        if added {
            self.attend(&webhook.name);
        }
        Ok(added)
    }

    /// With what waits for it. False: there is none.
    pub fn remove(&self, name: &str) -> anyhow::Result<bool> {
        if let Some(task) = self.lock().remove(name) {
            task.stop.cancel();
        }
        self.store.remove_webhook(name)
    }

    pub fn infos(&self) -> anyhow::Result<Vec<WebhookInfo>> {
        self.store.webhooks()?.iter().map(|webhook| self.info(webhook)).collect()
    }

    pub fn info(&self, webhook: &Webhook) -> anyhow::Result<WebhookInfo> {
        let host = reqwest::Url::parse(&webhook.url).ok().and_then(|url| url.host_str().map(str::to_owned));
        Ok(WebhookInfo {
            name: webhook.name.clone(),
            host: host.unwrap_or_default(),
            shape: webhook.shape,
            events: webhook.events.clone(),
            waiting: self.store.waiting(&webhook.name)?,
            given_up: webhook.given_up,
            dropped: webhook.dropped,
            last_error: webhook.last_error.clone(),
        })
    }

    /// What waits is delivered by the next coordinator.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    fn attend(self: &Arc<Self>, name: &str) {
        let task = Task { wake: Arc::new(Notify::new()), stop: self.stop.child_token() };
        self.lock().insert(name.to_owned(), task.clone());
        let (notifier, name) = (self.clone(), name.to_owned());
        tokio::spawn(task.stop.run_until_cancelled_owned(async move {
            loop {
                match notifier.store.next_delivery(&name) {
                    Ok(Some(delivery)) => notifier.deliver(delivery).await,
                    Ok(None) => task.wake.notified().await,
                    Err(error) => {
                        tracing::error!(error = format!("{error:#}"), "deliveries cannot be read");
                        tokio::time::sleep(LONGEST_PAUSE).await;
                    }
                }
            }
        }));
    }

    /// Until it is taken or given up.
    async fn deliver(&self, delivery: Delivery) {
        let mut pause = self.first_pause;
        for tried in 1..=MOST_TRIES {
            let webhook = match self.store.webhooks() {
                Ok(all) => all.into_iter().find(|hook| hook.name == delivery.webhook),
                Err(_) => None,
            };
            let Some(mut webhook) = webhook else { break };
            let why = match send::send(&webhook, &delivery).await {
                Ok(()) => break,
                Err(why) => why,
            };
            tracing::warn!(webhook = webhook.name, tried, why, "a notification was not taken");
            webhook.last_error = why;
            webhook.given_up += u64::from(tried == MOST_TRIES);
            if let Err(error) = self.store.keep_webhook(&webhook) {
                tracing::error!(error = format!("{error:#}"), "a webhook's count could not be stored");
            }
            if tried < MOST_TRIES {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
        if let Err(error) = self.store.end_delivery(&delivery.id) {
            // It stays, and is delivered again: twice is better than not at all.
            tracing::error!(error = format!("{error:#}"), "the end of a delivery could not be stored");
            tokio::time::sleep(self.first_pause).await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Task>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
