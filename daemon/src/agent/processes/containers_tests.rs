//! Containers of each runtime, as it writes them down, in a directory that is the root of a host.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::containers::{Containers, ids_in, ids_in_mounts};

fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

fn put(root: &Path, file: &str, text: &str) {
    let path = root.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn docker(root: &Path, id: &str, name: &str) {
    let config = serde_json::json!({"ID": id, "Name": format!("/{name}"), "State": {"Running": true, "Pid": 7}});
    put(root, &format!("var/lib/docker/containers/{id}/config.v2.json"), &config.to_string());
}

fn kubernetes(root: &Path, id: &str, pod: &str, name: Option<&str>) {
    let mut annotations = serde_json::json!({"io.kubernetes.cri.sandbox-name": pod});
    if let Some(name) = name {
        annotations["io.kubernetes.cri.container-name"] = name.into();
    }
    let place = "run/containerd/io.containerd.runtime.v2.task/k8s.io";
    put(root, &format!("{place}/{id}/config.json"), &serde_json::json!({"annotations": annotations}).to_string());
}

/// The ids that a text means while the containers of `running` have processes; or what is said instead.
fn meant(root: &Path, said: &str, running: &[char]) -> Result<Vec<String>, String> {
    let running: BTreeSet<String> = running.iter().map(|digit| id(*digit)).collect();
    match Containers::below(root).meant(said, &running) {
        Ok(Ok(ids)) => Ok(ids.into_iter().collect()),
        Ok(Err(why)) => Err(format!("nobody: {why}")),
        Err(refusal) => Err(format!("refused: {refusal}")),
    }
}

#[test]
fn every_runtime_has_its_names_on_disk() {
    let host = tempfile::tempdir().unwrap();
    let root = host.path();
    docker(root, &id('a'), "shop-web-1");
    let podman = serde_json::json!([{"id": id('b'), "names": ["cache", "redis"], "layer": "x"}]);
    put(root, "var/lib/containers/storage/overlay-containers/containers.json", &podman.to_string());
    put(root, "var/lib/nerdctl/1935db59/names/default/queue", &id('c'));
    kubernetes(root, &id('d'), "checkout-7d9", Some("app"));
    kubernetes(root, &id('e'), "checkout-7d9", None);
    let running = ['a', 'b', 'c', 'd', 'e'];
    for (said, digit) in [
        ("shop-web-1", 'a'),
        ("cache", 'b'),
        ("redis", 'b'),
        ("queue", 'c'),
        ("app", 'd'),
        ("checkout-7d9/app", 'd'),
        ("eeeeeeeeeeee", 'e'),
        (id('a').as_str(), 'a'),
    ] {
        assert_eq!(meant(root, said, &running), Ok(vec![id(digit)]), "{said}");
    }
    assert_eq!(Containers::below(root).told(), "docker (1), kubernetes (1), nerdctl (1), podman (1)");
}

#[test]
fn docker_may_keep_its_containers_elsewhere() {
    let host = tempfile::tempdir().unwrap();
    put(host.path(), "etc/docker/daemon.json", r#"{"data-root": "/srv/docker"}"#);
    let config = serde_json::json!({"ID": id('a'), "Name": "/web"});
    put(host.path(), &format!("srv/docker/containers/{}/config.v2.json", id('a')), &config.to_string());
    assert_eq!(meant(host.path(), "web", &['a']), Ok(vec![id('a')]));
}

#[test]
fn a_host_without_a_runtime_says_so_and_takes_ids_all_the_same() {
    let host = tempfile::tempdir().unwrap();
    let refused = meant(host.path(), "web", &['a']).unwrap_err();
    assert!(
        refused.starts_with("refused: container: `web` cannot be looked up: there is nothing of Docker"),
        "{refused}"
    );
    assert_eq!(meant(host.path(), &id('a')[..12], &['a']), Ok(vec![id('a')]));
}

#[test]
fn a_name_that_nobody_has_is_told_with_what_comes_nearest() {
    let host = tempfile::tempdir().unwrap();
    docker(host.path(), &id('a'), "shop-web-1");
    docker(host.path(), &id('b'), "shop-db-1");
    let told = meant(host.path(), "web", &['a', 'b']).unwrap_err();
    assert_eq!(told, "nobody: no container is called `web` (there are docker (2)); there is `shop-web-1`");
}

#[test]
fn a_container_that_is_stopped_is_nobody_and_that_is_said() {
    let host = tempfile::tempdir().unwrap();
    docker(host.path(), &id('a'), "web");
    let told = meant(host.path(), "web", &[]).unwrap_err();
    assert_eq!(told, "nobody: the container `web` of docker (aaaaaaaaaaaa) is not running");
    assert!(meant(host.path(), &id('a'), &[]).unwrap_err().contains("the container aaaaaaaaaaaa is not running"));
}

#[test]
fn a_name_of_two_that_run_is_refused_and_of_one_that_runs_is_that_one() {
    let host = tempfile::tempdir().unwrap();
    kubernetes(host.path(), &id('a'), "checkout-1", Some("app"));
    kubernetes(host.path(), &id('b'), "checkout-2", Some("app"));
    let refused = meant(host.path(), "app", &['a', 'b']).unwrap_err();
    assert!(refused.starts_with("refused: container: `app` means 2 containers: "), "{refused}");
    assert!(refused.contains("`checkout-1/app` of kubernetes (aaaaaaaaaaaa)"), "{refused}");
    assert_eq!(meant(host.path(), "checkout-2/app", &['a', 'b']), Ok(vec![id('b')]));
    assert_eq!(meant(host.path(), "app", &['b']), Ok(vec![id('b')]));
}

#[test]
fn the_beginning_of_an_id_has_twelve_digits_or_more_and_means_one() {
    let host = tempfile::tempdir().unwrap();
    docker(host.path(), &id('a'), "web");
    // A name that could be an id's beginning is none.
    assert!(meant(host.path(), "aaaa", &['a']).unwrap_err().starts_with("nobody: no container is called `aaaa`"));
    let twin = format!("{}b", &id('a')[..63]);
    let running: BTreeSet<String> = [id('a'), twin.clone()].into();
    let refused = Containers::below(host.path()).meant(&id('a')[..12], &running).unwrap_err();
    assert!(refused.0.contains("2 ids begin with aaaaaaaaaaaa"), "{refused}");
    assert_eq!(Containers::below(host.path()).meant(&twin, &running).unwrap(), Ok([twin].into()));
}

#[test]
fn files_that_are_none_of_a_runtime_are_passed_over() {
    let host = tempfile::tempdir().unwrap();
    docker(host.path(), &id('a'), "web");
    put(host.path(), "var/lib/docker/containers/broken/config.v2.json", "{");
    put(host.path(), "var/lib/docker/containers/list/config.v2.json", "[1]");
    put(host.path(), "var/lib/docker/containers/short/config.v2.json", r#"{"ID": "", "Name": "/empty"}"#);
    fs::create_dir_all(host.path().join("var/lib/docker/containers/nothing")).unwrap();
    assert_eq!(meant(host.path(), "web", &['a']), Ok(vec![id('a')]));
    assert!(meant(host.path(), "empty", &['a']).unwrap_err().starts_with("nobody: "));
}

#[test]
fn the_kernels_paths_tell_which_container_a_process_is_in() {
    let id = id('a');
    for (path, is_in_it) in [
        (format!("/docker/{id}"), true),
        (format!("/docker/{id}/init.scope"), true),
        (format!("/system.slice/docker-{id}.scope"), true),
        (format!("/kubepods.slice/kubepods-pod7.slice/cri-containerd-{id}.scope"), true),
        (format!("/kubepods/besteffort/pod7/{id}"), true),
        (format!("/machine.slice/libpod-{id}.scope/container"), true),
        (format!("/machine.slice/libpod-conmon-{id}.scope"), false),
        (format!("/system.slice/docker-{}.scope", &id[..63]), false),
        ("/system.slice/nginx.service".to_owned(), false),
    ] {
        assert_eq!(ids_in(&path).eq([id.as_str()]), is_in_it, "{path}");
        assert!(is_in_it || ids_in(&path).next().is_none(), "{path}");
    }
}

#[test]
fn a_container_without_a_cgroup_of_its_own_is_told_by_the_place_of_its_names() {
    let (id, other) = (id('a'), id('b'));
    let text = format!(
        "500 400 0:60 / / rw - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/{other}/diff\n\
         501 500 0:24 /containers/storage/overlay-containers/{id}/userdata/hosts /etc/hosts rw - tmpfs tmpfs rw\n\
         502 500 8:1 /var/lib/docker/containers/{id}/resolv.conf /etc/resolv.conf rw - ext4 /dev/vda rw\n\
         503 500 8:1 /srv/{other} /data rw - ext4 /dev/vda rw\n"
    );
    assert_eq!(ids_in_mounts(&text), [id]);
    assert!(ids_in_mounts("22 1 8:1 / / rw - ext4 /dev/vda rw\n").is_empty());
}
