//! Bringing a container back to a snapshot: noted, done, stamped anew, forgotten. What was killed between finds the note
//! and does it all again: it is stopped meanwhile, so nobody loses anything by that. It must never begin once its stamps
//! are right, since its user may have gone on.

use std::collections::BTreeMap;

use containarium_proto::{
    ids::{FleetId, Generation},
    node::{Licence, Order},
};

use crate::{
    host::{Host, HostError, Instance},
    journal::Restoring,
    worker::Worker,
};

/// Of the one nic that an order gives.
const MAC: &str = "volatile.eth0.hwaddr";

impl<H: Host> Worker<H> {
    /// The generation of a restore that was begun and is not done; forgets one that is.
    pub(crate) fn unfinished(
        &self,
        fleet: FleetId,
        order: &Order,
        seen: Option<&Instance>,
    ) -> Result<Option<Generation>, HostError> {
        let Some(noted) = self.journal.of(order.id) else { return Ok(None) };
        let stamp = seen.and_then(|instance| instance.stamp.as_ref());
        let stamp = stamp.filter(|stamp| stamp.fleet == fleet && stamp.order.id == order.id);
        // Gone: there is nothing left to bring back.
        if seen.is_none() || stamp.is_some_and(|stamp| stamp.order.generation >= noted.since) {
            self.journal.end(order.id)?;
            return Ok(None);
        }
        Ok(Some(noted.since))
    }

    /// A snapshot that came with a move brings the MAC address of then. The node's DHCP still leases the address to the one
    /// of now, and would give that of then another.
    async fn kept(&self, name: &str) -> Result<BTreeMap<String, String>, HostError> {
        let config = self.host.instance(name).await?.map(|instance| instance.shape.config).unwrap_or_default();
        Ok(config.into_iter().filter(|(key, _)| key == MAC).collect())
    }

    pub(crate) async fn bring_back(&self, fleet: FleetId, order: &Order) -> Result<(), HostError> {
        let noted = match (self.journal.of(order.id), self.ledger.licence(order.id)) {
            (Some(noted), _) => noted,
            (None, Some(Licence::Restore { snapshot, since })) => {
                let kept = self.kept(&order.name).await?;
                let noted = Restoring { order: order.clone(), snapshot, since, kept };
                self.journal.begin(noted.clone())?;
                noted
            }
            (None, Some(Licence::Adopt { .. } | Licence::Repair) | None) => return Ok(()),
        };
        if let Err(error) = self.host.restore(&noted.order, &noted.snapshot).await {
            // Never: so it has not begun either, and the instance is what it was.
            if error.permanent {
                self.journal.end(order.id)?;
            }
            return Err(error);
        }
        // I4: its stamps say what it was. Those that are written are of the order that was noted, which is never Absent.
        self.host.restamp(fleet, &noted.order, &noted.kept).await?;
        self.journal.end(order.id)
    }
}
