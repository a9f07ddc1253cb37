//! A cgroup of a host's own, on a machine with version 1, whose other hierarchies are everybody's.

use std::path::PathBuf;
use std::time::Duration;

use crate::lab::{Host, wait_until};
use crate::skip::skip;

/// A hierarchy without controllers that no other program uses, mounted in the host alone, with a process of the host in it.
pub struct Cgroup<'lab> {
    host: &'lab Host,
    at: PathBuf,
    hierarchy: &'static str,
    group: String,
}

const MOUNTED: &str = "/run/cgroup";

impl<'lab> Cgroup<'lab> {
    /// `hierarchy`: a name that no other test uses. `group`: a path in it. `pid` is the host's number.
    pub fn make(host: &'lab Host, hierarchy: &'static str, group: &str, pid: i32) -> Result<Cgroup<'lab>, String> {
        std::fs::create_dir_all(host.path(MOUNTED)).map_err(|error| error.to_string())?;
        let cgroup = Cgroup { host, at: host.path(MOUNTED), hierarchy, group: group.to_owned() };
        if let Err(why) = cgroup.mount() {
            // Nothing is there to be tidied up.
            std::mem::forget(cgroup);
            return Err(format!("no hierarchy of its own can be mounted: {why}"));
        }
        std::fs::create_dir_all(cgroup.at.join(group)).map_err(|error| error.to_string())?;
        match cgroup.put(group, &pid.to_string()) {
            true => Ok(cgroup),
            false => Err("a process cannot be moved there".to_owned()),
        }
    }

    fn mount(&self) -> Result<(), String> {
        let options = format!("none,name={}", self.hierarchy);
        let mounted = self.host.run("mount", &["-t", "cgroup", "-o", &options, "cgroup", MOUNTED]);
        if mounted.ok() { Ok(()) } else { Err(mounted.stderr.trim().to_owned()) }
    }

    /// With the host's own tools: pids are the host's.
    fn put(&self, group: &str, pid: &str) -> bool {
        self.host.write("/tmp/pid", pid);
        let file = format!("{MOUNTED}/{group}/cgroup.procs");
        self.host.run("dd", &["if=/tmp/pid", &format!("of={file}"), "conv=notrunc", "status=none"]).ok()
    }

    fn members(&self) -> String {
        self.host.run("cat", &[&format!("{MOUNTED}/{}/cgroup.procs", self.group)]).stdout
    }

    /// Who is in it, and the directories of the hierarchy.
    pub fn text(&self) -> String {
        let members = self.members();
        let tree = self.host.run("find", &[MOUNTED, "-type", "d"]);
        format!("== cgroup\n{}\n{}", members, tree.stdout)
    }
}

impl Drop for Cgroup<'_> {
    /// A hierarchy outlives its mount while it has groups: they go first, and the process before them.
    fn drop(&mut self) {
        for pid in self.members().lines() {
            self.put(".", pid);
        }
        let mut group = Some(PathBuf::from(&self.group));
        while let Some(path) = group.filter(|path| path.file_name().is_some()) {
            let _ = std::fs::remove_dir(self.at.join(&path));
            group = path.parent().map(PathBuf::from);
        }
        // A hierarchy ends with its mount only if it has no groups, and groups that were removed are freed a moment later; so is it.
        let named = format!("name={}", self.hierarchy);
        let gone = || !std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default().contains(&named);
        for _ in 0..10 {
            std::thread::sleep(Duration::from_millis(100));
            self.host.run("umount", &[MOUNTED]);
            if wait_until(Duration::from_millis(500), gone) {
                return;
            }
            let _ = self.mount();
        }
        self.host.run("umount", &[MOUNTED]);
        skip(&format!("{named} (its tidying up)"), "the hierarchy stays: mount it again and unmount it");
    }
}
