//! MoveContainer: writes that a container moves, or stays after all; then a stream until it answers from its new node and
//! the old copy is gone. The move itself is the business of `moving`, whoever waits.

use containarium_proto::{
    error::{Reason, Refusal},
    ids::ContainerId,
    names::{NodeName, Username},
    spec::{Desired, Observed, Step},
    v1,
};

use super::{
    parse::Move,
    patience::until_heard,
    power::refuse_away,
    progress::{Goal, Look, Said, remark, step},
    refuse::{no_such_node, no_such_user, refuse_deleting},
    render, view,
};
use crate::{
    availability::Availability,
    clock,
    moving::{self, Begin},
    node::live::{self, Sights},
    placement, placing,
    reign::Reign,
    store::{EventKind, Held, MovePhase, MoveRow, WriteTx},
    version::refuse_older,
};

/// Steps that are counted: copying, stopping, starting, clearing away.
const STEPS: u32 = 4;

/// One line per node, best first; nothing is changed.
pub(super) async fn dry_run(reign: &Reign, request: &Move) -> Result<v1::Progress, Refusal> {
    reign.first_round().await;
    let mut tx = reign.write().await?;
    let held = home(&mut tx, &request.owner).await?;
    let verdicts = moving::judge(reign, &mut tx, &held).await?;
    let best = placement::chosen(&verdicts, request.to.as_ref());
    let name = request.owner.container_name();
    let message = match best {
        Some(best) => format!("{name} would move from {} to {}", held.placement.node, best.node),
        None => format!("{name} would stay on {}: {}", held.placement.node, placing::reasons(&verdicts)),
    };
    Ok(v1::Progress { verdicts: render::verdicts(&verdicts, request.to.as_ref()), ..remark(message) })
}

async fn home(tx: &mut WriteTx, owner: &Username) -> Result<Held, Refusal> {
    let rows = tx.reader().of_owner(owner).await?;
    view::principal(rows).pop().ok_or_else(|| no_such_user(owner.as_str()))
}

/// Writes the move, unless it is under way already, and gives what to wait for.
pub(super) async fn order(reign: &Reign, request: &Move) -> Result<Moved, Refusal> {
    reign.first_round().await;
    until_heard(reign, &request.owner).await?;
    let mut tx = reign.write().await?;
    let held = home(&mut tx, &request.owner).await?;
    let id = held.placement.container;
    if let Some(to) = &request.to
        && tx.reader().node(to).await?.is_none()
    {
        return Err(no_such_node(to.as_str()));
    }
    if let Some(row) = tx.reader().move_of(id).await? {
        let same = row.request == request.request || request.to.as_ref().is_some_and(|to| *to == row.target);
        return if same && row.phase != MovePhase::Cancelling {
            Ok(Moved::of(&row, request))
        } else {
            Err(busy(&held))
        };
    }
    let here = &held.placement.node;
    if request.to.as_ref() == Some(here) && held.placement.is_home() {
        return Ok(Moved::already(id, here, request));
    }
    // Its answer was lost: the move is done, and a repeated request is no new one.
    if held.placement.change_request == Some(request.request) {
        return Ok(Moved::already(id, here, request));
    }
    let sights = reign.sights();
    refuse_deleting(&mut tx, &held, "see 'containarium list'").await?;
    refuse_unmovable(&held, &sights)?;
    refuse_away(&held, &sights)?;
    refuse_older(here, "moves", &sights)?;
    let begin = Begin { held, to: request.to.clone(), request: request.request, why: "asked for" };
    let row = moving::begin(reign, &mut tx, &begin).await?;
    refuse_older(&row.target, "moves", &sights)?;
    tx.commit().await?;
    reign.wake_all();
    Ok(Moved::of(&row, request))
}

/// What is under way, to whom it matters that nothing else may change now.
pub(super) fn refuse_moving(held: &Held) -> Result<(), Refusal> {
    if held.moving.is_some() { Err(busy(held)) } else { Ok(()) }
}

fn busy(held: &Held) -> Refusal {
    let (owner, name) = (&held.container.owner, held.container.owner.container_name());
    let doing = held.moving.as_ref().map(|moving| {
        format!("moving from {} to {}, since {}", moving.source, moving.target, clock::shown(moving.started_at))
    });
    let message = format!("{name} is busy: {}", doing.unwrap_or_default());
    Refusal::new(Reason::Busy, message)
        .hint(format!("try again when it is done, or cancel with 'containarium move {owner} --cancel'"))
}

fn refuse_unmovable(held: &Held, sights: &Sights) -> Result<(), Refusal> {
    let (row, name) = (&held.placement, held.container.owner.container_name());
    if row.desired == Desired::Absent {
        return Err(Refusal::new(Reason::Busy, format!("{name} is being deleted")).hint("see 'containarium list'"));
    }
    if row.ever_ran
        && let (Observed::Running, Desired::Running) | (Observed::Stopped, Desired::Stopped) =
            (live::observed(held, sights), row.desired)
    {
        return Ok(());
    }
    let view = view::view(held.clone(), sights);
    let message = format!("{name} is {:?} on {}: only what runs, or was stopped, is moved", view.phase, row.node);
    let hint = format!("see 'containarium info {}'", held.container.owner);
    Err(Refusal::new(Reason::Busy, message).hint(hint))
}

