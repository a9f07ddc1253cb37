//! "Did you mean": the closest of the words that would have been right.

/// The closest candidate, if it is close enough to be what was meant. Case, dashes and underscores do not count.
pub fn closest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace(['-', '_', ' '], "");
    let word = plain(word);
    // Longer words have no chance, and distance is quadratic.
    if word.is_empty() || word.chars().count() > 64 {
        return None;
    }
    let most = (word.chars().count() / 3).max(1);
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(&word, &plain(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= most && *distance < plain(candidate).chars().count())
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let fields = || ["latency", "jitter", "peerNodes"].into_iter();
        assert_eq!(closest("latncy", fields()), Some("latency"));
        assert_eq!(closest("peer_nodes", fields()), Some("peerNodes"));
        assert_eq!(closest("JITTER", fields()), Some("jitter"));
        assert_eq!(closest("bandwidth", fields()), None);
        assert_eq!(closest("", fields()), None);
    }
}
