//! Memory that is touched, does not compress, and is given back before the host runs short.

use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::time::Duration;

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mlock, mmap_anonymous, munmap};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use squall_experiments::run_event::Evidence;

use super::roughly;
use crate::agent::crash;
use crate::agent::effects::tether::{Outcome, Tether, Wake};
use crate::agent::kernel::memory::{self, Memory};

/// Grown at a time, between two looks at what is available.
const CHUNK: u64 = 32 << 20;
const PAGE: usize = 4096;
/// Between two looks while it is held.
const LOOK: Duration = Duration::from_millis(200);

pub(super) fn hold(bytes: u64, reserve: u64, tether: &mut Tether) -> anyhow::Result<Outcome> {
    let before = look()?;
    let mut hoard = Hoard::new();
    while hoard.grow_once(bytes, reserve, look()?.available)? {
        if tether.wait(Some(Duration::ZERO), None) == Wake::Release {
            return Ok(Outcome::default());
        }
    }
    anyhow::ensure!(
        hoard.bytes() > 0,
        "no memory to occupy: {} available, {} must stay available",
        roughly(before.available),
        roughly(reserve)
    );
    tether.active(vec![evidence(bytes, hoard.bytes(), 0, before, look()?)]);
    let largest = hoard.bytes();
    loop {
        match tether.wait(Some(LOOK), None) {
            Wake::Release => break,
            Wake::Renewed { .. } => {}
            Wake::Tick => while hoard.give_back_once(reserve, look()?.available) {},
        }
    }
    let last = evidence(bytes, largest, largest - hoard.bytes(), before, look()?);
    Ok(Outcome { evidence: vec![last], ..Outcome::default() })
}

fn look() -> anyhow::Result<Memory> {
    memory::look().ok_or_else(|| anyhow::anyhow!("/proc/meminfo cannot be read"))
}

/// Bytes of this process that are in memory and not in swap (field 2 of /proc/self/statm); 0 if they cannot be read.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * PAGE as u64
}

fn evidence(asked: u64, held: u64, returned: u64, before: Memory, after: Memory) -> Evidence {
    let dropped = before.available.saturating_sub(after.available);
    let given_back = match returned {
        0 => String::new(),
        bytes => format!(", {} given back to keep the reserve", roughly(bytes)),
    };
    let numbers = [
        ("asked_bytes", asked),
        ("held_bytes", held),
        ("given_back_bytes", returned),
        ("available_before_bytes", before.available),
        ("available_after_bytes", after.available),
        ("resident_bytes", resident()),
    ];
    Evidence {
        what: "memory available".to_owned(),
        before: format!("{} of {}", roughly(before.available), roughly(before.whole)),
        after: format!("{} ({} occupied{given_back})", roughly(after.available), roughly(held)),
        // Half of it must show. On a busy host others give back as much meanwhile: then it shows in what this process keeps in
        // memory and nobody else can have. Giving back means that the pressure was felt.
        bites: Some(returned > 0 || dropped.max(resident()) >= held / 2),
        numbers: numbers.into_iter().map(|(key, value)| (key.to_owned(), value as f64)).collect(),
    }
}

struct Hoard {
    chunks: Vec<(NonNull<libc::c_void>, usize)>,
    noise: Vec<u8>,
    pages: u64,
}

impl Hoard {
    fn new() -> Hoard {
        let mut noise = vec![0_u8; PAGE];
        ChaCha8Rng::seed_from_u64(u64::from(std::process::id())).fill_bytes(&mut noise);
        Hoard { chunks: Vec::new(), noise, pages: 0 }
    }

    fn bytes(&self) -> u64 {
        self.chunks.iter().map(|(_, size)| *size as u64).sum()
    }

