//! Who is logged in to the web UI. Kept in memory and as hashes only: a restart logs everyone out.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, header};

use crate::clock::Instant;
use crate::coordinator::access::{TokenHash, new_token};

/// From log-in to its end, whatever is done in between. The token is looked at again with every request.
pub const LIFE: Duration = Duration::from_secs(8 * 3600);
/// `__Host-`: only over TLS, from this very host, for every path of it.
pub const COOKIE: &str = "__Host-squall";
/// At the same time; the oldest one makes room.
const MOST: usize = 1024;

#[derive(Default)]
pub struct Sessions(Mutex<HashMap<String, Session>>);

/// One browser of one person.
#[derive(Debug, Clone)]
pub struct Session {
    /// Of the token that was shown. What it opens may change while the session lasts.
    pub token: TokenHash,
    /// With the token that everyone shares: who they say they are.
    pub claimed: String,
    /// Every form carries it.
    pub form_token: String,
    ends: Instant,
    notice: Option<String>,
}

impl Sessions {
    /// The value of its cookie, which is nowhere else.
    pub fn open(&self, token: TokenHash, claimed: String, now: Instant) -> String {
        let id = new_token();
        let session = Session { token, claimed, form_token: new_token(), ends: now + LIFE, notice: None };
        let mut sessions = self.lock();
        sessions.retain(|_, session| session.ends > now);
        if sessions.len() >= MOST {
            let oldest = sessions.iter().min_by_key(|(_, session)| session.ends).map(|(key, _)| key.clone());
            oldest.and_then(|key| sessions.remove(&key));
        }
        sessions.insert(key(&id), session);
        id
    }

    /// None: it is over, or there was none.
    pub fn find(&self, id: &str, now: Instant) -> Option<Session> {
        self.lock().get(&key(id)).filter(|session| session.ends > now).cloned()
    }

    pub fn close(&self, id: &str) {
        self.lock().remove(&key(id));
    }

    /// To be shown on the next page of this session.
    pub fn tell(&self, id: &str, notice: String) {
        if let Some(session) = self.lock().get_mut(&key(id)) {
            session.notice = Some(notice);
        }
    }

    pub fn take_notice(&self, id: &str) -> Option<String> {
        self.lock().get_mut(&key(id))?.notice.take()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(id: &str) -> String {
    TokenHash::of(id).text()
}

/// The value of a cookie of a request.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value)
}

/// For `Set-Cookie`. `life` zero: the browser forgets it.
pub fn set_cookie(name: &str, value: &str, life: Duration) -> String {
    format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age={}", life.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_after_its_life_or_when_it_is_closed() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let id = sessions.open(TokenHash::of("t"), "ada".into(), start);
        assert!(sessions.find(&id, start + LIFE - Duration::from_secs(1)).is_some());
        assert!(sessions.find(&id, start + LIFE).is_none());
        assert!(sessions.find("another", start).is_none() && sessions.find("", start).is_none());
        sessions.close(&id);
        assert!(sessions.find(&id, start).is_none());
    }

    #[test]
    fn a_notice_is_shown_once_and_to_its_own_session() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let (ada, bob) = (
            sessions.open(TokenHash::of("a"), String::new(), now),
            sessions.open(TokenHash::of("b"), String::new(), now),
        );
        sessions.tell(&ada, "halted".into());
        assert_eq!(sessions.take_notice(&bob), None);
        assert_eq!(sessions.take_notice(&ada).as_deref(), Some("halted"));
        assert_eq!(sessions.take_notice(&ada), None);
    }

    #[test]
    fn the_oldest_session_makes_room_and_no_more_are_kept_than_the_limit() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let first = sessions.open(TokenHash::of("t"), String::new(), start);
        for n in 0..MOST as u64 {
            sessions.open(TokenHash::of("t"), String::new(), start + Duration::from_millis(n + 1));
        }
        assert_eq!(sessions.lock().len(), MOST);
        assert!(sessions.find(&first, start).is_none());
    }

    #[test]
    fn a_cookie_is_found_among_others_by_its_whole_name() {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, "x__Host-squall=no; a=b;__Host-squall=yes; c".parse().unwrap());
        assert_eq!(cookie(&headers, COOKIE), Some("yes"));
        assert_eq!(cookie(&headers, "b"), None);
    }
}
