//! Mutants: for each promise of docs/promises.md, changes of the code that take a mechanism away, and the test that must turn red. `make mutants` runs them.

/// One mechanism taken away.
pub struct Mutant {
    /// Of docs/promises.md.
    pub promise: u8,
    pub what: &'static str,
    pub edits: &'static [Edit],
    pub test: Test,
}

/// The text stands exactly once in the file.
pub struct Edit {
    pub file: &'static str,
    pub find: &'static str,
    pub replace: &'static str,
}

/// A test by its name, in the unit tests of a package or in one of its files.
pub struct Test {
    pub package: &'static str,
    /// None: among the unit tests.
    pub file: Option<&'static str>,
    pub name: &'static str,
}

const fn edit(file: &'static str, find: &'static str, replace: &'static str) -> Edit {
    Edit { file, find, replace }
}

const fn unit(package: &'static str, name: &'static str) -> Test {
    Test { package, file: None, name }
}

const fn suite(package: &'static str, file: &'static str, name: &'static str) -> Test {
    Test { package, file: Some(file), name }
}

const DAEMON: &str = "squalld";
const LANGUAGE: &str = "squall-experiments";

/// By what they need built, so that little is built twice.
pub const ALL: &[Mutant] = &[
    Mutant {
        promise: 5,
        what: "an abort sends no halts",
        edits: &[edit(
            "experiments/src/run_state/abort.rs",
            "self.out.splice(after_orders..after_orders, halts);",
            "let _ = (after_orders, halts);",
        )],
        test: suite(LANGUAGE, "flow", "the_halt_leaves_before_anything_is_stored"),
    },
    Mutant {
        promise: 5,
        what: "a halt that got lost is not said again",
        edits: &[edit(
            "experiments/src/run_state/abort.rs",
            "self.halt_again();\n            self.stage = Stage::Aborting",
            "self.stage = Stage::Aborting",
        )],
        test: suite(LANGUAGE, "flow", "a_halt_that_got_lost_is_said_again"),
    },
    Mutant {
        promise: 9,
        what: "exposure is not counted again before a fault",
        edits: &[edit(
            "experiments/src/run_state/steps.rs",
            "if exposed.len() > allowed as usize {",
            "if exposed.len() > usize::MAX {",
        )],
        test: suite(
            LANGUAGE,
            "flow",
            "exposure_is_counted_again_before_each_fault_because_admission_only_knew_the_plan",
        ),
    },
    Mutant {
        promise: 9,
        what: "admission sees no other run",
        edits: &[edit(
            "experiments/src/admission.rs",
            "let others: Vec<&Exposure> = active.iter().collect();",
            "let others: Vec<&Exposure> = Vec::new();",
        )],
        test: unit(LANGUAGE, "a_quorum_counts_those_that_are_not_connected_and_those_that_others_hold"),
    },
    Mutant {
        promise: 9,
        what: "shares are rounded up",
        edits: &[edit(
            "experiments/src/admission.rs",
            "let allowed = percent.of(group.len() as u64);",
            "let allowed = percent.of(group.len() as u64) + 1;",
        )],
        test: unit(LANGUAGE, "a_percentage_of_the_group_is_rounded_down"),
    },
    Mutant {
        promise: 15,
        what: "a blind probe stops nothing",
        edits: &[edit(
            "experiments/src/run_state/watch.rs",
            "} else if judged.blind && worst.is_none() {",
            "} else if judged.blind && worst.is_some() {",
        )],
        test: suite(LANGUAGE, "flow", "a_probe_that_falls_silent_stops_the_run"),
    },
    Mutant {
        promise: 17,
        what: "admission lets two runs have one thing",
        edits: &[edit(
            "experiments/src/admission.rs",
            "reasons.extend(conflicts(&mine, active));",
            "let _ = conflicts;",
        )],
        test: unit(LANGUAGE, "one_conflict_key_has_one_writer_also_when_the_old_one_is_dirty"),
    },
    Mutant {
        promise: 18,
        what: "a record's hash is not compared",
        edits: &[edit("experiments/src/audit/mod.rs", "if sha256(body) != hash {", "if hash.is_empty() {")],
        test: suite(LANGUAGE, "audit", "each_of_50_000_random_mutations_of_an_agents_log_is_found"),
    },
    Mutant {
        promise: 18,
        what: "what other logs have seen is not compared",
        edits: &[edit(
            "experiments/src/audit/verify.rs",
            "if head.log != self.log || head.seq < self.first {",
            "if !head.log.is_empty() {",
        )],
        test: suite(LANGUAGE, "audit", "without_its_head_file_a_shortened_log_is_found_against_the_other_log"),
    },
    Mutant {
        promise: 1,
        what: "the lease is ignored",
        edits: &[edit(
            "daemon/src/agent/lease.rs",
            "self.duration_end_us.min(self.lease_end_us)",
            "self.duration_end_us",
        )],
        test: unit(DAEMON, "without_a_renewal_the_lease_ends_it_and_with_renewals_the_duration_does"),
    },
    Mutant {
        promise: 1,
        what: "a holder does not hear its own deadline",
        edits: &[edit(
            "daemon/src/agent/effects/tether.rs",
            "self.timer.set(Expiration::OneShot(TimeSpec::from_duration(at)), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;",
            "let _ = (at, Expiration::OneShot(TimeSpec::from_duration(at)), TimerSetTimeFlags::TFD_TIMER_ABSTIME);",
        )],
        test: unit(DAEMON, "a_passed_deadline_releases_and_a_renewal_before_it_does_not"),
    },
    Mutant {
        promise: 3,
        what: "an intent is not journaled",
        edits: &[edit("daemon/src/agent/journal/mod.rs", "self.append(&record, RESERVE)?;", "let _ = RESERVE;")],
        test: unit(DAEMON, "what_was_intended_and_not_undone_is_open_for_whoever_reads"),
    },
    Mutant {
        promise: 3,
        what: "an intent is not synced before it is carried out",
        edits: &[edit(
            "daemon/src/agent/journal/mod.rs",
            "self.durability.sync_data(&self.file)?;\n        crash::point(\"journal-synced\");",
            "crash::point(\"journal-synced\");",
        )],
        test: unit(DAEMON, "an_intent_that_cannot_be_synced_is_no_promise"),
    },
    Mutant {
        promise: 4,
        what: "process numbers of another boot are believed",
        edits: &[edit(
            "daemon/src/agent/undo.rs",
            "let here = intent.boot_id == boot_id;\n        let of_a_process",
            "let here = !boot_id.is_empty();\n        let of_a_process",
        )],
        test: unit(DAEMON, "after_a_reboot_process_numbers_mean_nothing_and_files_are_looked_for_by_their_path"),
    },
    Mutant {
        promise: 6,
        what: "a halt is judged like any other order",
        edits: &[edit(
            "daemon/src/agent/orders.rs",
            "if matches!(order, ToAgent::Halt { .. }) {",
            "if matches!(order, ToAgent::Try) {",
        )],
        test: unit(DAEMON, "a_halt_counts_from_any_epoch_and_again_but_only_signed_and_for_this_node"),
    },
    Mutant {
        promise: 6,
        what: "a viewer may not halt",
        edits: &[edit(
            "daemon/src/coordinator/permission.rs",
            "Some(Act::Look | Act::Stop) => true,\n        Some(Act::Plan)",
            "Some(Act::Look) => true,\n        Some(Act::Stop | Act::Plan)",
        )],
        test: unit(DAEMON, "every_documented_path_is_decided_for_every_role_as_written_out_by_hand"),
    },
    Mutant {
        promise: 7,
        what: "what was removed is called absent without a look",
        edits: &[edit(
            "daemon/src/agent/undo.rs",
            "crash::point(\"removed\");\n                presence = effects::observe(&trace);",
            "crash::point(\"removed\");\n                presence = Presence::Absent;",
        )],
        test: unit(DAEMON, "what_cannot_be_observed_is_never_called_reverted"),
    },
    Mutant {
        promise: 7,
        what: "a starter takes any name for a mark",
        edits: &[edit(
            "daemon/src/agent/effects/service/starter/serve.rs",
            "if !is_ours {",
            "if !is_ours && mark.is_empty() {",
        )],
        test: unit(DAEMON, "only_what_was_named_at_the_start_is_run_and_only_for_a_mark_of_ours"),
    },
    Mutant {
        promise: 7,
        what: "the second starter is never asked",
        edits: &[edit(
            "daemon/src/agent/effects/service/starter.rs",
            "for number in 0..STARTERS {\n        match ask_one",
            "for number in 0..1 {\n        match ask_one",
        )],
        test: unit(DAEMON, "with_one_starter_dead_the_other_is_asked_and_with_both_the_next_start_is_named"),
    },
    Mutant {
        promise: 10,
        what: "links are not followed to what is protected",
        edits: &[edit(
            "daemon/src/agent/policy/check.rs",
            "if let Ok(real) = at.canonicalize() {",
            "if let Ok(real) = std::path::absolute(at) {",
        )],
        test: unit(DAEMON, "links_and_dots_do_not_lead_around_a_protected_path"),
    },
    Mutant {
        promise: 10,
        what: "a denied effect is allowed",
        edits: &[edit(
            "daemon/src/agent/policy/check.rs",
            "reasons.extend(self.effects.refusal(self, \"effect\", name(effect)));",
            "",
        )],
        test: unit(DAEMON, "denied_and_unlisted_faults_and_effects_are_refused_with_their_line"),
    },
    Mutant {
        promise: 12,
        what: "deadlines run on the wall clock",
        edits: &[edit(
            "daemon/src/agent/kernel/boottime.rs",
            "let time = clock_gettime(ClockId::CLOCK_BOOTTIME)",
            "let time = clock_gettime(ClockId::CLOCK_REALTIME)",
        )],
        test: unit(DAEMON, "deadlines_run_on_the_time_since_boot"),
    },
    Mutant {
        promise: 13,
        what: "a process is known by its number alone",
        edits: &[edit(
            "daemon/src/agent/kernel/pidfd.rs",
            "Some((_, start)) => Ok((start == process.start).then_some(fd)),",
            "Some(_) => Ok(Some(fd)),",
        )],
        test: unit(DAEMON, "a_process_with_another_start_time_is_another_process"),
    },
    Mutant {
        promise: 14,
        what: "an order's epoch is not compared",
        edits: &[edit("daemon/src/agent/orders.rs", "if signed.epoch < epoch {", "if signed.epoch > signed.epoch {")],
        test: unit(DAEMON, "each_way_of_being_wrong_is_refused_for_its_own_reason"),
    },
    Mutant {
        promise: 16,
        what: "a memory hog keeps no reserve",
        edits: &[edit(
            "daemon/src/agent/effects/hog/occupy.rs",
            "let room = chunk > 0 && available >= reserve.saturating_add(chunk);",
            "let room = chunk > 0 && available >= reserve.min(1);",
        )],
        test: unit(DAEMON, "the_reserve_ends_the_growth_and_takes_memory_back"),
    },
    Mutant {
        promise: 16,
        what: "a hog's cgroup may be as large as the limit above it",
        edits: &[edit(
            "daemon/src/agent/effects/hog/group.rs",
            "own.min(left.saturating_sub(ROOM).max(LEAST))",
            "own.max(left)",
        )],
        test: unit(DAEMON, "a_hog_s_own_limit_is_hit_before_one_above_it_and_leaves_room_for_the_agent"),
    },
    Mutant {
        promise: 8,
        what: "a cgroup is used that nobody gave to the agent",
        edits: &[edit(
            "daemon/src/agent/kernel/cgroup.rs",
            "as_deref() == Some(b\"1\"))",
            "as_deref() != Some(b\"2\"))",
        )],
        test: unit(DAEMON, "a_group_is_used_only_where_the_one_above_the_agents_was_given_to_it"),
    },
    Mutant {
        promise: 16,
        what: "one may take every place",
        edits: &[edit(
            "daemon/src/coordinator/places.rs",
            "if own >= each || taken >= self.all {",
            "if (own >= each && taken >= self.all) || taken >= self.all {",
        )],
        test: unit(DAEMON, "one_cannot_take_every_place_nor_can_all_together_and_places_are_given_back"),
    },
    Mutant {
        promise: 16,
        what: "the agent's own channel is not spared",
        edits: &[edit(
            "daemon/src/agent/spared.rs",
            "Spare::Coordinator => coordinator\n            .map(",
            "Spare::Coordinator => coordinator\n            .filter(|address| address.port() == 0)\n            .map(",
        )],
        test: unit(DAEMON, "only_what_the_flow_asks_for_is_spared"),
    },
    Mutant {
        promise: 17,
        what: "all interfaces and one of them do not overlap",
        edits: &[edit(
            "daemon/src/agent/conflict.rs",
            "kind == other_kind && (name == \"all\" || other_name == \"all\")",
            "kind == other_kind && name == \"all\" && other_name == \"all\"",
        )],
        test: unit(DAEMON, "all_interfaces_overlap_with_each_and_two_interfaces_do_not"),
    },
    Mutant {
        promise: 2,
        what: "the guard does nothing when its agent dies",
        edits: &[edit(
            "daemon/src/guard/mod.rs",
            "let ended = undo::undo_all(intents.iter(), boot_id);",
            "let ended: Vec<(String, Ended)> = if boot_id.is_empty() { undo::undo_all(intents.iter(), boot_id) } else { Vec::new() };",
        )],
        test: suite(DAEMON, "agent_death", "sigkill_of_the_agent_reverts_everything_and_the_guard_writes_it_down"),
    },
    Mutant {
        promise: 1,
        what: "the guard waits for ever for an agent that hangs",
        edits: &[edit(
            "daemon/src/guard/mod.rs",
            "deadline(intent).saturating_add(GRACE_US) <= now;",
            "deadline(intent).saturating_add(GRACE_US) <= now && boot_id.is_empty();",
        )],
        test: suite(DAEMON, "agent_death", "the_guard_ends_a_hanging_holder_of_a_hanging_agent"),
    },
    Mutant {
        promise: 2,
        what: "a holder neither dies with its agent nor sees its line close",
        edits: &[
            edit("daemon/src/agent/kernel/child.rs", "nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;", ""),
            edit(
                "daemon/src/agent/effects/tether.rs",
                "Ok(0) => return Ok(Heard::Closed),",
                "Ok(0) => std::thread::sleep(Duration::from_millis(20)),",
            ),
        ],
        test: suite(
            DAEMON,
            "agent_death",
            "with_agent_and_guard_dead_the_kernel_reverts_and_recovery_or_a_sweep_writes_it_down",
        ),
    },
    Mutant {
        promise: 3,
        what: "recovery undoes nothing",
        edits: &[edit(
            "daemon/src/agent/recovery.rs",
            "let ended = undo::undo_all(journal.book().open(), boot_id);",
            "let ended: Vec<(String, Ended)> = if boot_id.is_empty() { undo::undo_all(journal.book().open(), boot_id) } else { Vec::new() };",
        )],
        test: suite(
            DAEMON,
            "agent_death",
            "with_agent_and_guard_dead_the_kernel_reverts_and_recovery_or_a_sweep_writes_it_down",
        ),
    },
    Mutant {
        promise: 14,
        what: "the agent follows whoever speaks",
        edits: &[edit("daemon/src/agent/executor.rs", "if epoch < highest {", "if epoch < highest && highest == 0 {")],
        test: suite(DAEMON, "agent_life", "policy_epoch_and_full_disk_refuse_before_anything_happens"),
    },
    Mutant {
        promise: 16,
        what: "the OOM killer may take agent and guard",
        edits: &[edit(
            "daemon/src/agent/kernel/priority.rs",
            "const SPARED: i32 = -1000;",
            "const SPARED: i32 = -900;",
        )],
        test: suite(
            DAEMON,
            "agent_life",
            "the_oom_killer_never_takes_agent_or_guard_and_takes_hogs_before_other_holders",
        ),
    },
    Mutant {
        promise: 17,
        what: "the agent sees no conflict",
        edits: &[edit(
            "daemon/src/agent/consider.rs",
            "reasons.extend(self.conflict(&order.injection, &occupied));",
            "let _ = self.conflict(&order.injection, &occupied);",
        )],
        test: suite(DAEMON, "agent_life", "conflicting_orders_are_refused_and_told_who_holds_the_thing"),
    },
    Mutant {
        promise: 13,
        what: "a pid file older than its process is believed",
        edits: &[edit(
            "daemon/src/agent/processes/conditions.rs",
            "(late > SLACK).then_some(late)",
            "(late > SLACK && late < 0).then_some(late)",
        )],
        test: suite(DAEMON, "signal_effect", "a_pid_file_that_outlived_its_process_hits_nobody"),
    },
    Mutant {
        promise: 13,
        what: "Squall's own processes are hit like others",
        edits: &[edit(
            "daemon/src/agent/processes/mod.rs",
            "if never { &mut found.spared } else",
            "if never && process.pid == 1 { &mut found.spared } else",
        )],
        test: suite(DAEMON, "signal_effect", "squall_itself_is_never_hit"),
    },
    Mutant {
        promise: 7,
        what: "a starter that died is not started again",
        edits: &[edit(
            "daemon/src/agent/effects/service/starter/pair.rs",
            "match self.start(&lock) {",
            "match Err::<Child, _>(anyhow::anyhow!(\"{lock:?}\")) {",
        )],
        test: suite(
            DAEMON,
            "starters",
            "a_starter_that_died_is_started_again_by_the_other_one_and_both_end_with_their_line",
        ),
    },
    Mutant {
        promise: 8,
        what: "a file of somebody else is removed if it has our name",
        edits: &[edit(
            "daemon/src/agent/effects/space.rs",
            "file::Whose::Ours => match with(",
            "file::Whose::Ours | file::Whose::Others => match with(",
        )],
        test: suite(DAEMON, "space_effect", "a_fallback_file_is_removed_only_if_it_is_ours"),
    },
    Mutant {
        promise: 9,
        what: "the safety lever is ignored",
        edits: &[edit(
            "daemon/src/coordinator/runs/held.rs",
            "if let Some(why) = self.lever.refusal() {",
            "if let Some(why) = self.lever.refusal().filter(String::is_empty) {",
        )],
        test: suite(
            DAEMON,
            "coordinator",
            "everyone_engages_the_lever_nothing_is_admitted_then_and_only_an_operator_releases_it",
        ),
    },
    Mutant {
        promise: 9,
        what: "a dirty run holds nothing",
        edits: &[edit(
            "daemon/src/coordinator/runs/mod.rs",
            "if ended.verdict == Verdict::Dirty {\n            let held",
            "if ended.verdict == Verdict::Dirty && ended.why.is_empty() {\n            let held",
        )],
        test: suite(
            DAEMON,
            "coordinator",
            "what_a_dirty_run_holds_stays_held_until_its_host_is_clean_or_an_operator_says_so",
        ),
    },
    Mutant {
        promise: 16,
        what: "a body may take as long as it likes",
        edits: &[edit(
            "daemon/src/coordinator/listener.rs",
            "TimedBody::new(body, limits.body)",
            "TimedBody::new(body, limits.body * 10_000)",
        )],
        test: suite(
            DAEMON,
            "coordinator",
            "a_body_that_comes_drop_by_drop_is_told_408_also_of_those_who_may_call_and_the_connection_ends",
        ),
    },
    Mutant {
        promise: 11,
        what: "the API answers without a token",
        edits: &[edit(
            "daemon/src/coordinator/api/auth.rs",
            "let token = bearer(request.headers()).ok_or_else(|| {\n        ApiError::unauthenticated(\"send `Authorization: Bearer TOKEN` with a token of this coordinator\")\n    })?;",
            "let Some(token) = bearer(request.headers()) else {\n        return Ok(Caller { name: None, role: Role::Admin, is_user: false, place });\n    };",
        )],
        test: suite(DAEMON, "coordinator", "every_documented_path_and_every_other_one_answers_401_without_the_token"),
    },
    Mutant {
        promise: 10,
        what: "the policy says yes to everything",
        edits: &[edit(
            "daemon/src/agent/policy/check.rs",
            "let mut reasons = malformed::reasons(order);",
            "let mut reasons = malformed::reasons(order);\n        if !order.run.is_empty() {\n            return Vec::new();\n        }",
        )],
        test: suite(
            DAEMON,
            "hostile_orders",
            "no_order_gets_through_that_the_page_forbids_and_none_is_refused_that_it_allows",
        ),
    },
    Mutant {
        promise: 11,
        what: "a shell is among the programs",
        edits: &[edit(
            "daemon/src/program.rs",
            "Program::Systemctl => \"systemctl\",",
            "Program::Systemctl => \"sh\",",
        )],
        test: suite("squall-tests", "layering", "programs_are_started_in_one_place_and_never_through_a_shell"),
    },
];
