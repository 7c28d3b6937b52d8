//! What guards the node, as it is reported.

use containarium_proto::policy::GuardReport;

use super::Ledger;

impl Ledger {
    pub(crate) fn set_guard(&self, guard: &GuardReport) {
        let mut books = self.books();
        if books.guard != *guard {
            books.guard = guard.clone();
            self.bump(&books);
        }
    }

    pub(crate) fn set_guard_warnings(&self, warnings: Vec<String>) {
        let mut books = self.books();
        if books.guard_warnings != warnings {
            books.guard_warnings = warnings;
            self.bump(&books);
        }
    }
}
