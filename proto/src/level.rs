//! Which parts of an order an agent understands. A part that it does not know is dropped on the wire without a word, and the
//! order then means something else: a copy that is to be received would be an empty machine. So an order is only given to
//! an agent that reports the level that the order needs.
//!
//! | level | since |
//! |---|---|
//! | 0 | create, power, limits, keys, delete |
//! | 1 | copies, licences, backups as origin, guests, fences |
//!
//! Whoever adds a part to `ApplyRequest` that an older agent must not drop adds a line, and a case below.

use crate::node::{Licence, Order};

/// What this version understands.
pub const LEVEL: u32 = 1;

/// What an agent must understand to carry out an order.
#[must_use]
pub fn needed(order: &Order, licence: Option<&Licence>) -> u32 {
    let Order { copy_pass, origin, guests, spec, .. } = order;
    let later = copy_pass.is_some() || origin.is_some() || !guests.is_empty() || spec.fenced || licence.is_some();
    u32::from(later)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::{ContainerId, Generation},
        keys::KeySet,
        node::{CopyPass, Guest},
        sizes::Bytes,
        spec::{Desired, Spec},
    };

    #[test]
    fn what_was_there_from_the_beginning_needs_nothing_and_what_came_later_its_level() {
        let plain = Order {
            id: ContainerId::generate(),
            name: "alice-container".into(),
            owner: "alice".parse().unwrap(),
            generation: Generation(3),
            desired: Desired::Running,
            spec: Spec {
                cpu: "1".parse().unwrap(),
                memory: Bytes(4 << 30),
                disk: Bytes(20_000_000_000),
                image: "a".repeat(64).parse().unwrap(),
                autostart: true,
                restarts: 1,
                fenced: false,
            },
            address: [10, 100, 1, 2].into(),
            keys: KeySet::from_recorded([]).unwrap(),
            copy_pass: None,
            origin: None,
            guests: Vec::new(),
        };
        assert_eq!(needed(&plain, None), 0);
        assert_eq!(needed(&plain, Some(&Licence::Repair)), 1);
        let fenced = Spec { fenced: true, ..plain.spec.clone() };
        assert_eq!(needed(&Order { spec: fenced, ..plain.clone() }, None), 1);
        assert_eq!(needed(&Order { copy_pass: Some(CopyPass::FIRST), ..plain.clone() }, None), 1);
        let bob = Guest { user: "bob".parse().unwrap(), sudo: false, keys: KeySet::from_recorded([]).unwrap() };
        assert_eq!(needed(&Order { guests: vec![bob], ..plain }, None), LEVEL);
    }
}
