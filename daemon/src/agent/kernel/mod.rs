//! Thin typed wrappers of kernel interfaces. What they mean to Squall is said in [`super::effects`].

pub mod boottime;
pub mod capability;
pub mod cgroup;
pub mod child;
pub mod echo;
pub mod landlock;
pub mod links;
pub mod listeners;
pub mod memory;
pub mod namespace;
pub mod netlink;
pub mod network;
pub mod nfqueue;
pub mod nft;
pub mod pidfd;
pub mod priority;
pub mod procfs;
pub mod raw;
pub mod seccomp;
pub mod tc;
pub mod trim;
