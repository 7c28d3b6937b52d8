//! Guests and permits, to the wire and back.

use super::{ConvertError, bad, parse};
use crate::{
    keys::KeySet,
    names::Username,
    node::{Guest, Permit},
    v1,
};

/// Reads the guests of `owner`'s container.
///
/// # Errors
/// A bad name or key, the owner, or the same one twice.
pub(super) fn guests_from_wire(owner: &Username, guests: &[v1::Guest]) -> Result<Vec<Guest>, ConvertError> {
    let mut read: Vec<Guest> = Vec::with_capacity(guests.len());
    for guest in guests {
        let user: Username = parse("guests.user", &guest.user)?;
        if user == *owner || read.iter().any(|other| other.user == user) {
            return Err(bad("guests.user", format!("'{user}' is the owner, or named twice")));
        }
        let keys = KeySet::from_recorded(guest.ssh_keys.iter().map(String::as_str));
        read.push(Guest { user, sudo: guest.sudo, keys: keys.map_err(|e| bad("guests.ssh_keys", e))? });
    }
    Ok(read)
}

/// Writes guests.
pub(super) fn guests_to_wire(guests: &[Guest]) -> Vec<v1::Guest> {
    let guest =
        |guest: &Guest| v1::Guest { user: guest.user.to_string(), sudo: guest.sudo, ssh_keys: guest.keys.to_lines() };
    guests.iter().map(guest).collect()
}

/// Reads a permit. It ends in a file whose quotes and lines mean something.
///
/// # Errors
/// No name of a container, or no address.
pub(super) fn permit_from_wire(permit: &v1::Permit) -> Result<Permit, ConvertError> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let container = permit.container.clone();
    if container.is_empty() || container.len() > 63 || !container.chars().all(good) {
        return Err(bad("shared.container", "not the name of a container"));
    }
    Ok(Permit { container, address: parse("shared.address", &permit.address)? })
}

/// Writes a permit.
pub(super) fn permit_to_wire(permit: &Permit) -> v1::Permit {
    v1::Permit { container: permit.container.clone(), address: permit.address.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_leave_its_quotes_is_no_permit() {
        let permit = |container: &str| {
            permit_from_wire(&v1::Permit { container: container.into(), address: "10.100.1.2".into() })
        };
        assert_eq!(permit_to_wire(&permit("alice-container").unwrap()).container, "alice-container");
        for bad in ["", "a\"b", "a b", "a\nb", "A", "a,b", "*"] {
            assert!(permit(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn nobody_is_a_guest_at_home_or_twice() {
        let owner: Username = "alice".parse().unwrap();
        let guest = |name: &str| v1::Guest { user: name.into(), ..Default::default() };
        let read = guests_from_wire(&owner, &[guest("bob"), guest("carol")]).unwrap();
        assert_eq!(guests_to_wire(&read), [guest("bob"), guest("carol")]);
        for bad in [vec![guest("alice")], vec![guest("bob"), guest("bob")], vec![guest("root")]] {
            assert!(guests_from_wire(&owner, &bad).is_err(), "{bad:?}");
        }
    }
}
