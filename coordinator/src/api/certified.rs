//! Waiting for the host certificates that an ssh needs: without them it would ask, or refuse. A host that cannot have
//! one holds nobody up.

use std::time::Instant;

use super::progress::{Look, Said};
use crate::{
    identity,
    node::live::Sights,
    reign::Reign,
    store::{Held, StoreError},
};
use containarium_proto::v1;

/// Waits for the container's own and for those of every server that answers.
#[derive(Debug, Default)]
pub(super) struct CertificateWait {
    since: Option<Instant>,
}

/// How far they are.
pub(super) enum Certified {
    /// Look again.
    NotYet(Box<Look>),
    /// As far as they will be: what there is to say of it, and whether more is to come.
    Enough(Option<String>, bool),
}

impl CertificateWait {
    /// `say` makes a message of a line.
    pub(super) async fn look(
        &mut self,
        reign: &Reign,
        (held, sights): (&Held, &Sights),
        said: &mut Said,
        say: impl Fn(String) -> v1::Progress,
    ) -> Result<Certified, StoreError> {
        let needed = identity::needed(reign, held, sights).await?;
        let give_up_at = *self.since.get_or_insert_with(Instant::now) + reign.config.timings.pending_after;
        let missing = needed.missing.join(", ");
        if !missing.is_empty() {
            if Instant::now() < give_up_at {
                let look = said.news(say(format!("waiting for the host certificate of {missing}")));
                return Ok(Certified::NotYet(Box::new(look.unwrap_or(Look::Wait(Some(give_up_at))))));
            }
            return Ok(Certified::Enough(
                Some(format!("ssh refuses {missing} until it has its host certificate")),
                true,
            ));
        }
        let why = needed.impossible.join(", ");
        Ok(Certified::Enough((!why.is_empty()).then(|| format!("ssh knows no host certificate: {why}")), false))
    }
}

/// A message with what is to be said beside it.
pub(super) fn with(message: String, beside: Option<String>) -> String {
    match beside {
        Some(beside) => format!("{message}; but {beside}"),
        None => message,
    }
}
