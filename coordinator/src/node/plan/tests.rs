use containarium_proto::{ids::Generation, spec::Step};
use proptest::prelude::*;

use super::*;
use crate::store::testing;

fn held(desired: Desired, generation: u64) -> Held {
    let mut held = testing::held("alice", "jump-1", 2);
    held.placement.desired = desired;
    held.placement.generation = Generation(generation);
    held
}

fn report(held: &Held, generation: u64, observed: Observed) -> ContainerReport {
    let name = held.container.owner.container_name();
    let (id, generation, drift) = (held.container.id, Generation(generation), Vec::new());
    ContainerReport { id, name, generation, observed, drift, idle_since: None, claim: None }
}

fn ordered(held: &Held, reports: &[ContainerReport]) -> usize {
    let reported = reports.iter().map(|r| (r.id, r.clone())).collect();
    orders(std::slice::from_ref(held), &reported).len()
}

#[test]
fn an_order_is_given_until_the_node_has_it_and_never_when_it_is_ahead() {
    let running = held(Desired::Running, 2);
    assert_eq!(ordered(&running, &[]), 1, "missing is not absent (I5)");
    assert_eq!(ordered(&running, &[report(&running, 1, Observed::Running)]), 1);
    assert_eq!(ordered(&running, &[report(&running, 2, Observed::Stopped)]), 0, "it has the order");
    assert_eq!(ordered(&running, &[report(&running, 3, Observed::Running)]), 0, "it is ahead of us");
    let absent = held(Desired::Absent, 2);
    assert_eq!(ordered(&absent, &[report(&absent, 2, Observed::Running)]), 1, "not yet confirmed");
    assert_eq!(ordered(&absent, &[report(&absent, 2, Observed::Absent)]), 0);
}

#[test]
fn only_settled_news_of_our_generation_is_recorded() {
    let running = held(Desired::Running, 2);
    let news = |held: &Held, generation, observed| {
        let reports = [report(held, generation, observed)];
        findings(std::slice::from_ref(held), &reports).len()
    };
    let step = Observed::Converging { step: Step { index: 1, total: 2, title: "x".into() } };
    assert_eq!(news(&running, 2, step), 0);
    assert_eq!(news(&running, 1, Observed::Running), 0, "an older generation");
    assert_eq!(news(&running, 2, Observed::Running), 1);
    let mut known = running.clone();
    (known.placement.observed, known.placement.observed_generation) = (Observed::Running, Generation(2));
    assert_eq!(news(&known, 2, Observed::Running), 0, "known already");
    let found = |held: &Held, generation| {
        let reports = [report(held, generation, Observed::Absent)];
        findings(std::slice::from_ref(held), &reports)
    };
    assert!(matches!(found(&running, 2)[..], [Finding::Settled { observed: Observed::Absent, .. }]), "lost, not gone");
    let absent = held(Desired::Absent, 3);
    assert!(matches!(found(&absent, 3)[..], [Finding::Gone { .. }]));
    assert!(found(&absent, 2).is_empty(), "the confirmation of another generation");
    let stranger = testing::held("mallory", "jump-1", 9);
    assert!(findings(&[absent], &[report(&stranger, 3, Observed::Absent)]).is_empty());
}

proptest! {
    #[test]
    fn nothing_is_destroyed_that_is_not_wanted_absent(
        wanted in 0u8..3, generation in 1u64..5, reported in prop::option::of((1u64..6, 0u8..4)),
    ) {
        let desired = [Desired::Running, Desired::Stopped, Desired::Absent][usize::from(wanted)];
        let held = held(desired, generation);
        let observed = |n: u8| match n {
            0 => Observed::Absent,
            1 => Observed::Running,
            2 => Observed::Stopped,
            _ => Observed::Failed { error: "x".into(), permanent: true },
        };
        let reports: Vec<_> = reported.map(|(g, o)| report(&held, g, observed(o))).into_iter().collect();
        let map = reports.iter().map(|r| (r.id, r.clone())).collect();
        for order in orders(std::slice::from_ref(&held), &map) {
            prop_assert_eq!(order.order.desired, desired);
            prop_assert_eq!(order.order.generation, Generation(generation));
        }
        for finding in findings(std::slice::from_ref(&held), &reports) {
            if let Finding::Gone { .. } = finding {
                prop_assert_eq!(desired, Desired::Absent);
                prop_assert_eq!(reported, Some((generation, 0)));
            }
        }
    }
}

#[test]
fn drift_is_news_when_it_changes_and_only_of_what_is_at_rest() {
    let mut known = held(Desired::Running, 2);
    (known.placement.observed, known.placement.observed_generation) = (Observed::Running, Generation(2));
    let found = |held: &Held, observed, lines: &[&str]| {
        let drift = lines.iter().map(|line| (*line).to_owned()).collect();
        findings(std::slice::from_ref(held), &[ContainerReport { drift, ..report(held, 2, observed) }])
    };
    assert!(found(&known, Observed::Running, &[]).is_empty());
    assert!(matches!(found(&known, Observed::Running, &["x"])[..], [Finding::Drifted { .. }]));
    let step = Observed::Converging { step: Step { index: 1, total: 2, title: "x".into() } };
    assert!(found(&known, step, &["x"]).is_empty(), "it is being worked on");
    known.placement.drift = vec!["x".into()];
    assert!(found(&known, Observed::Running, &["x"]).is_empty(), "known already");
    assert!(matches!(&found(&known, Observed::Running, &[])[..], [Finding::Drifted { drift, .. }] if drift.is_empty()));
}

#[test]
fn a_licence_goes_with_its_order() {
    let mut repairing = held(Desired::Running, 2);
    repairing.placement.licence = Some(Licence::Repair);
    assert_eq!(orders(&[repairing], &BTreeMap::new())[0].licence, Some(Licence::Repair));
}
