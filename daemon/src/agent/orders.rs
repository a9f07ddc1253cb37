//! Which frames of a connection are orders for this agent: signed by its coordinator, for this node and connection, newer than the last.
//! Pure. What is refused here is never looked at by anything else.
//!
//! A halt counts whenever it is signed for this node, also replayed and from any epoch: stopping is always right.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{ED25519, UnparsedPublicKey};
use squall_experiments::wire::{Signed, ToAgent};

/// The coordinator's public key for orders (Ed25519).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderKey(pub [u8; 32]);

impl OrderKey {
    /// From a SubjectPublicKeyInfo (RFC 8410).
    pub fn from_spki(der: &[u8]) -> Option<Self> {
        let key = der.strip_prefix(&[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00])?;
        key.try_into().ok().map(OrderKey)
    }
}

/// Of one connection.
#[derive(Debug)]
pub struct Orders {
    key: OrderKey,
    node: String,
    /// Said in `Hello`, drawn anew for each connection.
    session: String,
    /// (epoch, sequence) of the last order that was accepted.
    last: (u64, u64),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it is not signed by this node's coordinator, or was changed on its way")]
    Signature,
    #[error("it was signed for the node {0}")]
    OtherNode(String),
    #[error("it was signed for another connection of this node")]
    OtherSession,
    #[error("it is of epoch {0}, and this agent follows epoch {1}")]
    StaleEpoch(u64, u64),
    #[error("it is number {0} and number {1} was there before")]
    Replayed(u64, u64),
    #[error("this agent does not know such an order: {0}")]
    Unknown(String),
}

impl Orders {
    /// `epoch`: the highest that this agent has followed.
    pub fn new(key: OrderKey, node: &str, session: &str, epoch: u64) -> Self {
        Orders { key, node: node.to_owned(), session: session.to_owned(), last: (epoch, 0) }
    }

    /// The order, which is from now on the newest.
    pub fn accept(&mut self, signed: &Signed) -> Result<ToAgent, Refusal> {
        let signature = URL_SAFE_NO_PAD.decode(&signed.signature).map_err(|_| Refusal::Signature)?;
        let key = UnparsedPublicKey::new(&ED25519, &self.key.0);
        key.verify(&signed.covered(), &signature).map_err(|_| Refusal::Signature)?;
        if signed.node != self.node {
            return Err(Refusal::OtherNode(signed.node.clone()));
        }
        let order = serde_json::from_str(&signed.order).map_err(|error| Refusal::Unknown(error.to_string()))?;
        if matches!(order, ToAgent::Halt { .. }) {
            return Ok(order);
        }
        if signed.session != self.session {
            return Err(Refusal::OtherSession);
        }
        let (epoch, sequence) = self.last;
        if signed.epoch < epoch {
            return Err(Refusal::StaleEpoch(signed.epoch, epoch));
        }
        if signed.epoch == epoch && signed.sequence <= sequence {
            return Err(Refusal::Replayed(signed.sequence, sequence));
        }
        self.last = (signed.epoch, signed.sequence);
        Ok(order)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;

    fn pair(seed: u8) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
    }

    fn orders(epoch: u64) -> Orders {
        let key = pair(1).public_key().as_ref().try_into().unwrap();
        Orders::new(OrderKey(key), "db1", "now", epoch)
    }

    fn signed(by: u8, node: &str, session: &str, epoch: u64, sequence: u64, order: &ToAgent) -> Signed {
        let order = serde_json::to_string(order).unwrap();
        let (node, session, signature) = (node.to_owned(), session.to_owned(), String::new());
        let mut signed = Signed { node, session, epoch, sequence, order, signature };
        signed.signature = URL_SAFE_NO_PAD.encode(pair(by).sign(&signed.covered()));
        signed
    }

    fn revert() -> ToAgent {
        ToAgent::Revert { epoch: 3, injection: "run/0.db1".into() }
    }

