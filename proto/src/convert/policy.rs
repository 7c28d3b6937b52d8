//! Network policy and guard, both ways.

use std::collections::BTreeSet;

use super::{ConvertError, need, parse};
use crate::{
    policy::{Allowance, GuardReport, NetworkPolicy},
    v1,
};

/// Reads a policy.
///
/// # Errors
/// It is missing, or an address or network in it is none.
pub fn policy_from_wire(policy: Option<&v1::NetworkPolicy>) -> Result<NetworkPolicy, ConvertError> {
    let policy = need("policy", policy)?;
    let networks = |field, texts: &[String]| texts.iter().map(|text| parse(field, text)).collect::<Result<_, _>>();
    let allowance = |pair: &v1::Allowance| {
        Ok(Allowance { from: parse("from_address", &pair.from_address)?, to: parse("to_address", &pair.to_address)? })
    };
    Ok(NetworkPolicy {
        container_networks: networks("container_networks", &policy.container_networks)?,
        closed_networks: networks("closed_networks", &policy.closed_networks)?,
        allowances: policy.allowances.iter().map(allowance).collect::<Result<_, ConvertError>>()?,
        out_of_rotation: policy.out_of_rotation,
    })
}

/// Writes a policy.
#[must_use]
pub fn policy_to_wire(policy: &NetworkPolicy) -> v1::NetworkPolicy {
    let allowance =
        |pair: &Allowance| v1::Allowance { from_address: pair.from.to_string(), to_address: pair.to.to_string() };
    v1::NetworkPolicy {
        container_networks: policy.container_networks.iter().map(ToString::to_string).collect(),
        closed_networks: policy.closed_networks.iter().map(ToString::to_string).collect(),
        allowances: policy.allowances.iter().map(allowance).collect(),
        out_of_rotation: policy.out_of_rotation,
    }
}

/// Reads what a node says of its guard. An agent from before there was one says nothing.
///
/// # Errors
/// An address that is none.
pub fn guard_from_wire(guard: Option<&v1::GuardReport>) -> Result<GuardReport, ConvertError> {
    let Some(guard) = guard else { return Ok(GuardReport::default()) };
    let addresses: BTreeSet<_> =
        guard.addresses.iter().map(|text| parse("addresses", text)).collect::<Result<_, _>>()?;
    Ok(GuardReport {
        policy_digest: guard.policy_digest.clone(),
        repairs: guard.repairs,
        last_repair: guard.last_repair.clone(),
        addresses,
    })
}

/// Writes what a node says of its guard.
#[must_use]
pub fn guard_to_wire(guard: &GuardReport) -> v1::GuardReport {
    v1::GuardReport {
        policy_digest: guard.policy_digest.clone(),
        repairs: guard.repairs,
        last_repair: guard.last_repair.clone(),
        addresses: guard.addresses.iter().map(ToString::to_string).collect(),
    }
}
