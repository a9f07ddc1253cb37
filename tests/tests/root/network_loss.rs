//! `network-loss`: counted between hosts.

use squall_tests::scene::{holds, seconds};

#[test]
fn loss_takes_its_share_of_packets() {
    let step = "fault: network-loss
    on: {nodes: {role: server}}
    with: {percent: 30%, direction: from, peerNodes: {role: client}}
    for: ";
    holds("loss_takes_its_share_of_packets", &(step.to_owned() + &seconds(5)), |scene, _| {
        let lost = scene.udp("a", "b", 200).lost();
        // Binomial, n = 200, p = 0.3.
        assert!((35..90).contains(&lost), "lost {lost} of 200 at 30 %");
        assert_eq!(scene.udp("ctl", "b", 50).lost(), 0, "another peer lost packets");
    });
}

#[test]
fn total_loss_lets_nothing_through_and_ends() {
    let step = "fault: network-loss
    on: {nodes: {role: server}}
    with: {percent: 100%, peerNodes: {role: client}}
    for: ";
    holds("total_loss_lets_nothing_through_and_ends", &(step.to_owned() + &seconds(3)), |scene, run| {
        assert_eq!(scene.udp("a", "b", 10).answered(), 0);
        assert_eq!(scene.udp6("a", "b", 10).answered(), 0);
        run.finish();
        assert_eq!(scene.udp("a", "b", 10).lost(), 0, "packets are still lost after the end");
    });
}
