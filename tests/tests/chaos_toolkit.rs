//! Experiments in Chaos Toolkit's format: `squall run` and `chaos run` on the same files, and what is undone when a run is killed.

mod chaos_toolkit {
    mod from_url;
    mod killed;
    mod same;
    mod server;
}
