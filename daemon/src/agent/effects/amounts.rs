//! Amounts as people read them in evidence and refusals.

/// `37.1 MiB`: three digits are enough for a reader; exact numbers are in the evidence beside it.
pub(super) fn roughly(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.iter().find(|(shift, _)| bytes >> shift > 0) {
        Some((shift, unit)) => {
            let amount = bytes as f64 / (1_u64 << shift) as f64;
            // Rounded down: "16 MiB free" must not stand for less.
            let text = format!("{:.1}", (amount * 10.0).floor() / 10.0);
            format!("{} {unit}", text.trim_end_matches(".0"))
        }
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::roughly;

    #[test]
    fn amounts_are_short_and_never_rounded_up() {
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (64 << 20, "64 MiB"), ((64 << 20) - 1, "63.9 MiB"), (3 << 29, "1.5 GiB")]
        {
            assert_eq!(roughly(bytes), text);
        }
    }
}
