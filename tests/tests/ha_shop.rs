//! The shop itself, before anything is broken in it: it opens, sells, scales, and leaves nothing.

use std::time::Duration;

use squall_tests::ha_shop::{self, CONTROL, HOSTS, Shop};
use squall_tests::lab::wait_until;

#[test]
fn the_shop_opens_and_sells_and_scales() {
    if !ha_shop::is_possible("the_shop_opens_and_sells_and_scales") {
        return;
    }
    let shop = Shop::sound().start();
    an_order_is_the_same_when_it_is_repeated(&shop);
    a_cart_becomes_one_order(&shop);
    load_brings_replicas(&shop);
    let fleet = shop.fleet();
    assert_eq!(fleet.nodes().len(), HOSTS.len(), "an agent on each host");
}

fn an_order_is_the_same_when_it_is_repeated(shop: &Shop) {
    let order = r#"{"id": "one", "product": 7}"#;
    assert_eq!(shop.ask("POST", "/checkout", order).0, 201);
    assert_eq!(shop.ask("POST", "/checkout", order).0, 200);
    let (_, all) = shop.ask("GET", "/orders?prefix=one", "");
    assert_eq!(all, r#"["one"]"#);
    let on_a_replica = || shop.ask("GET", "/orders/one?read=replica", "").0 == 200;
    assert!(wait_until(Duration::from_secs(5), on_a_replica), "the replicas have it a moment later");
    assert_eq!(shop.ask("GET", "/orders/two", "").0, 404);
}

fn a_cart_becomes_one_order(shop: &Shop) {
    for line in [r#"{"product": 1, "quantity": 2}"#, r#"{"product": 3}"#] {
        assert_eq!(shop.ask("POST", "/cart/anna", line).0, 201);
    }
    let checkout = r#"{"id": "annas", "session": "anna"}"#;
    assert_eq!(shop.ask("POST", "/checkout", checkout).0, 201);
    assert_eq!(shop.ask("POST", "/checkout", checkout).0, 200, "the same order again");
    let (_, order) = shop.ask("GET", "/orders/annas", "");
    assert!(order.contains(r#""items":3"#) && order.contains(r#""cents":1625"#), "{order}");
    let nothing = shop.ask("POST", "/checkout", r#"{"session": "anna"}"#);
    assert_eq!(nothing.0, 409, "{}", nothing.1);
}

/// More customers than three replicas can serve: a fourth is started and gets customers.
fn load_brings_replicas(shop: &Shop) {
    let host = shop.host(CONTROL);
    let mut command = host.command("curl");
    // Sixteen at a time, for as long as it takes.
    command.args(["-s", "-Z", "--parallel-max", "16", "-o", "/dev/null", "http://shop.lab/catalogue?[1-100000]"]);
    let _customers = host.start(command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()));
    let served_by_a_second = || shop.ask("GET", "/", "").1.contains("-2\"");
    assert!(
        wait_until(Duration::from_secs(30), served_by_a_second),
        "no host got a second replica:\n{}",
        shop.log("lb", "scaler")
    );
}
