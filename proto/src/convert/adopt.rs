//! The edge, for what is adopted or repaired: licences and foreign instances, one function each way.

use super::{ConvertError, bad, cpu_from_wire, cpu_to_wire, need, parse};
use crate::{
    ids::Generation,
    node::{Foreign, Licence},
    sizes::Bytes,
    v1::{self, licence::Kind},
};

/// Reads a licence, if there is one.
///
/// # Errors
/// One that allows nothing that we know, or an adoption of nothing.
pub fn licence_from_wire(licence: Option<&v1::Licence>) -> Result<Option<Licence>, ConvertError> {
    let Some(licence) = licence else { return Ok(None) };
    match need("licence", licence.kind.as_ref())? {
        Kind::Repair(v1::Repair {}) => Ok(Some(Licence::Repair)),
        Kind::Restore(v1::Restore { snapshot, generation }) => {
            let snapshot = parse("licence.restore", snapshot)?;
            Ok(Some(Licence::Restore { snapshot, since: Generation(*generation) }))
        }
        Kind::Adopt(v1::Adopt { instance, uuid }) if instance.is_empty() || uuid.is_empty() => {
            Err(bad("licence.adopt", "without the instance's name or id"))
        }
        Kind::Adopt(v1::Adopt { instance, uuid }) => {
            Ok(Some(Licence::Adopt { instance: instance.clone(), uuid: uuid.clone() }))
        }
    }
}

/// Writes a licence.
#[must_use]
pub fn licence_to_wire(licence: &Licence) -> v1::Licence {
    let kind = match licence {
        Licence::Repair => Kind::Repair(v1::Repair {}),
        Licence::Restore { snapshot, since } => {
            Kind::Restore(v1::Restore { snapshot: snapshot.to_string(), generation: since.0 })
        }
        Licence::Adopt { instance, uuid } => Kind::Adopt(v1::Adopt { instance: instance.clone(), uuid: uuid.clone() }),
    };
    v1::Licence { kind: Some(kind) }
}

/// Reads a foreign instance.
///
/// # Errors
/// Any field invalid.
pub fn foreign_from_wire(foreign: &v1::ForeignInstance) -> Result<Foreign, ConvertError> {
    let set = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    Ok(Foreign {
        name: foreign.name.clone(),
        uuid: foreign.uuid.clone(),
        running: foreign.running,
        cpu: foreign.cpu.as_ref().map(cpu_from_wire).transpose()?,
        memory: foreign.memory_bytes.map(Bytes),
        disk: foreign.disk_bytes.map(Bytes),
        disk_used: foreign.disk_used_bytes.map(Bytes),
        address: set(&foreign.address).map(|text| parse("foreign.address", &text)).transpose()?,
        image: set(&foreign.image_fingerprint).map(|text| parse("foreign.image_fingerprint", &text)).transpose()?,
        autostart: foreign.autostart,
        obstacles: foreign.obstacles.clone(),
    })
}

/// Writes a foreign instance.
#[must_use]
pub fn foreign_to_wire(foreign: &Foreign) -> v1::ForeignInstance {
    v1::ForeignInstance {
        name: foreign.name.clone(),
        uuid: foreign.uuid.clone(),
        running: foreign.running,
        cpu: foreign.cpu.as_ref().map(cpu_to_wire),
        memory_bytes: foreign.memory.map(|size| size.0),
        disk_bytes: foreign.disk.map(|size| size.0),
        disk_used_bytes: foreign.disk_used.map(|size| size.0),
        address: foreign.address.map(|address| address.to_string()).unwrap_or_default(),
        image_fingerprint: foreign.image.as_ref().map(ToString::to_string).unwrap_or_default(),
        autostart: foreign.autostart,
        obstacles: foreign.obstacles.clone(),
    }
}
