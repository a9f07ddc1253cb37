//! Plans: what is chosen, what is done, what is refused.

mod fleet;

use proptest::prelude::*;
use squall_experiments::effect::{Direction, Effect, Engine, Spare};
use squall_experiments::inventory::{Ability, Can, Inventory};
use squall_experiments::parse::parse;
use squall_experiments::plan::{LinkMatrix, Plan, PlannedFault, PlannedStep, Refused, in_words, resolve};

const HEAD: &str = "
apiVersion: squall/v1
kind: Experiment
metadata: {name: t}
hypothesis: It keeps working.
steadyState: [{name: up, tcp: {address: \"lb:80\"}}]
method:
";

/// The plan of a method (a list in flow style) against a fleet.
fn plan_on(method: &str, inventory: &Inventory, seed: u64) -> Result<Plan, Refused> {
    let experiment = parse("t.yaml", &format!("{HEAD}  {method}\n")).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    resolve(&experiment, inventory, seed)
}

fn plan(method: &str) -> Plan {
    plan_on(method, &fleet::shop(), 1).unwrap_or_else(|refused| panic!("{refused}"))
}

fn refused(method: &str, inventory: &Inventory) -> String {
    plan_on(method, inventory, 1).expect_err("this plan should be refused").to_string()
}

fn fault(plan: &Plan, step: usize) -> &PlannedFault {
    match &plan.steps[step] {
        PlannedStep::Fault(fault) => fault,
        PlannedStep::Wait { .. } => panic!("step {step} is a wait"),
    }
}

fn hit(plan: &Plan) -> Vec<&str> {
    fault(plan, 0).injections.iter().map(|injection| injection.node.as_str()).collect()
}

fn links(plan: &Plan) -> &LinkMatrix {
    fault(plan, 0).links.as_ref().expect("a partition has a link matrix")
}

fn partition(on: &str, with: &str) -> String {
    format!("[{{fault: network-partition, on: {on}, with: {with}, for: 5s}}]")
}

const PAUSE: &str = "processes: {name: x}";

fn pause(nodes: &str, pick: &str) -> String {
    format!("[{{fault: process-pause, on: {{nodes: {nodes}, pick: {pick}, {PAUSE}}}, for: 5s}}]")
}

#[test]
fn nodes_are_chosen_by_name_label_and_zone() {
    for (nodes, expected) in [
        ("{name: web2}", vec!["web2"]),
        ("{names: [db1, web3]}", vec!["db1", "web3"]),
        ("{role: web}", vec!["web1", "web2", "web3"]),
        ("{role: web, zone: b}", vec!["web2"]),
        ("{zone: c}", vec!["db3", "web3"]),
    ] {
        assert_eq!(hit(&plan(&pause(nodes, "{}"))), expected, "{nodes}");
    }
}

#[test]
fn shares_of_nodes_round_down_and_the_plan_says_so() {
    for (percent, expected) in [("20%", 1), ("39.9%", 1), ("40%", 2), ("99%", 4), ("100%", 5)] {
        let plan = plan(&pause("{role: database}", &format!("{{percent: {percent}}}")));
        assert_eq!(hit(&plan).len(), expected, "{percent}");
        let exact = ["20%", "40%", "100%"].contains(&percent);
        assert_eq!(plan.notes.iter().any(|note| note.contains("rounded down")), !exact, "{percent}");
    }
}

#[test]
fn every_way_to_choose_too_little_is_refused_with_numbers_and_help() {
    let shop = fleet::shop();
    let mut halved = fleet::shop();
    for name in ["web2", "web3"] {
        halved.nodes.get_mut(name).expect("it is there").connected = false;
    }
    let mut dark = fleet::shop();
    dark.nodes.values_mut().for_each(|node| node.connected = false);
    let cases = [
        refused(&pause("{role: webb}", "{}"), &shop),
        refused(&pause("{rolle: web}", "{}"), &shop),
        refused(&pause("{name: web9}", "{}"), &shop),
        refused(&pause("{zone: z}", "{}"), &shop),
        refused(&pause("{role: database, zone: c, name: db1}", "{}"), &shop),
        refused(&pause("{role: web}", "{percent: 20%}"), &shop),
        refused(&pause("{role: web}", "{count: 4}"), &shop),
        refused(&pause("{role: web}", "{}"), &halved),
        refused(&pause("{role: web}", "{count: 2}"), &halved),
        refused(&pause("{role: web}", "{}"), &dark),
        refused(&pause("{role: web}", "{}"), &Inventory::default()),
    ];
    insta::assert_snapshot!(cases.join("\n"));
}

#[test]
fn nodes_that_are_not_connected_are_passed_over_where_a_number_is_asked_for() {
    let mut shop = fleet::shop();
    shop.nodes.get_mut("web2").expect("it is there").connected = false;
    for seed in 0..20 {
        let plan = plan_on(&pause("{role: web}", "{count: 2}"), &shop, seed).unwrap_or_else(|r| panic!("{r}"));
        assert_eq!(hit(&plan), ["web1", "web3"]);
        assert!(plan.notes.iter().any(|note| note.contains("not connected, so never chosen: web2")));
    }
}

#[test]
fn the_seed_decides_and_an_own_seed_of_a_pick_outranks_it() {
    let shop = fleet::shop();
    let choose = |pick: &str, seed| {
        let plan = plan_on(&pause("{role: database}", pick), &shop, seed).unwrap_or_else(|r| panic!("{r}"));
        hit(&plan).join(",")
    };
    let mut seen: Vec<String> = (0..60).map(|seed| choose("{count: 1}", seed)).collect();
    assert_eq!(choose("{count: 1}", 7), choose("{count: 1}", 7));
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 5, "over sixty seeds every node is chosen some time: {seen:?}");
    assert!((0..20).all(|seed| choose("{count: 1, seed: 3}", seed) == choose("{count: 1, seed: 3}", 0)));
}

#[test]
fn a_choice_of_processes_gets_the_seed_of_the_run_for_each_node() {
    let method = "[{fault: process-pause, on: {nodes: {role: web}, processes: {name: x, pick: {count: 1}}}, for: 5s}]";
    let seeds = |plan: &Plan| -> Vec<Option<u64>> {
        let of = |effect: &Effect| match effect {
            Effect::Freeze(freeze) => freeze.processes.pick.as_ref().and_then(|pick| pick.seed),
            _ => None,
        };
        fault(plan, 0).injections.iter().map(|injection| of(&injection.effects[0])).collect()
    };
    let first = seeds(&plan(method));
    assert!(first.iter().all(Option::is_some));
    assert!(first[0] != first[1] && first[1] != first[2]);
    assert_eq!(first, seeds(&plan(method)));
}

#[test]
fn an_isolated_node_filters_both_ways_and_nobody_else_is_touched() {
    let plan =
        plan(&partition("{nodes: {role: database}, pick: {count: 1, seed: 7}}", "{topology: isolate, how: reset}"));
    let [injection] = fault(&plan, 0).injections.as_slice() else { panic!("one node is touched") };
    let [Effect::PacketFilter(filter)] = injection.effects.as_slice() else { panic!("one filter") };
    assert_eq!(filter.flow.direction, Direction::Both);
    assert_eq!(filter.flow.peers.len(), 4);
    assert_eq!(filter.flow.spare, {
        let mut all = Spare::ALL.to_vec();
        all.sort();
        all
    });
}

#[test]
fn a_one_way_partition_is_asymmetric() {
    let plan = plan(&partition("{nodes: {role: web}, pick: {count: 1}}", "{topology: one-way, from: {role: proxy}}"));
    let matrix = links(&plan);
    let at = |name: &str| matrix.nodes.iter().position(|node| node == name).expect("it is a member");
    let (lb, web) = (at("lb"), 1 - at("lb"));
    assert!(matrix.cut[web][lb] && !matrix.cut[lb][web]);
    let Effect::PacketFilter(filter) = &fault(&plan, 0).injections[0].effects[0] else { panic!("a filter") };
    assert_eq!(filter.flow.direction, Direction::To);
}

#[test]
fn filters_on_the_nodes_are_exactly_the_matrix() {
    let methods = [
        partition("{nodes: {role: database}}", "{topology: halves}"),
        partition("{nodes: {role: database}}", "{topology: random-halves}"),
        partition("{nodes: {role: database}}", "{topology: bridge}"),
        partition("{nodes: {role: database}}", "{topology: majorities-ring}"),
        partition("{nodes: {role: database}, pick: {count: 2}}", "{topology: isolate}"),
        partition("{nodes: {role: database}, pick: {count: 2}}", "{direction: from}"),
        partition("{nodes: {role: web}}", "{from: {role: database}, direction: to}"),
    ];
    let shop = fleet::shop();
    for method in methods {
        let plan = plan(&method);
        let matrix = links(&plan);
        let n = matrix.nodes.len();
        let mut filtered = vec![vec![false; n]; n];
        for injection in &fault(&plan, 0).injections {
            let own = matrix.nodes.iter().position(|node| *node == injection.node).expect("it is a member");
            for effect in &injection.effects {
                let Effect::PacketFilter(filter) = effect else { panic!("a partition filters") };
                for (other, name) in matrix.nodes.iter().enumerate() {
                    let address = shop.nodes[name].facts.addresses[0];
                    if filter.flow.peers.iter().any(|peer| peer.contains(&address)) {
                        filtered[own][other] |= filter.flow.direction != Direction::From;
                        filtered[other][own] |= filter.flow.direction != Direction::To;
                    }
                }
            }
        }
        assert_eq!(filtered, matrix.cut, "{method}\n{}", matrix.table());
    }
}

#[test]
fn random_halves_follow_the_seed() {
    let shop = fleet::shop();
    let method = partition("{nodes: {role: database}}", "{topology: random-halves}");
    let matrix = |seed| links(&plan_on(&method, &shop, seed).unwrap_or_else(|r| panic!("{r}"))).cut.clone();
    assert_eq!(matrix(4), matrix(4));
    assert!((0..20).any(|seed| matrix(seed) != matrix(4)));
}

#[test]
fn addresses_outside_the_fleet_have_rows_of_their_own() {
    let plan = plan(&partition("{nodes: {role: web}}", "{peers: [203.0.113.0/24, \"2001:db8::7\"], direction: to}"));
    insta::assert_snapshot!(links(&plan).table(), @r"
                    web1  web2  web3  203.0.113.0/24  2001:db8::7
    web1            -     .     .     x               x
    web2            .     -     .     x               x
    web3            .     .     -     x               x
    203.0.113.0/24  .     .     .     -               .
    2001:db8::7     .     .     .     .               -
    ");
}

#[test]
fn a_matrix_too_wide_to_draw_is_summed_up() {
    let many = (0..40).map(|n| fleet::node(&format!("n{n:02}"), "many", "a", &format!("10.1.0.{n}")));
    let method = partition("{nodes: {role: many}, pick: {count: 1, seed: 1}}", "{topology: one-way}");
    let plan = plan_on(&method, &fleet::inventory(many), 1).unwrap_or_else(|refused| panic!("{refused}"));
    let text = plan.text();
    assert!(text.contains(&format!("    {}: reaches 0 and hears 39 of 39 others\n", hit(&plan)[0])), "{text}");
    assert_eq!(text.matches("reaches 39 and hears 38 of 39 others").count(), 39);
}

#[test]
fn partitions_that_cut_nothing_are_refused() {
    let shop = fleet::shop();
    let cases = [
        refused(&partition("{nodes: {role: database}}", "{}"), &shop),
        refused(&partition("{nodes: {role: web}}", "{topology: majorities-ring}"), &shop),
        refused(&partition("{nodes: {name: lb}}", "{topology: halves}"), &shop),
    ];
    insta::assert_snapshot!(cases.join("\n"));
}

#[test]
fn the_engine_is_netem_where_it_can_be_and_the_plan_says_why_not() {
    let mut shop = fleet::shop();
    for name in ["web1", "web2"] {
        shop.nodes.get_mut(name).expect("it is there").facts.abilities.insert(Ability::Netem, Can::Yes);
    }
    shop.nodes.get_mut("web2").expect("it is there").facts.interfaces[0].root_qdisc = "htb".into();
    let plan = |direction: &str| {
        let with = format!("{{latency: 10ms, direction: {direction}}}");
        let method = format!("[{{fault: network-latency, on: {{nodes: {{role: web}}}}, with: {with}, for: 5s}}]");
        plan_on(&method, &shop, 1).unwrap_or_else(|refused| panic!("{refused}"))
    };
    let engine = |effect: &Effect| match effect {
        Effect::PacketDelay(delay) => delay.engine,
        _ => panic!("latency delays packets"),
    };
    let engines =
        |plan: &Plan| -> Vec<Engine> { fault(plan, 0).injections.iter().map(|i| engine(&i.effects[0])).collect() };
    assert_eq!(engines(&plan("to")), [Engine::Netem, Engine::PacketQueue, Engine::PacketQueue]);
    // A qdisc sees only what leaves.
    assert_eq!(engines(&plan("both")), [Engine::PacketQueue; 3]);
    assert_eq!(engines(&plan("from")), [Engine::PacketQueue; 3]);
    insta::assert_snapshot!(plan("to").notes.join("\n"));
}

#[test]
fn a_host_that_cannot_is_named_with_what_is_missing() {
    let mut shop = fleet::shop();
    let web1 = &mut shop.nodes.get_mut("web1").expect("it is there").facts;
    let no = |why: &str, hint: &str| Can::No { why: why.into(), hint: hint.into() };
    web1.abilities.insert(Ability::PacketQueue, no("no NFQUEUE target", "install iptables"));
    web1.abilities.insert(Ability::ProcessFreeze, no("ptrace is forbidden", ""));
    web1.abilities.remove(&Ability::HoldSpace);
    web1.memory_bytes = 1 << 29;
    web1.allowed_faults = vec!["process-pause".into(), "disk-fill".into()];
    let on = "on: {nodes: {role: web}}";
    let cases = [
        refused(&format!("[{{fault: network-latency, {on}, with: {{latency: 10ms}}, for: 5s}}]"), &shop),
        refused(&format!("[{{fault: network-latency, {on}, with: {{latency: 10ms, engine: netem}}, for: 5s}}]"), &shop),
        refused(&pause("{role: web}", "{}"), &shop),
        refused("[{fault: disk-fill, on: {nodes: {role: web}, path: /x}, with: {percent: 90%}, for: 5s}]", &shop),
        refused(&format!("[{{fault: memory-pressure, {on}, with: {{bytes: 1GiB}}, for: 5s}}]"), &shop),
        refused(
            "[{fault: network-loss, on: {nodes: {role: web}, interface: eth7}, with: {percent: 5%}, for: 5s}]",
            &shop,
        ),
    ];
    insta::assert_snapshot!(cases.join("\n"));
}

#[test]
fn all_steps_that_cannot_be_planned_are_told_at_once() {
    let method = "[{fault: cpu-pressure, on: {nodes: {role: nobody}}, for: 5s}, {fault: cpu-pressure, on: {nodes: {name: zzz}}, for: 5s}]";
    let reasons = refused(method, &fleet::shop());
    assert!(reasons.contains("step 0") && reasons.contains("step 1"), "{reasons}");
}

#[test]
fn a_step_may_not_change_what_another_still_holds_in_the_background() {
    let shop = fleet::shop();
    let steps = |wait: &str, second: &str| {
        format!(
            "[{{fault: network-loss, on: {{nodes: {{name: web1}}}}, with: {{percent: 5%}}, for: 5s, background: true}}, {{wait: {wait}}}, \
             {{fault: network-loss, on: {{nodes: {{name: {second}}}, interface: eth0}}, with: {{percent: 5%}}, for: 5s}}]"
        )
    };
    insta::assert_snapshot!(refused(&steps("4s", "web1"), &shop), @"step 2 (network-loss): on web1 it would change network:eth0 while step 0 (network-loss) still holds it in the background: wait until that is over, or choose other nodes");
    plan_on(&steps("6s", "web1"), &shop, 1).unwrap_or_else(|refused| panic!("{refused}"));
    plan_on(&steps("4s", "web2"), &shop, 1).unwrap_or_else(|refused| panic!("{refused}"));
}

#[test]
fn opting_out_of_a_spared_flow_is_said_in_the_plan() {
    let plan = plan(
        "[{fault: network-loss, on: {nodes: {name: lb}}, with: {percent: 5%, spare: [coordinator, ssh, neighbours, loopback]}, for: 5s}]",
    );
    assert!(
        plan.notes.contains(&"network-loss does NOT spare: DNS (the experiment says so)".to_owned()),
        "{:?}",
        plan.notes
    );
}

#[test]
fn only_correlated_loss_needs_an_engine() {
    let effect = |with: &str| {
        let plan = plan(&format!("[{{fault: network-loss, on: {{nodes: {{name: lb}}}}, with: {with}, for: 5s}}]"));
        fault(&plan, 0).injections[0].effects[0].name()
    };
    assert_eq!(effect("{percent: 5%}"), "packet-filter");
    assert_eq!(effect("{percent: 5%, correlation: 25%}"), "packet-delay");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_seed_gives_the_same_plan_byte_for_byte_whatever_order_the_nodes_came_in(seed: u64, start in 0usize..9) {
        let method = "[{fault: process-pause, on: {nodes: {role: database}, pick: {percent: 60%}, processes: {name: x, pick: {count: 1}}}, for: 5s}, \
                      {fault: network-partition, on: {nodes: {role: database}}, with: {topology: random-halves}, for: 5s}, \
                      {fault: network-latency, on: {nodes: {}, pick: {count: 2}}, with: {latency: 5ms}, for: 5s}]";
        let shop = fleet::shop();
        let mut nodes: Vec<_> = shop.nodes.values().cloned().collect();
        nodes.rotate_left(start);
        let one = plan_on(method, &shop, seed).map_err(|e| TestCaseError::fail(e.to_string()))?;
        let other = plan_on(method, &fleet::inventory(nodes), seed).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(one.text(), other.text());
        let json = serde_json::to_string(&one).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(&json, &serde_json::to_string(&other).map_err(|e| TestCaseError::fail(e.to_string()))?);
        let read: Plan = serde_json::from_str(&json).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(read, one);
    }
}

#[test]
fn a_network_fault_on_processes_is_in_their_network_and_takes_the_engine_that_changes_no_qdisc_of_theirs() {
    let method = "[{fault: network-latency, on: {nodes: {name: web1}, processes: {container: shop-web}, interface: eth9}, with: {latency: 20ms, direction: to}, for: 5s}]";
    let plan = plan(method);
    let effect = &fault(&plan, 0).injections[0].effects[0];
    let Effect::PacketDelay(delay) = effect else { panic!("{plan:?}") };
    assert_eq!(delay.flow.inside.as_ref().and_then(|inside| inside.container.as_deref()), Some("shop-web"));
    assert_eq!(delay.engine, Engine::PacketQueue);
    let text = in_words(effect);
    assert!(text.contains("in the network of every process with container=shop-web"), "{text}");
}
