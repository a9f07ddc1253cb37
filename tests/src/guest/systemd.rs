//! systemd as a guest's first process, from Debian's packages: this machine's own, which runs nowhere here, or a newer one from Debian's
//! backports, unpacked and never installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::initramfs::with_libraries_from;
use super::output;

const PROGRAM: &str = "/lib/systemd/systemd";
/// Besides it; what this version does not have yet is left out. `systemd-executor` starts services from version 255 on.
const PROGRAMS: [&str; 5] = [
    "/lib/systemd/systemd-executor",
    "/lib/systemd/systemd-journald",
    "/lib/systemd/systemd-shutdown",
    "/usr/bin/systemctl",
    "/bin/systemctl",
];
const PACKAGES: [&str; 2] = ["systemd", "libsystemd-shared"];
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const UNITS: &str = "/lib/systemd/system";
/// Where the suites' script is, and its unit.
const SCRIPT: &str = "suites.sh";
const UNIT: &str = "suites.service";
/// The first with `DelegateSubgroup=`.
pub const WITH_SUBGROUPS: u32 = 254;

/// Where its files are: below `/`, or where packages were unpacked.
#[derive(Debug, Clone)]
pub struct Systemd(PathBuf);

/// The newer one of the two; why there is none, else.
pub fn find(cache: &Path) -> Result<Systemd, String> {
    let own = Systemd(PathBuf::from("/"));
    if version().is_some_and(|version| version >= WITH_SUBGROUPS) {
        return Ok(own);
    }
    match fetch(&cache.join("systemd-backports")) {
        Ok(root) => Ok(Systemd(root)),
        Err(_) if own.at(PROGRAM).is_file() => Ok(own),
        Err(error) => Err(format!("no systemd for a guest: {error:#}; install Debian's systemd")),
    }
}

/// Of this machine's: its number, as `systemctl --version` begins. None: there is none, or it says nothing.
pub fn version() -> Option<u32> {
    let said = output(Command::new("systemctl").arg("--version")).ok()?;
    said.split_whitespace().nth(1)?.parse().ok()
}

/// Lists and packages of the backports of this machine's Debian, from where apt gets the others; the machine's own lists stay as they are.
fn fetch(directory: &Path) -> anyhow::Result<PathBuf> {
    let (root, whole) = (directory.join("root"), directory.join("whole"));
    if whole.is_file() {
        return Ok(root);
    }
    let known = output(Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI) $(CODENAME)"]))?;
    let plain = |line: &&str| !line.contains('-');
    let (site, name) =
        known.lines().find(plain).and_then(|line| line.split_once(' ')).context("apt knows no archive of Debian's")?;
    let (lists, files) = (directory.join("lists"), directory.join("cache"));
    fs::create_dir_all(lists.join("partial"))?;
    fs::create_dir_all(&files)?;
    let sources = directory.join("sources.list");
    fs::write(&sources, format!("deb [signed-by={KEYS}] {site} {name}-backports main\n"))?;
    let apt = |arguments: &[String]| {
        let option = |name: &str, value: &Path| ["-o".to_owned(), format!("{name}={}", value.display())];
        let mut command = Command::new("apt-get");
        command.current_dir(directory).arg("-q").args(option("Dir::Etc::sourcelist", &sources));
        command.args(option("Dir::Etc::sourceparts", Path::new("-"))).args(option("Dir::State::lists", &lists));
        output(command.args(option("Dir::Cache", &files)).args(arguments))
    };
    apt(&["update".to_owned()])?;
    let wanted = PACKAGES.map(|package| format!("{package}/{name}-backports"));
    apt(&[&["download".to_owned()], &wanted[..]].concat())?;
    for archive in fs::read_dir(directory)?.flatten().map(|entry| entry.path()) {
        if archive.extension().is_some_and(|extension| extension == "deb") {
            output(Command::new("dpkg").arg("-x").arg(&archive).arg(&root))?;
            fs::remove_file(&archive)?;
        }
    }
    fs::write(whole, "")?;
    Ok(root)
}

impl Systemd {
    fn at(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    /// Puts it below `root` with the targets of Debian's, and `script` as what the machine is started for. Gives the line with which a
    /// first process becomes systemd.
    pub(super) fn place(&self, root: &Path, script: &str) -> anyhow::Result<String> {
        for program in std::iter::once(PROGRAM).chain(PROGRAMS).filter(|program| self.at(program).is_file()) {
            with_libraries_from(&self.0, root, Path::new(program))?;
        }
        let units = root.join(UNITS.trim_start_matches('/'));
        fs::create_dir_all(&units)?;
        for unit in fs::read_dir(self.at(UNITS)).context(UNITS)?.flatten() {
            let name = unit.file_name().to_string_lossy().into_owned();
            let wanted = name.ends_with(".target") || name.ends_with(".slice") || name.contains("journald");
            // A link may lead to what no package here has.
            if wanted && unit.path().is_file() {
                fs::copy(unit.path(), units.join(&name))?;
            }
        }
        let own = root.join("etc/systemd/system");
        fs::create_dir_all(&own)?;
        for (file, content) in [
            // What services say is on the console, where a person looks after a failure.
            (own.join("../journald.conf"), "[Journal]\nStorage=volatile\nForwardToConsole=yes\n".to_owned()),
            (own.join("default.target"), format!("[Unit]\nWants={UNIT} systemd-journald.service\n")),
            (own.join(UNIT), unit()),
            (root.join("etc/machine-id"), "5c7c1d0f6f1b4f7f8d1f5b1f0d5e9a11\n".to_owned()),
            (root.join(SCRIPT), format!("(\n{script}\n)\ncode=$?\necho\necho GUEST-EXIT $code\nreboot -f\n")),
        ] {
            fs::write(&file, content).with_context(|| file.display().to_string())?;
        }
        Ok(format!("exec {PROGRAM} --log-target=journal --show-status=no\n"))
    }
}

fn unit() -> String {
    format!(
        "[Unit]\nDescription=Suites of the guest\nAfter=systemd-journald.service\n[Service]\nType=exec\n\
         Environment=PATH=/usr/sbin:/usr/bin:/sbin:/bin\nExecStart=/bin/busybox sh /{SCRIPT}\n\
         StandardOutput=tty\nStandardError=tty\nTTYPath=/dev/console\n"
    )
}
