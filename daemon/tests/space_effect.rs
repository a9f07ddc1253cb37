//! Space that is held, bounded by its reserve, and given back by the kernel.

#![allow(clippy::disallowed_methods, reason = "a test starts what it tests")]

mod rig;

use std::path::Path;
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use rig::{Holder, context, eventually, not_root, own_tmpfs};
use squall_experiments::effect::{Amount, HoldSpace};
use squall_experiments::units::Size;
use squalld::agent::effects::{Hold, Prepared, Presence, Trace, observe, remove, space};

const MIB: u64 = 1 << 20;

fn free(path: &Path) -> u64 {
    let stat = statvfs(path).unwrap();
    stat.blocks_available() as u64 * stat.fragment_size() as u64
}

fn prepare(path: &Path, amount: Amount, reserve: u64) -> Prepared {
    let effect = HoldSpace { path: path.to_str().unwrap().into(), amount, reserve: Size(reserve) };
    space::prepare(&effect, &context("0123456789ab")).unwrap()
}

#[test]
fn space_is_held_until_released_and_leaves_no_name() {
    if not_root("space_is_held_until_released_and_leaves_no_name") {
        return;
    }
    let mount = own_tmpfs("32m");
    let before = free(mount.path());
    let prepared = prepare(mount.path(), Amount::Bytes(Size(20 * MIB)), MIB);
    assert_eq!(free(mount.path()), before, "prepare changes nothing");
    let mut holder = Holder::start();
    let evidence = holder.go(prepared.hold).unwrap();
    assert_eq!(evidence[0].bites, Some(true), "{evidence:?}");
    assert_eq!(before - free(mount.path()), 20 * MIB);
    assert_eq!(std::fs::read_dir(mount.path()).unwrap().count(), 0);
    let outcome = holder.release();
    assert_eq!(outcome.evidence[0].numbers["held_bytes"], (20 * MIB) as f64);
    eventually("the space is back", Duration::from_secs(5), || free(mount.path()) == before);
    assert_eq!(observe(&prepared.traces[0]), Presence::Absent);
}

#[test]
fn a_killed_holder_gives_everything_back() {
    if not_root("a_killed_holder_gives_everything_back") {
        return;
    }
    let mount = own_tmpfs("32m");
    let before = free(mount.path());
    let mut holder = Holder::start();
    holder.go(prepare(mount.path(), Amount::LeaveFree(Size(2 * MIB)), MIB).hold).unwrap();
    assert_eq!(free(mount.path()), 2 * MIB);
    let full = std::fs::write(mount.path().join("file"), vec![1_u8; 3 << 20]).unwrap_err();
    assert_eq!(full.raw_os_error(), Some(libc::ENOSPC));
    std::fs::remove_file(mount.path().join("file")).unwrap();
    let trace = Trace::Holder { process: holder.child.id() };
    holder.child.0.kill().unwrap();
    eventually("the holder is gone", Duration::from_secs(5), || observe(&trace) == Presence::Absent);
    assert_eq!(free(mount.path()), before);
}

#[test]
fn the_reserve_is_kept_when_others_write_between_prepare_and_hold() {
    if not_root("the_reserve_is_kept_when_others_write_between_prepare_and_hold") {
        return;
    }
    let mount = own_tmpfs("32m");
    let prepared = prepare(mount.path(), Amount::Bytes(Size(20 * MIB)), 4 * MIB);
    std::fs::write(mount.path().join("others"), vec![1_u8; 16 << 20]).unwrap();
    let mut holder = Holder::start();
    let evidence = holder.go(prepared.hold.clone()).unwrap();
    assert_eq!(free(mount.path()), 4 * MIB);
    assert_eq!(evidence[0].numbers["held_bytes"], (12 * MIB) as f64);
    assert_eq!(evidence[0].numbers["asked_bytes"], (20 * MIB) as f64);
    holder.release();
    std::fs::write(mount.path().join("more"), vec![1_u8; 13 << 20]).unwrap();
    let why = Holder::start().go(prepared.hold).unwrap_err();
    assert!(why.contains("no room left"), "{why}");
}

#[test]
fn a_fallback_file_is_removed_only_if_it_is_ours() {
    let directory = tempfile::tempdir().unwrap();
    let Hold::Space { fallback, .. } = prepare(directory.path(), Amount::Bytes(Size(4096)), 0).hold else {
        panic!("not space")
    };
    assert!(fallback.file_name().unwrap().to_str().unwrap().ends_with("0123456789ab"));
    let trace = Trace::File { path: fallback.clone(), place: None, mount: None };
    remove(&trace).unwrap();
    std::fs::write(&fallback, "letters of somebody else").unwrap();
    assert!(remove(&trace).is_err());
    assert!(fallback.exists());
    std::fs::write(&fallback, "").unwrap();
    assert!(matches!(observe(&trace), Presence::Present(_)));
    remove(&trace).unwrap();
    assert_eq!(observe(&trace), Presence::Absent);
    assert!(!fallback.exists());
}
