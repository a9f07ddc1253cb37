//! `--shard i/n`: the same experiments cut into parts that several jobs run side by side.

use std::fmt;
use std::str::FromStr;

/// Part `index` (from 1) of `of`. Each experiment is in exactly one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    of: usize,
}

impl Shard {
    /// Is the `position`-th experiment (from 0, in the order of the whole gate) in this part?
    pub fn has(self, position: usize) -> bool {
        position % self.of == self.index - 1
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("`{text}` is no shard: write 2/3 for the second of three");
        let (index, of) = text.split_once('/').ok_or_else(expected)?;
        let (index, of): (usize, usize) =
            (index.trim().parse().map_err(|_| expected())?, of.trim().parse().map_err(|_| expected())?);
        if index == 0 || index > of {
            return Err(format!("`{text}`: shards are numbered from 1 to {of}"));
        }
        Ok(Shard { index, of })
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_experiment_is_in_exactly_one_part() {
        let shards: Vec<Shard> = (1..=3).map(|index| format!("{index}/3").parse().unwrap()).collect();
        for position in 0..10 {
            assert_eq!(shards.iter().filter(|shard| shard.has(position)).count(), 1, "experiment {position}");
        }
        let mine: Vec<usize> = (0..7).filter(|position| shards[1].has(*position)).collect();
        assert_eq!(mine, [1, 4]);
    }

    #[test]
    fn what_is_no_shard_is_told_with_an_example() {
        for wrong in ["", "1", "0/3", "4/3", "a/b", "1/0", "-1/2"] {
            let error = wrong.parse::<Shard>().unwrap_err();
            assert!(error.contains("2/3") || error.contains("from 1 to"), "{wrong}: {error}");
        }
    }
}