/// Leaves it where it is.
pub(super) async fn cancel(reign: &Reign, request: &Move) -> Result<Moved, Refusal> {
    let mut tx = reign.write().await?;
    let held = home(&mut tx, &request.owner).await?;
    let name = request.owner.container_name();
    let Some(row) = tx.reader().move_of(held.placement.container).await? else {
        return Err(Refusal::new(Reason::Refused, format!("{name} is not being moved"))
            .hint(format!("it is on {}", held.placement.node)));
    };
    if row.phase == MovePhase::Cancelling {
        return Ok(Moved { cancelling: true, ..Moved::of(&row, request) });
    }
    if !moving::may_cancel(row.phase) {
        return Err(Refusal::new(Reason::Refused, format!("{name} has moved to {} already", row.target))
            .hint(format!("'containarium move {} --to {}' moves it back", request.owner, row.source)));
    }
    moving::cancel(&mut tx, &row, "cancelled by an operator").await?;
    tx.commit().await?;
    reign.wake_all();
    Ok(Moved { cancelling: true, ..Moved::of(&row, request) })
}

/// Waits until both nodes are clean.
pub(super) struct Moved {
    id: ContainerId,
    owner: Username,
    target: NodeName,
    /// That it stays is what was asked for.
    cancelling: bool,
    /// It was there before this command.
    already: bool,
    /// What was last said of the copy: between two looks at it there may be nothing to say.
    detail: String,
    said: Said,
}

impl Moved {
    fn of(row: &MoveRow, request: &Move) -> Self {
        let (id, target, owner) = (row.container, row.target.clone(), request.owner.clone());
        Self { id, owner, target, cancelling: false, already: false, detail: String::new(), said: Said::default() }
    }

    fn already(id: ContainerId, node: &NodeName, request: &Move) -> Self {
        let owner = request.owner.clone();
        Self {
            id,
            owner,
            target: node.clone(),
            cancelling: false,
            already: true,
            detail: String::new(),
            said: Said::default(),
        }
    }

    fn under_way(&mut self, row: &MoveRow, rows: &[Held], sights: &Sights) -> Look {
        let on = |node: &NodeName| rows.iter().find(|held| held.placement.node == *node);
        let doing = |node: &NodeName| on(node).map(|held| live::observed(held, sights));
        let detail = match doing(&row.target) {
            Some(Observed::Failed { error, permanent: false }) => format!(": failed, trying again: {error}"),
            // While it copies, only how far that is; the little steps between belong to no one.
            Some(Observed::Converging { step: Step { title, .. } })
                if row.phase == MovePhase::Starting || title.starts_with("pass ") =>
            {
                format!(": {title}")
            }
            Some(Observed::Converging { .. } | Observed::AwaitingCopy | Observed::AwaitingWord | Observed::Unknown) => {
                self.detail.clone()
            }
            _ => String::new(),
        };
        self.detail.clone_from(&detail);
        let MoveRow { source, target, .. } = row;
        let progress = match row.phase {
            MovePhase::Copying => step(1, STEPS, format!("copying to {target} while it runs{detail}")),
            MovePhase::Stopping => step(2, STEPS, format!("stopping on {source}")),
            MovePhase::Finishing => step(2, STEPS, format!("copying the last changes{detail}")),
            MovePhase::Starting => step(3, STEPS, format!("starting on {target}{detail}")),
            MovePhase::Cleaning => step(4, STEPS, format!("it answers on {target}; removing the copy on {source}")),
            MovePhase::Cancelling => remark(format!("it stays on {source}: {}", row.reason)),
        };
        if let Some(look) = self.said.news(progress) {
            return look;
        }
        let waits_for = match row.phase {
            MovePhase::Cleaning => source,
            MovePhase::Cancelling => target,
            MovePhase::Copying | MovePhase::Stopping | MovePhase::Finishing | MovePhase::Starting => {
                return Look::Wait(None);
            }
        };
        if live::availability(waits_for, sights) != Availability::Offline {
            return Look::Wait(None);
        }
        let message = format!("{waits_for} is away and destroys its copy when it is back");
        let container = self.shown(rows, sights);
        Look::Done(v1::Progress { container, pending: true, ..remark(message) })
    }

    fn shown(&self, rows: &[Held], sights: &Sights) -> Option<v1::Container> {
        let held = view::principal(rows.to_vec()).pop()?;
        Some(render::container(&view::view(held, sights)))
    }
}

impl Goal for Moved {
    async fn look(&mut self, reign: &Reign) -> Result<Look, Refusal> {
        let mut reader = reign.store.reader().await?;
        let row = reader.move_of(self.id).await?;
        let rows = reader.of_container(self.id).await?;
        let name = self.owner.container_name();
        let last = reader.last_event(&name, &[EventKind::ContainerMoved, EventKind::ContainerMoveCancelled]).await?;
        drop(reader);
        let sights = reign.sights();
        if let Some(row) = row {
            return Ok(self.under_way(&row, &rows, &sights));
        }
        let Some(home) = rows.iter().find(|held| held.placement.is_home()) else {
            return Err(
                Refusal::new(Reason::Busy, format!("{name} was deleted meanwhile")).hint("see 'containarium events'")
            );
        };
        let told = last.map(|event| event.message).unwrap_or_default();
        let node = &home.placement.node;
        let message = match (*node == self.target, self.cancelling) {
            (true, _) if self.already => format!("{name} is on {node}"),
            (true, false) => format!("{name} has moved {told}"),
            (false, true) => told,
            (true, true) => format!("{name} has moved to {node} before it could be cancelled"),
            (false, false) => {
                return Err(Refusal::new(Reason::ContainerFailed, format!("{name} was not moved: {told}"))
                    .hint(format!("see 'containarium events --subject {name}'")));
            }
        };
        Ok(Look::Done(v1::Progress { container: self.shown(&rows, &sights), ..remark(message) }))
    }
}
