//! Whether a certificate is what it should be. Pure; it is told the time.

use std::{collections::BTreeSet, time::Duration};

use containarium_proto::identity::{HostIdentity, Window};

/// Clocks of laptops and new machines may be behind by minutes; an hour is far more, and harms nobody.
const BACKDATE: Duration = Duration::from_secs(3600);
/// A certificate is replaced when this part of its life is left: ten days of thirty, in which a node may be away.
const RENEW_AT_SHARE: u64 = 3;

/// What a host's certificate must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Fingerprint of the authority that signs now.
    pub(crate) authority: String,
    /// All names, and no others.
    pub(crate) names: BTreeSet<String>,
    /// How long a new one is good.
    pub(crate) validity: Duration,
}

/// What is wrong with what is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lacking {
    /// No certificate.
    All,
    /// One of another authority.
    Authority,
    /// One for other names.
    Names,
    /// One that holds no longer, or not yet: a clock was wrong when it was made, or the node was long away.
    Time,
    /// Nothing yet; but it has lived for so long that a new one is due.
    Renewal,
}

/// What follows from a look at a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Good,
    Lacking(Lacking),
}

pub(crate) fn standing(shown: &HostIdentity, wanted: &Wanted, now: u64) -> Standing {
    let Some(certificate) = &shown.certificate else { return Standing::Lacking(Lacking::All) };
    if certificate.authority != wanted.authority {
        return Standing::Lacking(Lacking::Authority);
    }
    if certificate.principals != wanted.names {
        return Standing::Lacking(Lacking::Names);
    }
    if now < certificate.valid_after || now >= certificate.valid_before {
        return Standing::Lacking(Lacking::Time);
    }
    if certificate.valid_before - now <= wanted.validity.as_secs() / RENEW_AT_SHARE {
        return Standing::Lacking(Lacking::Renewal);
    }
    Standing::Good
}

/// The life of a certificate that is made now.
pub(crate) fn window(now: u64, validity: Duration) -> Window {
    Window { after: now.saturating_sub(BACKDATE.as_secs()), before: now.saturating_add(validity.as_secs()) }
}

#[cfg(test)]
mod tests {
    use containarium_proto::identity::{Authority, HostKey};

    use super::*;

    const DAY: u64 = 86_400;
    const NOW: u64 = 1_800_000_000;

    #[test]
    fn renewed_with_a_third_of_its_life_left_and_whenever_it_is_not_what_it_should_be() {
        let (authority, key) = (Authority::generate(), HostKey::simulated());
        let names: BTreeSet<String> = ["jump-1".to_owned(), "10.0.0.11".to_owned()].into();
        let validity = Duration::from_secs(30 * DAY);
        let wanted = Wanted { authority: authority.public().fingerprint(), names: names.clone(), validity };
        let made = authority.sign(&key, &names, window(NOW, validity)).unwrap();
        let shown = HostIdentity { key: key.clone(), certificate: Some(made.facts()) };
        let at = |now| standing(&shown, &wanted, now);
        let lacks = Standing::Lacking;
        for (now, expected) in [
            (NOW, Standing::Good),
            (NOW - 3600, Standing::Good),
            (NOW - 3601, lacks(Lacking::Time)),
            (NOW + 20 * DAY - 1, Standing::Good),
            (NOW + 20 * DAY, lacks(Lacking::Renewal)),
            (NOW + 30 * DAY - 1, lacks(Lacking::Renewal)),
            (NOW + 30 * DAY, lacks(Lacking::Time)),
        ] {
            assert_eq!(at(now), expected, "{} days", (now - NOW.min(now)) / DAY);
        }
        let moved = Wanted { names: ["jump-1".to_owned()].into(), ..wanted.clone() };
        assert_eq!(standing(&shown, &moved, NOW), lacks(Lacking::Names));
        let rotated = Wanted { authority: Authority::generate().public().fingerprint(), ..wanted.clone() };
        assert_eq!(standing(&shown, &rotated, NOW), lacks(Lacking::Authority));
        let bare = HostIdentity { key, certificate: None };
        assert_eq!(standing(&bare, &wanted, NOW), lacks(Lacking::All));
    }
}
