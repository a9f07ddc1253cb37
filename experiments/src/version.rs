//! Which versions of coordinator and agents work together: the same major, and minors that are one apart at most.
//!
//! A wire version beside it ([`crate::wire::VERSION`]) says whether they can speak at all.

use std::fmt;
use std::str::FromStr;

/// `MAJOR.MINOR.PATCH`; what follows a `-` or `+` says nothing about what fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

impl Version {
    pub fn fits(self, other: Version) -> bool {
        self.major == other.major && self.minor.abs_diff(other.minor) <= 1
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers: Option<Vec<u32>> =
            text.split(['-', '+']).next().unwrap_or_default().split('.').map(|part| part.parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[major, minor, patch]) => Ok(Version { major, minor, patch }),
            _ => Err(format!("expected a version like 0.1.0, found `{text}`")),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn one_minor_apart_fits_in_both_directions_and_two_do_not() {
        let current = version("1.4.2");
        for fitting in ["1.4.0", "1.3.9", "1.5.0-rc1", "1.4.2+build"] {
            assert!(current.fits(version(fitting)) && version(fitting).fits(current), "{fitting}");
        }
        for other in ["1.2.9", "1.6.0", "2.4.2", "0.4.2"] {
            assert!(!current.fits(version(other)), "{other}");
        }
    }

    #[test]
    fn what_is_no_version_is_said() {
        for text in ["", "1", "1.2", "1.2.x", "v1.2.3", "1.2.3.4"] {
            assert!(text.parse::<Version>().unwrap_err().contains("expected a version like 0.1.0"), "{text}");
        }
    }
}
