//! Who each sshd shows itself to be, as the ledger keeps and reports it.

use containarium_proto::{
    identity::{Host, HostIdentity, Identities},
    spec::Observed,
};

use super::{Books, Ledger};

impl Ledger {
    /// Notes who an sshd shows itself to be, or why it cannot have a certificate.
    pub(crate) fn set_identity(&self, of: Host, identity: Result<HostIdentity, String>) {
        let mut books = self.books();
        if books.identities.get(&of) != Some(&identity) {
            books.identities.insert(of, identity);
            self.bump(&books);
        }
    }

    /// Whether the node's own identity is known, or why it has none.
    pub(crate) fn knows_itself(&self) -> bool {
        self.books().identities.contains_key(&Host::Node)
    }
}

impl Books {
    /// Of the node, and of those containers that an ssh can reach.
    pub(super) fn identities_of_running(&self) -> Identities {
        let is_told = |of: &Host| match of {
            Host::Node => true,
            Host::Container(id) => self.entries.get(id).is_some_and(|entry| entry.observed == Observed::Running),
        };
        let told = self.identities.iter().filter(|(of, _)| is_told(of));
        told.map(|(of, identity)| (*of, identity.clone())).collect()
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        let without = self.identities_of_running().into_values().filter_map(Result::err);
        let without = without.map(|why| format!("no host certificate: {why}"));
        self.facts.warnings.iter().chain(&self.blind).chain(&self.guard_warnings).cloned().chain(without).collect()
    }
}
