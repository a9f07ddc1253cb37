//! How a test says that it cannot run here.

use std::io::Write as _;

/// Prints why, past the test harness's capture. The caller must end the test then.
pub fn skip(test: &str, why: &str) {
    let line = format!("SKIPPED {test}: {why}\n");
    // The list is what `make test` counts.
    let list = std::env::var_os("SQUALL_SKIPPED").unwrap_or_default();
    for file in ["/dev/stderr".as_ref(), &*list] {
        let open = std::fs::OpenOptions::new().create(true).append(true).open(file);
        let _ = open.and_then(|mut file| file.write_all(line.as_bytes()));
    }
}