    /// A chunk more on the way to `goal`. False: it is reached, or the reserve is. Others grow, too, so what was resolved before
    /// does not count: the reserve is theirs.
    fn grow_once(&mut self, goal: u64, reserve: u64, available: u64) -> anyhow::Result<bool> {
        let chunk = (goal.saturating_sub(self.bytes())).min(CHUNK);
        let room = chunk > 0 && available >= reserve.saturating_add(chunk);
        if room {
            self.take(chunk)?;
        }
        Ok(room)
    }

    /// False: there is no need to, or nothing left.
    fn give_back_once(&mut self, reserve: u64, available: u64) -> bool {
        if available >= reserve {
            return false;
        }
        let Some((address, size)) = self.chunks.pop() else { return false };
        // SAFETY: mapped by `take`, known to nobody else, and forgotten here.
        let _ = unsafe { munmap(address, size) };
        true
    }

    fn take(&mut self, bytes: u64) -> anyhow::Result<()> {
        let size = (bytes as usize).next_multiple_of(PAGE);
        crash::point("occupying");
        let address = map(size)?;
        self.chunks.push((address, size));
        // SAFETY: `size` bytes are mapped there, writable, and nobody else knows of them.
        let memory = unsafe { std::slice::from_raw_parts_mut(address.cast::<u8>().as_ptr(), size) };
        for page in memory.chunks_exact_mut(PAGE) {
            page.copy_from_slice(&self.noise);
            // No two pages alike, so that nothing can merge them; noise, so that zram cannot squeeze them.
            page[..8].copy_from_slice(&self.pages.to_ne_bytes());
            self.pages += 1;
        }
        // Held in memory and not in swap, where this is allowed (mlock(2): CAP_IPC_LOCK or the limit); the fault bites without, too.
        // SAFETY: the mapping above.
        let _ = unsafe { mlock(address, size) };
        crash::point("occupied");
        Ok(())
    }
}

/// `size` bytes, a multiple of a page: huge pages for whole ones of them, which are filled several times as fast, small ones for the
/// rest, so that what is touched is what is taken.
fn map(size: usize) -> anyhow::Result<NonNull<libc::c_void>> {
    const HUGE: usize = 2 << 20;
    let whole = NonZeroUsize::new(size + HUGE).ok_or_else(|| anyhow::anyhow!("a chunk of no size"))?;
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new mapping of our own.
    let start = unsafe { mmap_anonymous(None, whole, protection, MapFlags::MAP_PRIVATE) }?;
    let before = (HUGE - start.addr().get() % HUGE) % HUGE;
    // SAFETY: cuts off both ends of the mapping above, so that it begins where a huge page can and ends with its size.
    let address = unsafe {
        let address = start.byte_add(before);
        if before > 0 {
            munmap(start, before)?;
        }
        munmap(address.byte_add(size), HUGE - before)?;
        address
    };
    // SAFETY: what is left of it. A kernel without huge pages uses small ones.
    let _ = unsafe { madvise(address, size, MmapAdvise::MADV_HUGEPAGE) };
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_ends_the_growth_and_takes_memory_back() {
        let mut hoard = Hoard::new();
        let (goal, reserve) = (3 * CHUNK, 100 * CHUNK);
        assert!(hoard.grow_once(goal, reserve, 102 * CHUNK).unwrap());
        assert!(hoard.grow_once(goal, reserve, 101 * CHUNK).unwrap());
        assert!(!hoard.grow_once(goal, reserve, 101 * CHUNK - 1).unwrap());
        assert_eq!(hoard.bytes(), 2 * CHUNK);
        assert!(hoard.grow_once(goal, reserve, 200 * CHUNK).unwrap());
        assert!(!hoard.grow_once(goal, reserve, 200 * CHUNK).unwrap(), "the goal is reached");
        assert!(!hoard.give_back_once(reserve, 100 * CHUNK));
        assert!(hoard.give_back_once(reserve, 100 * CHUNK - 1));
        assert_eq!(hoard.bytes(), 2 * CHUNK);
        while hoard.give_back_once(reserve, 0) {}
        assert_eq!(hoard.bytes(), 0);
    }
}
