//! Debian's kernel, unpacked and never installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::{output, which};

pub struct Kernel {
    pub release: String,
    pub image: PathBuf,
    /// `lib/modules/<release>`, with `modules.dep`.
    pub modules: PathBuf,
}

/// The newest one that the package lists name; from the cache if it is there.
pub fn fetch(cache: &Path) -> anyhow::Result<Kernel> {
    let depends = output(Command::new("apt-cache").args(["depends", "linux-image-amd64"]))?;
    let package = depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: ").filter(|name| name.starts_with("linux-image-")))
        .context("the package lists name no kernel: run apt-get update")?;
    let release = package.trim_start_matches("linux-image-").to_owned();
    let root = cache.join(package);
    let kernel = Kernel {
        image: root.join(format!("boot/vmlinuz-{release}")),
        modules: root.join(format!("lib/modules/{release}")),
        release,
    };
    // modules.dep is written last: with it the cache is whole.
    if !kernel.modules.join("modules.dep").is_file() {
        let download = cache.join("download");
        std::fs::create_dir_all(&download)?;
        output(Command::new("apt-get").args(["-q", "download", package]).current_dir(&download))?;
        let archive = std::fs::read_dir(&download)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(package)))
            .context("the kernel's package did not arrive")?;
        output(Command::new("dpkg").arg("-x").arg(&archive).arg(&root))?;
        std::fs::remove_file(&archive)?;
        let depmod = which("depmod").context("depmod is gone")?;
        output(Command::new(depmod).arg("-b").arg(&root).arg(&kernel.release))?;
    }
    Ok(kernel)
}
