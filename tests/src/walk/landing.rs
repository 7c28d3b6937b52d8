//! Seeing a deed to its end, as the CLI does, and what its end says. It must never ask under another request id.

use std::time::{Duration, Instant};

use containarium_proto::{
    error::{Reason, Refusal},
    v1,
};
use tonic::Status;

use super::{Flight, PATIENCE, Tally, Walker, decisions::Deed, model::Outcome};
use crate::{fleet::eventually, matrix::is_worth_repeating};

/// What is asked for again and again is answered within this.
const ANSWERED: Duration = Duration::from_secs(90);
/// A node that does not answer is offline by then.
const OFFLINE_WITHIN: Duration = Duration::from_secs(2);
/// Between two tries.
const TRY_AGAIN: Duration = Duration::from_millis(20);

impl Walker {
    /// "nothing was changed; try again in half a minute"
    fn is_not_offline_yet(&self, deed: &Deed, outcome: &Result<v1::Progress, Status>, since: Instant) -> bool {
        let Deed::Failover { user } = deed else { return false };
        let reason = outcome.as_ref().err().and_then(Refusal::from_status).map(|refusal| refusal.reason);
        matches!(reason, Some(Reason::Refused | Reason::NodeUnavailable))
            && since.elapsed() < OFFLINE_WITHIN
            && self.home_of(user).is_some_and(|home| self.is_away(home))
    }

    /// Sees one thing to its end, as the CLI does: it repeats what nobody answered, and asks another coordinator.
    pub(super) fn land(&mut self, at: usize, tally: &mut Tally) {
        let mut flight = self.flights.remove(at);
        let started = Instant::now();
        loop {
            let may_act_late = self.fleet.may_act_late();
            let answered = self.answered(&flight, tally);
            let Flight { deed, request, running, asked, unsure } = flight;
            if answered {
                let outcome = self.fleet.join(running);
                if self.is_not_offline_yet(&deed, &outcome, started) {
                    flight = self.try_again(deed, request, unsure);
                    continue;
                }
                if !outcome.as_ref().is_err_and(nobody_answered) {
                    return self.note(&deed, &outcome, unsure, tally);
                }
            } else {
                self.strays.push(running);
            }
            tally.unanswered += 1;
            assert!(started.elapsed() < ANSWERED, "nobody ever answers: {deed:?}");
            if may_act_late || self.fleet.may_act_late() {
                self.model.may_come_late(&deed);
            }
            if asked == self.fleet.asked() {
                self.fleet.ask_next();
            }
            flight = self.try_again(deed, request, true);
        }
    }

    fn try_again(&self, deed: Deed, request: String, unsure: bool) -> Flight {
        std::thread::sleep(TRY_AGAIN);
        let running = deed.ask(&self.fleet, &request).expect("a request");
        Flight { deed, request, running, asked: self.fleet.asked(), unsure }
    }

    /// Waits until it is; false: whoever was asked never will.
    fn answered(&mut self, flight: &Flight, tally: &mut Tally) -> bool {
        let (began, mut started, mut silent) = (Instant::now(), Instant::now(), false);
        eventually(&format!("it ends: {:?}", flight.deed), || {
            tally.mishaps += u32::from(self.fleet.revive());
            assert!(began.elapsed() < PATIENCE, "{:?} never ends: {}", flight.deed, self.known_of(&flight.deed));
            if started.elapsed() > self.fleet.patience() {
                silent = self.fleet.is_silent(flight.asked);
                if !silent {
                    self.return_all();
                }
                started = Instant::now();
            }
            silent || flight.running.is_finished()
        });
        !silent || flight.running.is_finished()
    }

    /// For whoever must find out why something hangs.
    fn known_of(&self, deed: &Deed) -> String {
        let name = format!("{}-container", deed.user().unwrap_or_default());
        let listed: Vec<_> = self.fleet.list().into_iter().filter(|container| container.name == name).collect();
        let events: Vec<_> = self.fleet.events(&name).into_iter().take(30).map(|e| (e.kind, e.message)).collect();
        let hosts = self.fleet.nodes.iter().map(|node| (&node.name, node.host.instances_now().remove(&name)));
        let there: Vec<_> = hosts.filter(|(_, instance)| instance.is_some()).collect();
        format!("{listed:#?}\n{events:#?}\n{there:#?}")
    }

    fn note(&mut self, deed: &Deed, outcome: &Result<v1::Progress, Status>, unsure: bool, tally: &mut Tally) {
        let outcome = match outcome {
            Ok(progress) if progress.pending => Outcome::Pending,
            Ok(_) => Outcome::Done,
            Err(status) => refused(status),
        };
        match outcome {
            Outcome::Done | Outcome::Pending => *tally.done.entry(deed.kind()).or_default() += 1,
            Outcome::Unknown => tally.unsure += 1,
            Outcome::Refused(why) => *tally.refused.entry(format!("{} {why:?}", deed.kind())).or_default() += 1,
        }
        self.told.lines.push(format!("   {deed:?}, unsure: {unsure}: {outcome:?}"));
        self.model.note(deed, outcome, unsure);
    }
}

fn nobody_answered(status: &Status) -> bool {
    let refusal = Refusal::from_status(status);
    is_worth_repeating(status) && refusal.is_none_or(|refusal| refusal.reason != Reason::NodeUnavailable)
}

/// What a refusal says about what there is now.
fn refused(status: &Status) -> Outcome {
    let refusal = Refusal::from_status(status).unwrap_or_else(|| panic!("not a refusal of ours: {status:?}"));
    match refusal.reason {
        // Said before, or while it was waited for: the order may stand.
        Reason::Busy | Reason::ContainerFailed => Outcome::Unknown,
        Reason::NotFound | Reason::AlreadyExists | Reason::NoCapacity | Reason::NodeUnavailable | Reason::Refused => {
            Outcome::Refused(refusal.reason)
        }
        // A walk makes and takes no backups.
        Reason::InvalidArgument | Reason::Internal | Reason::NotReady | Reason::WrongRole | Reason::BackupDamaged => {
            panic!("refused: {refusal}")
        }
    }
}
