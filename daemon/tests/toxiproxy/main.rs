//! `squalld toxiproxy` as a process, with real sockets: its API, what each toxic does to a connection, and the faults of the original
//! that it has not.

mod api;
mod process;
mod rig;
mod toxics;
mod unstuck;
