//! Where the programs under test are, and that they are the ones of these sources.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// The project's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is inside the project").to_path_buf()
}

/// Directory of the built programs: that of this one, or its parent for a test program (`target/debug/deps`).
pub fn built() -> PathBuf {
    let here = std::env::current_exe().expect("this program's own path is readable");
    let directory = here.parent().expect("a program is in a directory");
    match directory.ends_with("deps") || directory.ends_with("examples") {
        true => directory.parent().expect("deps is inside the profile's directory").to_path_buf(),
        false => directory.to_path_buf(),
    }
}

/// A program of this workspace. The first call builds them all if one is missing or older than the sources:
/// `cargo test -p squall-tests` alone would measure yesterday's daemon.
pub fn program(name: &str) -> PathBuf {
    static FRESH: OnceLock<()> = OnceLock::new();
    FRESH.get_or_init(|| {
        // In the guest there are no sources: what was brought along is what there is.
        if !root().join("Cargo.toml").is_file() {
            return;
        }
        // What is compiled into each, and nothing else: tests beside the sources do not make a program old.
        let parts: [(&str, &[&str]); 3] = [
            ("squalld", &["daemon/src", "experiments/src"]),
            ("squall", &["cli/src", "experiments/src"]),
            ("squall-shop", &["tests/shop/src"]),
        ];
        let is_old = |(name, parts): &(&str, &[&str])| {
            let built_at = built().join(name).metadata().and_then(|meta| meta.modified()).ok();
            built_at < parts.iter().map(|part| newest_below(&root().join(part))).max()
        };
        if parts.iter().any(is_old) {
            let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            cargo.args(["build", "--quiet", "--workspace", "--bins"]).current_dir(root());
            if built().ends_with("release") {
                cargo.arg("--release");
            }
            let status = cargo.status().expect("cargo can be started");
            assert!(status.success(), "the programs under test do not build");
        }
    });
    let path = built().join(name);
    assert!(path.is_file(), "{} is not built: run `cargo build --workspace`", path.display());
    path
}

fn newest_below(directory: &Path) -> SystemTime {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let times = entries.filter_map(|entry| {
        let path = entry.path();
        match path.is_dir() {
            true => Some(newest_below(&path)),
            false => entry.metadata().ok()?.modified().ok(),
        }
    });
    times.max().unwrap_or(SystemTime::UNIX_EPOCH)
}
