//! The name under which this person is known to the coordinator. A claim, for the record: the token is what counts.

use nix::unistd::{User, geteuid};

/// Longest name that is told.
const LONGEST: usize = 64;

/// The login name; under sudo that of who used it. None: nobody can say.
pub fn name() -> Option<String> {
    let said = |variable: &str| std::env::var(variable).ok().and_then(|name| plain(&name));
    let before_sudo = geteuid().is_root().then(|| said("SUDO_USER")).flatten();
    let known = || User::from_uid(geteuid()).ok().flatten().and_then(|user| plain(&user.name));
    before_sudo.or_else(|| said("LOGNAME")).or_else(|| said("USER")).or_else(known)
}

/// What can stand in a header and in a log; None if nothing of it can.
fn plain(name: &str) -> Option<String> {
    let plain: String = name.chars().filter(char::is_ascii_graphic).take(LONGEST).collect();
    (!plain.is_empty()).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_plain_and_short() {
        assert_eq!(plain("ada").as_deref(), Some("ada"));
        assert_eq!(plain("ad\r\na: b\u{e4}").as_deref(), Some("ada:b"));
        assert_eq!(plain(" \u{e4}"), None);
        assert_eq!(plain(&"x".repeat(100)).map(|name| name.len()), Some(LONGEST));
    }
}
