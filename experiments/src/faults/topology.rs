//! The classical partitions by name, as matrices: `cut[i][j]` means that packets from i do not reach j.
//! Names and ideas are those of Jepsen's nemesis.

/// `cut[i][j]` over the members in name order.
pub(super) type Matrix = Vec<Vec<bool>>;

fn matrix(members: usize, cut: impl Fn(usize, usize) -> bool) -> Matrix {
    (0..members).map(|i| (0..members).map(|j| i != j && cut(i, j)).collect()).collect()
}

/// The first half (the smaller one where they differ) and the second half do not hear each other. `order` gives each member's rank.
pub(super) fn halves(order: &[usize]) -> Matrix {
    let half = order.len() / 2;
    matrix(order.len(), |i, j| (order[i] < half) != (order[j] < half))
}

/// Two halves, and the member in the middle hears both.
pub(super) fn bridge(members: usize) -> Matrix {
    let middle = members / 2;
    matrix(members, |i, j| i != middle && j != middle && (i < middle) != (j < middle))
}

/// Members stand in a ring. Each hears its nearest neighbours on both sides, as many as make a majority with itself; so everyone sees
/// a majority and no two see the same. With fewer than four members that is everyone.
pub(super) fn majorities_ring(members: usize) -> Matrix {
    let majority = members / 2 + 1;
    let reach = majority / 2;
    matrix(members, |i, j| {
        let apart = i.abs_diff(j);
        apart.min(members - apart) > reach
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(cut: &Matrix, by: usize) -> Vec<usize> {
        (0..cut.len()).filter(|other| !cut[*other][by]).collect()
    }

    #[test]
    fn halves_are_disjoint_and_whole_inside() {
        for n in 2..12 {
            let order: Vec<usize> = (0..n).rev().collect();
            let cut = halves(&order);
            for (i, row) in cut.iter().enumerate() {
                assert_eq!(seen(&cut, i).len(), if order[i] < n / 2 { n / 2 } else { n - n / 2 });
                for (j, is_cut) in row.iter().enumerate() {
                    assert_eq!(*is_cut, cut[j][i], "both ways alike");
                }
            }
        }
    }

    #[test]
    fn in_a_majorities_ring_each_sees_a_majority_and_no_two_see_the_same() {
        for n in 4..20 {
            let cut = majorities_ring(n);
            let mut views: Vec<Vec<usize>> = (0..n).map(|i| seen(&cut, i)).collect();
            for view in &views {
                assert!(view.len() > n / 2 && view.len() < n, "{n}: {view:?}");
            }
            views.sort();
            views.dedup();
            assert_eq!(views.len(), n);
        }
    }

    #[test]
    fn only_the_bridge_sees_both_halves() {
        for n in 3..12 {
            let cut = bridge(n);
            assert_eq!(seen(&cut, n / 2).len(), n);
            for i in (0..n).filter(|i| *i != n / 2) {
                assert!(seen(&cut, i).len() < n);
                assert!(!cut[i][n / 2]);
            }
        }
    }
}