    #[test]
    fn each_way_of_being_wrong_is_refused_for_its_own_reason() {
        let mut orders = orders(3);
        let good = signed(1, "db1", "now", 3, 7, &revert());
        assert_eq!(orders.accept(&good), Ok(revert()));
        assert_eq!(orders.accept(&good), Err(Refusal::Replayed(7, 7)));
        assert_eq!(orders.accept(&signed(1, "db1", "now", 3, 6, &revert())), Err(Refusal::Replayed(6, 7)));
        assert_eq!(orders.accept(&signed(1, "db2", "now", 3, 8, &revert())), Err(Refusal::OtherNode("db2".into())));
        assert_eq!(orders.accept(&signed(1, "db1", "then", 3, 8, &revert())), Err(Refusal::OtherSession));
        assert_eq!(orders.accept(&signed(1, "db1", "now", 2, 8, &revert())), Err(Refusal::StaleEpoch(2, 3)));
        assert_eq!(orders.accept(&signed(2, "db1", "now", 3, 8, &revert())), Err(Refusal::Signature));
        assert_eq!(orders.accept(&signed(1, "db1", "now", 3, 8, &revert())), Ok(revert()));
    }

    #[test]
    fn a_halt_counts_from_any_epoch_and_again_but_only_signed_and_for_this_node() {
        let halt = ToAgent::Halt { run: None };
        let mut orders = orders(9);
        for _ in 0..2 {
            assert_eq!(orders.accept(&signed(1, "db1", "then", 1, 1, &halt)), Ok(halt.clone()));
        }
        assert_eq!(orders.accept(&signed(2, "db1", "now", 9, 1, &halt)), Err(Refusal::Signature));
        assert!(matches!(orders.accept(&signed(1, "db2", "now", 9, 1, &halt)), Err(Refusal::OtherNode(_))));
        // It moves nothing: the next order is judged as if it had not been there.
        assert_eq!(orders.accept(&signed(1, "db1", "now", 9, 1, &revert())), Ok(revert()));
    }

    #[test]
    fn parts_cannot_be_shifted_into_each_other() {
        let mut good = signed(1, "db1", "now", 3, 7, &revert());
        good.node = "db1n".into();
        good.session = "ow".into();
        assert_eq!(orders(0).accept(&good), Err(Refusal::Signature));
    }

    proptest! {
        #[test]
        fn any_history_is_judged_as_the_rule_says(
            history in prop::collection::vec((1..3_u8, any::<bool>(), any::<bool>(), 0..4_u64, 0..6_u64, any::<bool>()), 0..40),
            first in 0..3_u64,
        ) {
            let mut orders = orders(first);
            let (mut epoch, mut sequence) = (first, 0);
            for (by, mine, now, of, number, halts) in history {
                let order = if halts { ToAgent::Halt { run: None } } else { revert() };
                let frame = signed(by, if mine { "db1" } else { "db2" }, if now { "now" } else { "then" }, of, number, &order);
                let newer = of > epoch || (of == epoch && number > sequence);
                let expected = by == 1 && mine && (halts || (now && newer));
                prop_assert_eq!(orders.accept(&frame).is_ok(), expected);
                if expected && !halts {
                    (epoch, sequence) = (of, number);
                }
            }
        }

        #[test]
        fn no_changed_frame_is_ever_taken(place in any::<prop::sample::Index>(), bit in 0..7_u8, halts in any::<bool>()) {
            let order = if halts { ToAgent::Halt { run: Some("run".into()) } } else { revert() };
            let good = signed(1, "db1", "now", 3, 7, &order);
            let mut bytes = serde_json::to_vec(&good).unwrap();
            let place = place.index(bytes.len());
            bytes[place] ^= 1 << bit;
            // Bytes that are no frame any more never get here.
            if let Ok(changed) = serde_json::from_slice::<Signed>(&bytes) {
                prop_assert!(changed == good || orders(0).accept(&changed).is_err());
            }
        }
    }
}
