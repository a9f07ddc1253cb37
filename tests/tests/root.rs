//! Each fault through a real coordinator and real agents: measured where it bites, undone, and nothing left. One file a fault.

mod root {
    mod agent_killed;
    mod cpu_pressure;
    mod disk_fill;
    mod ground_truth;
    mod halt;
    mod host_crash;
    mod host_freeze;
    mod lock_out;
    mod memory_pressure;
    mod network_latency;
    mod network_loss;
    mod network_partition;
    mod one_host;
    mod policy;
    mod process_kill;
    mod process_pause;
    mod run_local;
    mod service_restart;
    mod service_stop;
    mod slow_service;
    mod traffic_surge;
}
