//! SetPower: a new generation of the placement that says started, stopped or restarted once more; then a stream until
//! the node has said so. It must never change anything that its node cannot be told now.

use containarium_proto::{
    error::{Reason, Refusal},
    ids::{ContainerId, Generation},
    spec::{Desired, Observed},
    v1,
};

use super::{
    parse::{Action, Power},
    progress::{Goal, Look, Said, agent_step, remark},
    refuse::no_such_user,
    render,
    view::{self, availability},
};
use crate::{
    availability::Availability,
    node::live::Sights,
    reign::Reign,
    store::{EventKind, Held, PlacementRow},
};

/// Records the change, if it is one, and gives what to wait for.
pub(super) async fn set(reign: &Reign, power: &Power) -> Result<Powered, Refusal> {
    reign.first_round().await;
    let mut tx = reign.write().await?;
    let rows = tx.reader().of_owner(&power.owner).await?;
    let held = view::principal(rows).pop().ok_or_else(|| no_such_user(power.owner.as_str()))?;
    let row = &held.placement;
    if row.desired == Desired::Absent {
        return Err(Refusal::new(Reason::Busy, format!("{}'s container is being deleted", power.owner))
            .hint("there is nothing left to start or stop; see 'containarium list'"));
    }
    let sights = reign.sights();
    let now = view::observed(&held, &sights);
    if is_asked_for(power, row, &now) {
        return Ok(Powered::new(row, power.action));
    }
    refuse_away(&held, &sights)?;
    let next = next_order(power, row);
    tx.change_order(&next).await?;
    let kind = match power.action {
        Action::Start => EventKind::ContainerStarting,
        Action::Stop => EventKind::ContainerStopping,
        Action::Restart => EventKind::ContainerRestarting,
    };
    tx.note(&power.owner.container_name(), kind, &format!("on {}", row.node)).await?;
    tx.commit().await?;
    reign.wake_all();
    Ok(Powered::new(&next, power.action))
}

/// Whether it is so already, or on its way there.
fn is_asked_for(power: &Power, row: &PlacementRow, now: &Observed) -> bool {
    if row.power_request == Some(power.request) {
        return true;
    }
    let on_its_way = matches!(now, Observed::Unknown | Observed::Converging { .. });
    match power.action {
        Action::Start => row.desired == Desired::Running && (on_its_way || *now == Observed::Running),
        Action::Stop => row.desired == Desired::Stopped && (on_its_way || *now == Observed::Stopped),
        Action::Restart => false,
    }
}

fn refuse_away(held: &Held, sights: &Sights) -> Result<(), Refusal> {
    let node = &held.placement.node;
    match availability(node, sights) {
        Availability::Online => Ok(()),
        Availability::Unknown | Availability::Suspect | Availability::Offline => {
            let message = format!("{node} does not answer, last heard {}", view::last_heard(sights.get(node)));
            Err(Refusal::new(Reason::NodeUnavailable, message).hint("nothing was changed; try again when it is back"))
        }
    }
}

fn next_order(power: &Power, row: &PlacementRow) -> PlacementRow {
    let mut next =
        PlacementRow { generation: row.generation.next(), power_request: Some(power.request), ..row.clone() };
    match power.action {
        Action::Start => next.desired = Desired::Running,
        Action::Stop => next.desired = Desired::Stopped,
        Action::Restart => {
            next.desired = Desired::Running;
            next.spec.restarts += 1;
        }
    }
    next
}

/// Waits until the node has said that it is so.
pub(super) struct Powered {
    id: ContainerId,
    generation: Generation,
    action: Action,
    said: Said,
}

impl Powered {
    fn new(row: &PlacementRow, action: Action) -> Self {
        Self { id: row.container, generation: row.generation, action, said: Said::default() }
    }
}

impl Goal for Powered {
    async fn look(&mut self, reign: &Reign) -> Result<Look, Refusal> {
        let sights = reign.sights();
        let rows = reign.store.reader().await?.of_container(self.id).await?;
        let current = rows.into_iter().find(|h| h.placement.desired != Desired::Absent);
        let Some(held) = current.filter(|h| h.placement.generation == self.generation) else {
            return Err(Refusal::new(Reason::Busy, "another command took over while this one waited")
                .hint("see 'containarium events'"));
        };
        let (user, node) = (held.container.owner.clone(), held.placement.node.clone());
        let said = match (view::observed(&held, &sights), self.action) {
            (Observed::Running, Action::Start | Action::Restart) => return Ok(done(held, &sights, "running")),
            (Observed::Stopped, Action::Stop) => return Ok(done(held, &sights, "stopped")),
            (Observed::Failed { error, permanent: true }, _) => {
                return Err(Refusal::new(Reason::ContainerFailed, error)
                    .hint(format!("see 'containarium info {user}'; repeat the command to try again")));
            }
            (Observed::Failed { error, permanent: false }, _) => {
                self.said.news(remark(format!("failed, trying again: {error}")))
            }
            (Observed::Converging { step: at }, _) => self.said.news(agent_step(at, (0, 0))),
            (Observed::Unknown | Observed::Absent | Observed::Running | Observed::Stopped, _) => None,
        };
        if let Some(look) = said {
            return Ok(look);
        }
        if availability(&node, &sights) == Availability::Offline {
            let message = format!("{node} went away: it is done when the node is back");
            let container = Some(render::container(&view::view(held, &sights)));
            return Ok(Look::Done(v1::Progress { container, pending: true, ..remark(message) }));
        }
        Ok(Look::Wait(None))
    }
}

fn done(held: Held, sights: &Sights, word: &str) -> Look {
    let message = format!("{} is {word}", held.container.owner.container_name());
    let container = Some(render::container(&view::view(held, sights)));
    Look::Done(v1::Progress { container, ..remark(message) })
}
