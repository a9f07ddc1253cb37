//! The door for people on this machine.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::world::{Shop, World, experiment};

fn socket(world: &World) -> PathBuf {
    world.dir.path().join("squall.sock")
}

fn call(path: &Path, method: &str, route: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    write!(stream, "{method} {route} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

async fn called(world: &World, method: &'static str, route: &'static str) -> String {
    let path = socket(world);
    tokio::task::spawn_blocking(move || call(&path, method, route)).await.unwrap().unwrap()
}

#[tokio::test]
async fn the_own_user_looks_runs_and_halts_without_a_token_and_is_named() {
    let world = World::new().await;
    let _agent = world.agent("web1", 1).await;
    assert_eq!(std::fs::metadata(socket(&world)).unwrap().permissions().mode() & 0o777, 0o600);
    let nodes = called(&world, "GET", "/v1/nodes").await;
    assert!(nodes.starts_with("HTTP/1.1 200") && nodes.contains("web1"), "{nodes}");
    let shop = Shop::open().await;
    let client = reqwest::Client::builder().unix_socket(socket(&world)).no_proxy().build().unwrap();
    let submit = json!({"experiment": experiment(&shop, "30s")});
    let created = client.post("http://squalld/v1/runs").json(&submit).send().await.unwrap();
    let run = created.json::<Value>().await.unwrap()["run"].as_str().unwrap().to_owned();
    let halted = called(&world, "POST", "/v1/halt").await;
    assert!(halted.starts_with("HTTP/1.1 200") && halted.contains(&run), "{halted}");
    let by = world.summary(&run).await.by;
    assert!(by.ends_with(" at this host") && !by.starts_with("somebody"), "{by}");
    let (_, why) = world.verdict(&run).await;
    assert!(why.contains(&by), "{why}");
    // An agent has no business there, and a wrong token is no better than none.
    assert!(called(&world, "GET", "/v1/agent").await.starts_with("HTTP/1.1 401"));
    let wrong = client.get("http://squalld/v1/nodes").bearer_auth("x").send().await.unwrap();
    assert_eq!(wrong.status(), 401);
    world.running.stop("a test").await;
    assert!(!world.dir.path().join("squall.sock").exists());
}

#[tokio::test]
async fn another_user_is_refused_even_where_the_files_mode_would_let_it_in_and_a_group_member_is_not() {
    if !is_root() {
        let test = "another_user_is_refused_even_where_the_files_mode_would_let_it_in_and_a_group_member_is_not";
        return crate::skip::skip(test, "becomes another user, which needs root");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let (group, gid) = first_group();
    let world = World::with(|config| {
        config.socket = Some(path.clone());
        config.socket_group = Some(group);
    })
    .await;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let as_other = |groups: Vec<libc::gid_t>| {
        let path = path.clone();
        // Raw system calls change this one thread, which ends with its call.
        let call = std::thread::spawn(move || {
            unsafe {
                assert_eq!(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()), 0);
                assert_eq!(libc::syscall(libc::SYS_setresgid, 65533, 65533, 65533), 0);
                assert_eq!(libc::syscall(libc::SYS_setresuid, 65533, 65533, 65533), 0);
            }
            call(&path, "GET", "/v1/health").map_err(|error| error.kind())
        });
        async { tokio::task::spawn_blocking(|| call.join().unwrap()).await.unwrap() }
    };
    assert_eq!(as_other(Vec::new()).await, Err(std::io::ErrorKind::PermissionDenied));
    let member = as_other(vec![gid]).await.unwrap();
    assert!(member.starts_with("HTTP/1.1 200"), "{member}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let stranger = as_other(Vec::new()).await;
    assert!(!stranger.as_ref().is_ok_and(|answer| answer.contains("HTTP")), "{stranger:?}");
    drop(world);
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Some group of this machine that is not root's.
fn first_group() -> (String, libc::gid_t) {
    let groups = std::fs::read_to_string("/etc/group").unwrap();
    let mut parsed = groups.lines().filter_map(|line| {
        let mut parts = line.split(':');
        Some((parts.next()?.to_owned(), parts.nth(1)?.parse().ok()?))
    });
    parsed.find(|(_, gid)| *gid != 0).unwrap()
}
