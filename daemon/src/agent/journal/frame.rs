//! The bytes of a journal: frames that survive torn writes and flipped bits.
//!
//! `F5 'S' 'Q' 'J' | length u32 | CRC-32 u32 | sequence u64 | payload`, little endian; the CRC covers length, sequence and payload.
//! The payload is JSON, and 0xF5 is no byte of any UTF-8 text, so a marker never appears inside one. After damage the reader looks for the next
//! marker whose frame is whole and whose sequence goes on: a complete record is never lost, and none is invented.

const MARKER: [u8; 4] = [0xF5, b'S', b'Q', b'J'];
/// Marker, length, CRC, sequence.
pub const HEADER: usize = 20;
/// Longest payload, bytes.
pub const MAX_PAYLOAD: usize = 4 << 20;

/// One frame around `payload`.
pub fn encode(sequence: u64, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_le_bytes();
    let sequence = sequence.to_le_bytes();
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.extend_from_slice(&MARKER);
    bytes.extend_from_slice(&length);
    bytes.extend_from_slice(&checksum(&length, &sequence, payload).to_le_bytes());
    bytes.extend_from_slice(&sequence);
    bytes.extend_from_slice(payload);
    bytes
}

fn checksum(length: &[u8], sequence: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(length);
    hasher.update(sequence);
    hasher.update(payload);
    hasher.finalize()
}

/// What a file held.
#[derive(Debug, Default, PartialEq)]
pub struct Scan<'a> {
    /// (sequence, payload), in order.
    pub frames: Vec<(u64, &'a [u8])>,
    /// Where the last whole frame ends.
    pub end: usize,
    /// Bytes that are neither whole frames nor preallocated zeros: a torn tail, or damage.
    pub damaged: usize,
}

/// Reads all whole frames. Never fails: what cannot be read is counted in `damaged`.
pub fn scan(bytes: &[u8]) -> Scan<'_> {
    let mut scan = Scan::default();
    let mut at = 0;
    let mut last = None;
    while at < bytes.len() {
        match frame_at(&bytes[at..]) {
            Some((sequence, payload)) if last.is_none_or(|last| sequence > last) => {
                last = Some(sequence);
                scan.frames.push((sequence, payload));
                at += HEADER + payload.len();
                scan.end = at;
            }
            _ => {
                let skip = next_marker(&bytes[at + 1..]).map_or(bytes.len() - at, |next| next + 1);
                scan.damaged += bytes[at..at + skip].iter().filter(|byte| **byte != 0).count();
                at += skip;
            }
        }
    }
    scan
}

fn next_marker(bytes: &[u8]) -> Option<usize> {
    // Zeros, the common rest of a file, are passed over by a search for one byte.
    let mut from = 0;
    while let Some(found) = bytes[from..].iter().position(|byte| *byte == MARKER[0]) {
        from += found;
        if bytes[from..].starts_with(&MARKER) {
            return Some(from);
        }
        from += 1;
    }
    None
}

fn frame_at(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (header, rest) = bytes.split_at_checked(HEADER)?;
    let (marker, header) = header.split_at(4);
    let (length, header) = header.split_at(4);
    let (crc, sequence) = header.split_at(4);
    let size = u32::from_le_bytes(length.try_into().ok()?) as usize;
    if marker != MARKER || size > MAX_PAYLOAD {
        return None;
    }
    let payload = rest.get(..size)?;
    (checksum(length, sequence, payload) == u32::from_le_bytes(crc.try_into().ok()?))
        .then_some((u64::from_le_bytes(sequence.try_into().ok()?), payload))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(payloads: &[String]) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for (index, payload) in payloads.iter().enumerate() {
            bytes.extend(encode(index as u64 + 1, payload.as_bytes()));
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    fn payloads() -> Vec<String> {
        (0..12).map(|index| format!("{{\"record\":{index},\"text\":\"{}\"}}", "x".repeat(index * 7))).collect()
    }

    #[test]
    fn every_byte_prefix_gives_exactly_the_records_that_are_complete_in_it() {
        let (bytes, ends) = file(&payloads());
        for length in 0..=bytes.len() {
            let complete = ends.iter().filter(|end| **end <= length).count();
            for zeros in [0, 64] {
                let mut torn = bytes[..length].to_vec();
                torn.resize(length + zeros, 0);
                let scan = scan(&torn);
                assert_eq!(scan.frames.len(), complete, "prefix of {length} bytes");
                for (index, (_, payload)) in scan.frames.iter().enumerate() {
                    assert_eq!(*payload, payloads()[index].as_bytes());
                }
            }
        }
    }

    #[test]
    fn any_flipped_bit_costs_at_most_the_record_that_it_is_in() {
        let (bytes, ends) = file(&payloads());
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                let hit = ends.iter().filter(|end| **end <= at).count();
                let scan = scan(&flipped);
                let kept: Vec<_> = scan.frames.iter().map(|(_, payload)| *payload).collect();
                let expected: Vec<_> = payloads();
                let expected: Vec<_> =
                    expected.iter().enumerate().filter(|(i, _)| *i != hit).map(|(_, p)| p.as_bytes()).collect();
                assert_eq!(kept, expected, "bit {bit} of byte {at}");
                assert!(scan.damaged > 0);
            }
        }
    }

    #[test]
    fn left_overs_of_an_older_journal_behind_the_end_are_not_read() {
        let mut bytes = encode(8, b"\"new\"");
        bytes.extend(encode(3, b"\"old\""));
        assert_eq!(scan(&bytes).frames, vec![(8, &b"\"new\""[..])]);
    }

    proptest! {
        #[test]
        fn noise_never_becomes_a_record(noise in proptest::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert!(scan(&noise).frames.is_empty());
        }
    }
}
