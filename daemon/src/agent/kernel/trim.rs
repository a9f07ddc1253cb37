//! Gives back memory that only mirrors the program's file, for a process that will sleep for long.

use std::fs;

/// Drops the pages of private, read-only, never written mappings of files (code and constants) from this process. They are read
/// again from the page cache when they are touched (madvise(2), MADV_DONTNEED), so this costs a few page faults and nothing else.
pub fn drop_clean_pages() {
    let Ok(maps) = fs::read_to_string("/proc/self/smaps") else { return };
    for (start, end) in clean_mappings(&maps) {
        // SAFETY: no page of this mapping was ever written (Anonymous is 0), so each will be read again with the same content.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
    }
}

/// Ranges of `/proc/PID/smaps` (proc_pid_smaps(5)) that a file backs, nobody may write, and nobody has written. Relocated data that
/// was made read-only afterwards has anonymous pages and is left alone.
fn clean_mappings(smaps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut current = None;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(first), second) = (words.next(), words.next()) else { continue };
        if first == "Anonymous:" {
            found.extend(current.take().filter(|_| second == Some("0")));
        } else if let Some((start, end)) = first.split_once('-') {
            let range = usize::from_str_radix(start, 16).ok().zip(usize::from_str_radix(end, 16).ok());
            let private_and_read_only =
                second.is_some_and(|mode| mode.starts_with('r') && mode[1..].starts_with('-') && mode.ends_with('p'));
            // Offset, device, inode, path: without a path it is no file's.
            let of_a_file = words.nth(3).is_some_and(|path| path.starts_with('/'));
            current = range.filter(|_| private_and_read_only && of_a_file);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mappings_of_files_that_nobody_wrote_are_dropped() {
        let smaps = "\
1000-2000 r-xp 00000000 fe:00 77 /usr/bin/squalld\nRss: 4 kB\nAnonymous:             0 kB\n\
2000-3000 r--p 00001000 fe:00 77 /usr/bin/squalld\nAnonymous:             8 kB\n\
3000-4000 rw-p 00002000 fe:00 77 /usr/bin/squalld\nAnonymous:             0 kB\n\
5000-6000 r--p 00000000 00:00 0\nAnonymous:             0 kB\n\
7000-8000 r--s 00000000 fe:00 78 /shared\nAnonymous:             0 kB\n\
9000-a000 r--p 00000000 00:00 0 [vvar]\nAnonymous:             0 kB\n";
        assert_eq!(clean_mappings(smaps), [(0x1000, 0x2000)]);
    }

    #[test]
    fn a_program_goes_on_after_it_dropped_its_own_code() {
        let before = std::collections::HashMap::from([("a", 1)]);
        drop_clean_pages();
        assert_eq!(format!("{:?} {before:?}", f64::sqrt(2.0)), "1.4142135623730951 {\"a\": 1}");
    }
}
