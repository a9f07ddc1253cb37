//! Containers by their names, from what their runtimes leave on disk: nobody's socket is asked, and no runtime needs to answer.
//!
//! | runtime | file | name |
//! |---|---|---|
//! | Docker | `/var/lib/docker/containers/ID/config.v2.json` (or below `data-root` of `/etc/docker/daemon.json`) | `Name` |
//! | Podman | `/var/lib/containers/storage/DRIVER-containers/containers.json`, `volatile-containers.json` | `names` |
//! | nerdctl | `/var/lib/nerdctl/ADDRESS/names/NAMESPACE/NAME` | the file's |
//! | containerd for Kubernetes | `/run/containerd/io.containerd.runtime.v2.task/k8s.io/ID/config.json`, also below `/run/k3s` | annotations; `POD/CONTAINER`, too |
//!
//! From an id on it is the kernel that says who is in it: the id is a part of the cgroup's path, or, for a container without a cgroup of its
//! own, of the place from which its runtime mounted its names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::agent::effects::Refusal;
use crate::agent::kernel::procfs;

/// Of an id in hexadecimal: what `docker ps` shows. A shorter text is a name.
pub const SHORT_ID: usize = 12;
/// As runtimes write an id into the path of a cgroup.
const ID: usize = 64;
/// A larger file is none of a runtime.
const LARGEST: u64 = 8 << 20;
const TASKS: [&str; 2] = ["run/containerd", "run/k3s/containerd"];
const TASK_OF_KUBERNETES: &str = "io.containerd.runtime.v2.task/k8s.io";

#[derive(Debug, Clone, PartialEq, Eq)]
struct Container {
    runtime: &'static str,
    id: String,
    names: Vec<String>,
}

/// What is known of containers on a host.
#[derive(Debug, Default)]
pub struct Containers {
    /// Those of which there is something on disk.
    pub runtimes: BTreeSet<&'static str>,
    known: Vec<Container>,
    /// Why something cannot be read.
    unreadable: Vec<String>,
}

/// Ids whose processes are meant; or why there are none, which is an answer when processes are counted.
pub type Meant = Result<BTreeSet<String>, String>;

impl Containers {
    /// Of this host. Where the agent is in a container itself and sees the host's processes, the host's files are those of process 1.
    pub fn here() -> Containers {
        let of_the_first = Path::new("/proc/1/root");
        match of_the_first.join("proc").exists() {
            true => Containers::below(of_the_first),
            false => Containers::below(Path::new("/")),
        }
    }

    /// `root` is the host's `/`.
    pub fn below(root: &Path) -> Containers {
        let mut all = Containers::default();
        all.docker(root);
        all.podman(root);
        all.nerdctl(root);
        all.kubernetes(root);
        all
    }

    /// How many of which: `docker (3), podman (none)`.
    pub fn told(&self) -> String {
        let count = |runtime: &&&str| self.known.iter().filter(|of| of.runtime == **runtime).count();
        let each = self.runtimes.iter().map(|runtime| match count(&runtime) {
            0 => format!("{runtime} (none)"),
            some => format!("{runtime} ({some})"),
        });
        each.collect::<Vec<_>>().join(", ")
    }

    /// None: everything that there is could be read.
    pub fn unreadable(&self) -> Option<&str> {
        self.unreadable.first().map(String::as_str)
    }

    /// A name; `POD/CONTAINER`; or the first 12 or more digits of an id. `running`: ids that have processes now.
    pub fn meant(&self, said: &str, running: &BTreeSet<String>) -> Result<Meant, Refusal> {
        let is_name = |container: &&Container| container.names.iter().any(|name| name == said);
        let named: Vec<&Container> = self.known.iter().filter(is_name).collect();
        // One that is stopped has a name, too, and no process.
        let alive = named.iter().filter(|of| running.contains(&of.id)).map(|of| (of.id.as_str(), *of));
        // One may be written down twice.
        let alive: Vec<&Container> = alive.collect::<BTreeMap<_, _>>().into_values().collect();
        match (alive.as_slice(), named.first()) {
            ([one], _) => return Ok(Ok([one.id.clone()].into())),
            ([], Some(stopped)) => {
                let what =
                    format!("the container `{said}` of {} ({}) is not running", stopped.runtime, short(&stopped.id));
                return Ok(Err(what));
            }
            ([], None) => {}
            (several, _) => {
                let each =
                    several.iter().map(|of| format!("{} of {} ({})", of.longest_name(), of.runtime, short(&of.id)));
                return Err(Refusal(format!(
                    "container: `{said}` means {} containers: {} (give POD/CONTAINER, or the first {SHORT_ID} digits of an id)",
                    several.len(),
                    each.collect::<Vec<_>>().join(", ")
                )));
            }
        }
        if is_id(said) {
            let known = self.known.iter().map(|of| &of.id);
            let ids: BTreeSet<&String> = running.iter().chain(known).filter(|id| id.starts_with(said)).collect();
            return match ids.iter().copied().collect::<Vec<_>>().as_slice() {
                [] => Ok(Err(format!("no container has an id that begins with {said}"))),
                [one] if running.contains(*one) => Ok(Ok([(*one).clone()].into())),
                [one] => Ok(Err(format!("the container {} is not running", short(one)))),
                several => Err(Refusal(format!("container: {} ids begin with {said}: give more of it", several.len()))),
            };
        }
        if let Some(why) = self.unreadable.first() {
            return Err(Refusal(format!("container: `{said}` cannot be looked up: {why}")));
        }
        if self.runtimes.is_empty() {
            return Err(Refusal(format!(
                "container: `{said}` cannot be looked up: there is nothing of Docker, Podman, nerdctl or Kubernetes' containerd on this \
                 host (its processes are found by port, command or cgroup, or by the first {SHORT_ID} digits of the container's id)"
            )));
        }
        Ok(Err(self.nearest(said)))
    }

