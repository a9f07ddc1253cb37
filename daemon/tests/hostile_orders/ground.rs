//! Directories and links on one or two filesystems of the test's own, and where each path really leads, known because it was built so.

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use nix::sys::statvfs::statvfs;
use tempfile::TempDir;

/// Disk and parts below the disk's own top directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub disk: usize,
    pub parts: &'static [&'static str],
}

pub struct Ground {
    /// The second one on another filesystem, where there is one.
    tops: Vec<TempDir>,
    pub sizes: Vec<u64>,
    pub memory: u64,
}

/// As an order may write it, below a disk's top, and where that leads; None: nobody can say.
const PATHS: [(&str, Option<&[&str]>); 17] = [
    ("good", Some(&["good"])),
    ("good/", Some(&["good"])),
    ("good/sub", Some(&["good", "sub"])),
    ("good//./sub/.", Some(&["good", "sub"])),
    ("bad", Some(&["bad"])),
    ("good/../bad", Some(&["bad"])),
    ("good/sub/../../bad", Some(&["bad"])),
    ("good/link", Some(&["bad"])),
    ("good/link/../good", Some(&["good"])),
    ("good/link/new", Some(&["bad", "new"])),
    ("good/chain", Some(&["bad"])),
    ("good/new", Some(&["good", "new"])),
    ("good/new/newer", Some(&["good", "new", "newer"])),
    ("goodness", Some(&["goodness"])),
    ("good/new/../../bad", None),
    ("good/dangling", None),
    ("good/loop", None),
];

/// Directories of the machine's own, which are only looked at, and what is none.
pub const ELSEWHERE: [&str; 5] = ["/", "/proc", "/etc", "//", "/dev/shm/.."];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leads {
    Here(Place),
    /// Outside of all that policies name; on this disk, if it is one of ours.
    Elsewhere(Option<usize>),
    /// Nobody can say.
    Unclear,
}

fn device(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().dev()
}

impl Ground {
    pub fn new() -> Ground {
        let mut tops = vec![TempDir::new().unwrap()];
        if let Ok(other) = TempDir::new_in("/dev/shm")
            && device(other.path()) != device(tops[0].path())
        {
            tops.push(other);
        }
        for top in &tops {
            let top = top.path();
            for directory in ["good/sub", "bad", "goodness"] {
                std::fs::create_dir_all(top.join(directory)).unwrap();
            }
            symlink(top.join("bad"), top.join("good/link")).unwrap();
            symlink("link", top.join("good/chain")).unwrap();
            symlink("../bad/nothing", top.join("good/dangling")).unwrap();
            symlink("loop", top.join("good/loop")).unwrap();
        }
        let size = |top: &TempDir| {
            let stat = statvfs(top.path()).unwrap();
            stat.blocks() as u64 * stat.fragment_size() as u64
        };
        let sizes = tops.iter().map(size).collect();
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap();
        let memory = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.strip_suffix("kB")).unwrap();
        Ground { tops, sizes, memory: memory.trim().parse::<u64>().unwrap() * 1024 }
    }

    pub fn disks(&self) -> usize {
        self.tops.len()
    }

    /// What policies name.
    pub fn rules(&self) -> Vec<Place> {
        let parts: [&[&str]; 4] = [&["good"], &["bad"], &["good", "sub"], &["not-there"]];
        (0..self.disks()).flat_map(|disk| parts.map(|parts| Place { disk, parts })).collect()
    }

    pub fn path(&self, place: Place) -> String {
        place
            .parts
            .iter()
            .fold(self.tops[place.disk].path().to_owned(), |path, part| path.join(part))
            .display()
            .to_string()
    }

    /// One of the paths that orders name.
    pub fn asked(&self, disk: usize, index: usize) -> String {
        format!("{}/{}", self.tops[disk].path().display(), PATHS[index % PATHS.len()].0)
    }

    /// None: it is not known here.
    pub fn leads(&self, asked: &str) -> Option<Leads> {
        if ELSEWHERE.contains(&asked) {
            let at = device(Path::new(asked));
            return Some(Leads::Elsewhere((0..self.disks()).find(|disk| device(self.tops[*disk].path()) == at)));
        }
        (0..self.disks()).find_map(|disk| {
            let below = asked.strip_prefix(&format!("{}/", self.tops[disk].path().display()))?;
            let (_, parts) = PATHS.iter().find(|(path, _)| *path == below)?;
            Some(parts.map_or(Leads::Unclear, |parts| Leads::Here(Place { disk, parts })))
        })
    }
}
