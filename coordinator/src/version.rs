//! What versions mean beside each other: agents are upgraded first, and an older one is not given what it would not
//! understand. Pure.

use containarium_proto::{
    error::{Reason, Refusal},
    level,
    names::NodeName,
};

use crate::node::live::{Sight, Sights};

/// Whether an agent understands orders of a level. One that has not said anything yet is not asked.
pub(crate) fn understands(sight: &Sight, level: u32) -> bool {
    sight.report.as_ref().is_none_or(|report| report.level >= level)
}

/// Before anything is written that an agent would not be given. `what`: "moves".
pub(crate) fn refuse_older(node: &NodeName, what: &str, sights: &Sights) -> Result<(), Refusal> {
    if sights.get(node).is_none_or(|sight| understands(sight, level::LEVEL)) {
        return Ok(());
    }
    let message = format!("the agent of {node} is older than this coordinator and does not know {what}");
    Err(Refusal::new(Reason::Refused, message).hint("upgrade the agent; nothing was changed"))
}

/// Major and minor: what is released together works together whatever the patch.
fn release(version: &str) -> Option<(u64, u64)> {
    let mut numbers = version.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// For an operator, if an agent's version is before ours.
pub(crate) fn older_agent(agent: &str, ours: &str) -> Option<String> {
    let is_older = release(agent)? < release(ours)?;
    is_older.then(|| {
        format!("its agent, {agent}, is older than this coordinator, {ours}: upgrade it before anything new is ordered")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_older_release_is_told_of() {
        for (agent, ours, told) in [
            ("0.1.0", "0.1.0", false),
            ("0.1.0", "0.1.9", false),
            ("0.9.3", "0.10.0", true),
            ("0.10.0", "0.9.3", false),
            ("1.2.0", "2.0.0-rc.1", true),
            ("", "0.1.0", false),
        ] {
            assert_eq!(older_agent(agent, ours).is_some(), told, "{agent} beside {ours}");
        }
    }
}