    fn nearest(&self, said: &str) -> String {
        let wanted = said.to_lowercase();
        let names = self.known.iter().flat_map(|of| &of.names);
        let near: BTreeSet<&str> =
            names.map(String::as_str).filter(|name| is_near(&name.to_lowercase(), &wanted)).collect();
        let near: Vec<String> = near.into_iter().take(3).map(|name| format!("`{name}`")).collect();
        let looked = format!("no container is called `{said}` (there are {})", self.told());
        if near.is_empty() { looked } else { format!("{looked}; there is {}", near.join(", ")) }
    }

    fn docker(&mut self, root: &Path) {
        let settings = json(&root.join("etc/docker/daemon.json")).ok().flatten();
        let place = settings.as_ref().and_then(|settings| settings["data-root"].as_str()).unwrap_or("/var/lib/docker");
        let place = below(root, place).join("containers");
        for directory in self.entries("docker", &place) {
            if let Some(config) = self.read(&directory.join("config.v2.json")) {
                // `/web`, as the API has it.
                let name = config["Name"].as_str().map(|name| name.trim_start_matches('/').to_owned());
                self.add("docker", config["ID"].as_str(), name.into_iter().collect());
            }
        }
    }

    fn podman(&mut self, root: &Path) {
        for place in ["var/lib/containers/storage", "run/containers/storage"] {
            let place = root.join(place);
            if !place.is_dir() {
                continue;
            }
            let drivers = self.entries("podman", &place);
            for driver in drivers.iter().filter(|driver| driver.as_os_str().to_string_lossy().ends_with("-containers"))
            {
                for file in ["containers.json", "volatile-containers.json"] {
                    let all = self.read(&driver.join(file));
                    for container in all.iter().filter_map(Value::as_array).flatten() {
                        let names = container["names"].as_array().into_iter().flatten();
                        let names = names.filter_map(Value::as_str).map(str::to_owned).collect();
                        self.add("podman", container["id"].as_str(), names);
                    }
                }
            }
        }
    }

    fn nerdctl(&mut self, root: &Path) {
        for address in self.entries("nerdctl", &root.join("var/lib/nerdctl")) {
            for namespace in self.entries("nerdctl", &address.join("names")) {
                for file in self.entries("nerdctl", &namespace) {
                    let Some(name) = file.file_name().map(|name| name.to_string_lossy().into_owned()) else { continue };
                    match text(&file) {
                        Ok(id) => self.add("nerdctl", id.as_deref().map(str::trim), vec![name]),
                        Err(why) => self.unreadable.push(why),
                    }
                }
            }
        }
    }

    fn kubernetes(&mut self, root: &Path) {
        for place in TASKS {
            for directory in self.entries("kubernetes", &root.join(place).join(TASK_OF_KUBERNETES)) {
                let Some(config) = self.read(&directory.join("config.json")) else { continue };
                let said = |key: &str| config["annotations"][format!("io.kubernetes.cri.{key}")].as_str();
                // A pod's sandbox has none.
                let Some(name) = said("container-name") else { continue };
                let with_pod = said("sandbox-name").map(|pod| format!("{pod}/{name}"));
                let id = directory.file_name().map(|id| id.to_string_lossy().into_owned());
                self.add("kubernetes", id.as_deref(), [name.to_owned()].into_iter().chain(with_pod).collect());
            }
        }
    }

