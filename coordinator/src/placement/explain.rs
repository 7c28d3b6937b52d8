//! Why a node was chosen, or was not, in one line for people: the first part of the score in which two nodes differ. It
//! must never decide: it reads verdicts that were given.

use std::cmp::Ordering;

use containarium_proto::names::NodeName;

use super::{Score, Verdict};

/// What a create gets: the node that is asked for, else the best; none if that does not fit.
pub(crate) fn chosen<'a>(verdicts: &'a [Verdict], pinned: Option<&NodeName>) -> Option<&'a Verdict> {
    let mut asked = verdicts.iter().filter(|v| pinned.is_none_or(|node| v.node == *node));
    asked.find(|v| v.fit.is_ok())
}

/// Why `verdict` is or is not what [`chosen`] gives.
pub(crate) fn explain(verdict: &Verdict, verdicts: &[Verdict], pinned: Option<&NodeName>) -> String {
    let score = match &verdict.fit {
        Ok(fit) => &fit.score,
        Err(why) => return why.clone(),
    };
    let why = match (pinned, chosen(verdicts, pinned)) {
        (Some(node), _) if *node == verdict.node => "chosen: it was asked for".to_owned(),
        (Some(node), _) => format!("not chosen: {node} was asked for"),
        (None, Some(best)) if best.node != verdict.node => {
            format!("not chosen: {}", best.score().map(|best| beside(best, score)).unwrap_or_default())
        }
        (None, _) => match verdicts.iter().filter(|v| v.node != verdict.node).filter_map(Verdict::score).min() {
            Some(next) => format!("chosen: {}", before(score, next)),
            None => "chosen: no other node fits".to_owned(),
        },
    };
    let fullest = verdict.loads.map(|loads| (loads.fullest().what, percent(loads.fullest().permille())));
    let fullest = fullest.map(|(what, load)| format!("; fullest of the three would be {what} {load}"));
    format!("{why}{}", fullest.unwrap_or_default())
}

/// What the winner has before the next best.
fn before(best: &Score, next: &Score) -> String {
    let name = &next.name;
    match first_difference(best, next) {
        Differs::Apart => {
            format!(
                "leaves fullest and emptiest {} apart, {name} {}",
                half_percent(best.apart),
                half_percent(next.apart)
            )
        }
        Differs::Weight => {
            format!(
                "as even as {name}, and less loaded: {}, {name} {}",
                half_percent(best.weight),
                half_percent(next.weight)
            )
        }
        Differs::Containers => {
            format!("as loaded as {name}, and holds fewer containers: {}, {name} {}", best.containers, next.containers)
        }
        Differs::Name => format!("equal to {name}, and first by name"),
    }
}

/// The same as one that did not win says it.
fn beside(best: &Score, this: &Score) -> String {
    let name = &best.name;
    match first_difference(best, this) {
        Differs::Apart => {
            let (apart, less) = (half_percent(this.apart), half_percent(best.apart));
            format!("would leave fullest and emptiest {apart} apart, {name} {less}")
        }
        Differs::Weight => {
            let (weight, less) = (half_percent(this.weight), half_percent(best.weight));
            format!("as even as {name}, but more loaded: {weight}, {name} {less}")
        }
        Differs::Containers => {
            format!("as loaded as {name}, but holds more containers: {}, {name} {}", this.containers, best.containers)
        }
        Differs::Name => format!("equal to {name}, which is first by name"),
    }
}

enum Differs {
    Apart,
    Weight,
    Containers,
    Name,
}

/// In the order of the score's own fields.
fn first_difference(one: &Score, other: &Score) -> Differs {
    let Score { apart, weight, containers, name: _ } = one;
    if apart.cmp(&other.apart) != Ordering::Equal {
        Differs::Apart
    } else if weight.cmp(&other.weight) != Ordering::Equal {
        Differs::Weight
    } else if containers.cmp(&other.containers) != Ordering::Equal {
        Differs::Containers
    } else {
        Differs::Name
    }
}

/// Of thousandths.
fn percent(permille: u32) -> String {
    format!("{}.{}%", permille / 10, permille % 10)
}

/// Of thousandths counted twice: see [`Score`].
fn half_percent(twice: u32) -> String {
    let hundredths = u64::from(twice) * 5;
    format!("{}.{:02}%", hundredths / 100, hundredths % 100)
}
