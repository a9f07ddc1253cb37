//! The guest's root filesystem: a cpio archive that the kernel unpacks into memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::kernel::Kernel;
use super::systemd::Systemd;
use super::{output, which};

/// What a guest holds besides busybox.
#[derive(Debug, Default, Clone)]
pub struct Content {
    /// Programs found on PATH; their libraries come along.
    pub programs: Vec<String>,
    /// Files of this machine, put at the same absolute path; libraries come along where they are programs.
    pub files: Vec<PathBuf>,
    /// Kernel modules by name; what they depend on comes along. All are loaded before the script runs.
    pub modules: Vec<String>,
    /// The script is a service of systemd's, which is the first process.
    pub systemd: Option<Systemd>,
}

/// With the users that the package makes.
const PASSWD: &str = "root:x:0:0:root:/:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
squall:x:901:901::/nonexistent:/bin/false
squall-coordinator:x:902:902::/nonexistent:/bin/false
";
const GROUP: &str = "root:x:0:
nogroup:x:65534:
squall:x:901:
squall-coordinator:x:902:
";

pub fn build(cache: &Path, kernel: &Kernel, content: &Content, script: &str) -> anyhow::Result<PathBuf> {
    let root = cache.join("root");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    for directory in [
        "bin",
        "usr/bin",
        "usr/sbin",
        "proc",
        "sys",
        "dev",
        "tmp",
        "run",
        "etc",
        "var/lib",
        "var/log",
        "var/tmp",
        "var/cache",
    ] {
        fs::create_dir_all(root.join(directory))?;
    }
    // A host of a lab puts its own over the first two.
    for (file, content) in [
        ("hosts", "127.0.0.1 localhost\n"),
        ("resolv.conf", ""),
        ("nsswitch.conf", "hosts: files\npasswd: files\ngroup: files\n"),
        ("passwd", PASSWD),
        ("group", GROUP),
    ] {
        fs::write(root.join("etc").join(file), content)?;
    }
    fs::copy(which("busybox").context("no busybox")?, root.join("bin/busybox"))?;
    for module in modules_with_dependencies(kernel, &content.modules)? {
        place(&kernel.modules.join(&module), &root.join("lib/modules").join(&kernel.release).join(&module))?;
    }
    for index in fs::read_dir(&kernel.modules)? {
        let index = index?.path();
        if index.is_file() {
            let name = index.file_name().unwrap_or_default().to_owned();
            place(&index, &root.join("lib/modules").join(&kernel.release).join(name))?;
        }
    }
    for program in &content.programs {
        let found = which(program).with_context(|| format!("no {program} on PATH"))?;
        with_libraries(&root, &found)?;
    }
    for file in &content.files {
        with_libraries(&root, file)?;
        // The guest's memory holds all of it: what only a debugger reads stays outside. Without strip it is just larger.
        let _ = Command::new("strip").arg("--strip-debug").arg(inside(&root, file)).status();
    }
    let init = root.join("init");
    let runs = match &content.systemd {
        Some(systemd) => systemd.place(&root, script)?,
        None => keeper(script),
    };
    fs::write(&init, init_script(&content.modules, &runs))?;
    executable(&init)?;
    pack(&root, &cache.join("initramfs.cpio"))
}

/// Real programs are found on PATH before busybox's of the same name. `runs` is what comes after everything is mounted and loaded.
fn init_script(modules: &[String], runs: &str) -> String {
    format!(
        "#!/bin/busybox sh\n\
         export PATH=/usr/sbin:/usr/bin:/sbin:/bin\n\
         /bin/busybox --install -s /bin\n\
         mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mkdir -p /dev/shm\n\
         mount -t tmpfs run /run; mount -t cgroup2 cgroup /sys/fs/cgroup\n\
         for module in {}; do modprobe $module || echo \"module $module is not to be had\"; done\n\
         ip link set lo up\n\
         {runs}",
        modules.join(" ")
    )
}

/// The first process does what no program may do that could also run elsewhere: it ends the machine, orderly or not, when
/// [`super::inside`] asks for it.
fn keeper(script: &str) -> String {
    let (reset, reboot) = (super::inside::RESET, super::inside::REBOOT);
    format!(
        "(\n{script}\n) &\n\
         script=$!\n\
         while kill -0 $script 2>/dev/null; do\n\
           [ -e {reset} ] && echo b > /proc/sysrq-trigger\n\
           if [ -e {reboot} ]; then\n\
             kill -TERM -1; sleep 1; kill -KILL -1; sync; umount -a -r 2>/dev/null; reboot -f\n\
           fi\n\
           sleep 0.1\n\
         done\n\
         wait $script\n\
         echo GUEST-EXIT $?\n\
         reboot -f\n"
    )
}

fn modules_with_dependencies(kernel: &Kernel, names: &[String]) -> anyhow::Result<BTreeSet<String>> {
    let text = fs::read_to_string(kernel.modules.join("modules.dep"))?;
    let needs: BTreeMap<&str, Vec<&str>> = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(file, deps)| (file, deps.split_whitespace().collect()))
        .collect();
    let file_of = |name: &str| {
        let wanted = name.replace('-', "_") + ".ko";
        needs.keys().copied().find(|file| file.rsplit('/').next().is_some_and(|file| file.replace('-', "_") == wanted))
    };
    let mut found = BTreeSet::new();
    // Not found: built into this kernel, or modprobe will say so in the guest.
    let mut todo: Vec<&str> = names.iter().filter_map(|name| file_of(name)).collect();
    while let Some(file) = todo.pop() {
        if found.insert(file.to_owned()) {
            todo.extend(needs.get(file).into_iter().flatten());
        }
    }
    Ok(found)
}

fn with_libraries(root: &Path, file: &Path) -> anyhow::Result<()> {
    with_libraries_from(Path::new("/"), root, file)
}

/// `file` is below `packages`; so are libraries, where they are there.
pub(super) fn with_libraries_from(packages: &Path, root: &Path, file: &Path) -> anyhow::Result<()> {
    let found = inside(packages, file);
    place(&found, &inside(root, file))?;
    let mut ldd = Command::new("ldd");
    ldd.arg(&found);
    if packages != Path::new("/") {
        let own = ["usr/lib/x86_64-linux-gnu/systemd", "usr/lib/x86_64-linux-gnu"].map(|path| packages.join(path));
        ldd.env("LD_LIBRARY_PATH", std::env::join_paths(own)?);
    }
    // ldd fails for scripts, data and static programs: they need nothing.
    let libraries = output(&mut ldd).unwrap_or_default();
    for library in libraries.split_whitespace().filter(|word| word.starts_with('/')).map(Path::new) {
        place(library, &inside(root, library.strip_prefix(packages).unwrap_or(library)))?;
    }
    Ok(())
}

fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn place(from: &Path, to: &Path) -> anyhow::Result<()> {
    if !to.exists() {
        fs::create_dir_all(to.parent().context("no parent")?)?;
        fs::copy(from, to).with_context(|| format!("{} cannot be copied", from.display()))?;
    }
    Ok(())
}

fn executable(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

fn pack(root: &Path, archive: &Path) -> anyhow::Result<PathBuf> {
    let names = output(Command::new("find").arg(".").current_dir(root))?;
    let list = archive.with_extension("list");
    fs::write(&list, names)?;
    let packed = Command::new("cpio")
        .args(["--quiet", "-o", "-H", "newc", "-O"])
        .arg(archive)
        .stdin(fs::File::open(&list)?)
        .current_dir(root)
        .status()?;
    anyhow::ensure!(packed.success(), "cpio failed");
    Ok(archive.to_owned())
}