    fn add(&mut self, runtime: &'static str, id: Option<&str>, names: Vec<String>) {
        if let Some(id) = id.filter(|id| id.len() >= SHORT_ID) {
            self.known.push(Container { runtime, id: id.to_owned(), names });
        }
    }

    /// Of a directory that shows that there is this runtime. Not there: none.
    fn entries(&mut self, runtime: &'static str, directory: &Path) -> Vec<PathBuf> {
        match fs::read_dir(directory) {
            Ok(entries) => {
                self.runtimes.insert(runtime);
                let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
                paths.sort();
                paths
            }
            Err(error) => {
                if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) {
                    self.unreadable.push(format!("{}: {error}", directory.display()));
                }
                Vec::new()
            }
        }
    }

    fn read(&mut self, file: &Path) -> Option<Value> {
        json(file).unwrap_or_else(|why| {
            self.unreadable.push(why);
            None
        })
    }
}

impl Container {
    fn longest_name(&self) -> String {
        self.names.iter().max_by_key(|name| name.len()).map_or_else(String::new, |name| format!("`{name}`"))
    }
}

/// Ids of the containers in which processes run, from the kernel alone.
pub fn running() -> BTreeSet<String> {
    let pids = procfs::pids().unwrap_or_default();
    pids.into_iter().flat_map(ids_of).collect()
}

/// Of the containers that a process is in: one, or more where one runs in another.
pub fn ids_of(pid: i32) -> Vec<String> {
    let ids: Vec<String> = procfs::cgroups(pid).iter().flat_map(|(_, path)| ids_in(path)).map(str::to_owned).collect();
    if ids.is_empty() { ids_by_mounts(pid) } else { ids }
}

/// Of a process with mounts of its own that no cgroup tells apart (`podman run --cgroups=disabled`).
fn ids_by_mounts(pid: i32) -> Vec<String> {
    let mounts_of = |who: &str| fs::read_link(format!("/proc/{who}/ns/mnt")).ok();
    if mounts_of(&pid.to_string()) == mounts_of("self") {
        return Vec::new();
    }
    ids_in_mounts(&fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default())
}

/// What is mounted over a container's names comes from a directory that is called by its id: fields 4 and 5 of proc_pid_mountinfo(5).
pub(super) fn ids_in_mounts(mountinfo: &str) -> Vec<String> {
    const NAMES: [&str; 3] = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];
    let roots = mountinfo.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(3);
        let root = fields.next()?;
        NAMES.contains(&fields.next()?).then_some(root)
    });
    let mut ids: Vec<String> = roots
        .flat_map(|root| root.split('/'))
        .filter(|part| part.len() == ID && is_hexadecimal(part))
        .map(str::to_owned)
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// `/docker/ID`, `/system.slice/docker-ID.scope`, `/kubepods.slice/.../cri-containerd-ID.scope`, `/machine.slice/libpod-ID.scope/container`.
pub(super) fn ids_in(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| {
        let part = part.strip_suffix(".scope").unwrap_or(part);
        let (kind, id) = part.rsplit_once(['-', ':']).unwrap_or(("", part));
        // Podman's and CRI-O's monitor of a container is beside it, in a cgroup of nearly the same name.
        let is_monitor = kind.ends_with("conmon");
        (id.len() == ID && is_hexadecimal(id) && !is_monitor).then_some(id)
    })
}

fn is_id(said: &str) -> bool {
    (SHORT_ID..=ID).contains(&said.len()) && is_hexadecimal(said)
}

fn is_hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// One in the other: `web` and `shop-web-1`.
fn is_near(name: &str, wanted: &str) -> bool {
    name.contains(wanted) || (name.len() >= 3 && wanted.contains(name))
}

fn short(id: &str) -> &str {
    id.get(..SHORT_ID).unwrap_or(id)
}

/// An absolute path of the host, seen from here.
fn below(root: &Path, absolute: &str) -> PathBuf {
    root.join(absolute.trim_start_matches('/'))
}

/// None: there is no such file, or it is none of a runtime's. Err: it cannot be read.
fn json(file: &Path) -> Result<Option<Value>, String> {
    Ok(text(file)?.and_then(|text| serde_json::from_str(&text).ok()))
}

fn text(file: &Path) -> Result<Option<String>, String> {
    let mut text = String::new();
    match File::open(file).and_then(|open| open.take(LARGEST).read_to_string(&mut text)) {
        Ok(_) => Ok(Some(text)),
        Err(error)
            if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidData) =>
        {
            Ok(None)
        }
        Err(error) => Err(format!("{}: {error}", file.display())),
    }
}
