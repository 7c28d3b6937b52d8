//! Who else may use a container, as a column; and what follows from it for accounts. Which changes are made is
//! `sharing`'s to decide.

use std::collections::BTreeMap;

use containarium_proto::{
    ids::ContainerId,
    names::Username,
    node::{Account, Guest, Permit},
};

use super::{StoreError, WriteTx, failed, rows::to_json};

impl WriteTx {
    /// Replaces a container's guests. Every placement of it needs a next order with it (I4).
    pub(crate) async fn change_guests(&mut self, container: ContainerId, guests: &[Guest]) -> Result<(), StoreError> {
        let update = sqlx::query("UPDATE container SET guests = $2 WHERE id = $1").bind(container.to_string());
        let update = update.bind(to_json("guests", &guests)?).execute(self.connection());
        update.await.map(drop).map_err(failed("changing guests"))
    }
}

/// Gives every account what others share with it. `homes`: each account with who may use its container.
pub(super) fn with_shared(homes: Vec<(Account, Vec<Guest>)>) -> Vec<Account> {
    let mut shared: BTreeMap<Username, Vec<Permit>> = BTreeMap::new();
    for (account, guests) in &homes {
        let Some(address) = account.permit else { continue };
        for guest in guests {
            let permit = Permit { container: account.username.container_name(), address };
            shared.entry(guest.user.clone()).or_default().push(permit);
        }
    }
    let with = |(account, _): (Account, _)| Account {
        shared: shared.remove(&account.username).unwrap_or_default(),
        ..account
    };
    homes.into_iter().map(with).collect()
}
