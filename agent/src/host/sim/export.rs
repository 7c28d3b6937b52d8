//! Exports of a simulated host: bytes that hold all that an instance is, as a tarball does, and an instance made of them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes as Chunk;
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use super::{Memory, SimInstance, present};
use crate::host::{
    Export, ExportBody, HostError, Instance, Power,
    shape::{BACKUP_MARK, Device, Shape, clone_name, staging_name},
};

/// Small, so that an export is many.
const CHUNK: usize = 1024;

/// What travels.
#[derive(Serialize, Deserialize)]
struct Tarball {
    config: BTreeMap<String, String>,
    devices: BTreeMap<String, Device>,
    logins: BTreeMap<String, Vec<String>>,
    data: String,
    bulk: String,
}

pub(super) fn freeze(memory: &mut Memory, name: &str, mark: &str) -> Result<(), HostError> {
    let mut clone = present(memory, name)?.clone();
    let clone_name = clone_name(name);
    clone.seen.name.clone_from(&clone_name);
    (clone.seen.power, clone.seen.stamp) = (Power::Stopped, None);
    // Without a network, an address could stand in the way of another instance.
    clone.seen.shape.devices.retain(|device, _| device == "root");
    clone.seen.shape.config.insert(BACKUP_MARK.to_owned(), mark.to_owned());
    memory.instances.insert(clone_name, clone);
    Ok(())
}

pub(super) fn export(memory: &mut Memory, name: &str) -> Result<Export, HostError> {
    let SimInstance { seen, logins, data, bulk, .. } = present(memory, &clone_name(name))?.clone();
    let Shape { config, devices, .. } = seen.shape;
    let tarball = Tarball { config, devices, logins, data, bulk: "x".repeat(bulk) };
    let bytes = serde_json::to_vec(&tarball).map_err(|error| HostError::permanent(error.to_string()))?;
    let chunks: Vec<_> = bytes.chunks(CHUNK).map(|chunk| Ok(Chunk::copy_from_slice(chunk))).collect();
    Ok(Export { size: bytes.len() as u64, body: futures::stream::iter(chunks).boxed() })
}

pub(super) fn clones(memory: &Memory) -> BTreeSet<String> {
    let marked = |i: &&SimInstance| i.seen.stamp.is_none() && i.seen.shape.config.contains_key(BACKUP_MARK);
    let clones = memory.instances.values().filter(marked).map(|i| i.seen.name.clone());
    clones.filter(|name| name.ends_with(&clone_name(""))).collect()
}

/// All of it, or the error that stands in place of its end.
pub(super) async fn collect(size: u64, body: ExportBody) -> Result<Vec<u8>, HostError> {
    let bytes = body.try_fold(Vec::new(), |mut all, chunk| async move {
        all.extend_from_slice(&chunk);
        Ok(all)
    });
    let bytes = bytes.await?;
    if bytes.len() as u64 == size { Ok(bytes) } else { Err(HostError::transient("the upload broke off")) }
}

pub(super) fn import(memory: &mut Memory, name: &str, bytes: &[u8]) -> Result<(), HostError> {
    let name = staging_name(name);
    if memory.instances.contains_key(&name) {
        return Err(HostError::transient(format!("instance {name} exists already")));
    }
    let Tarball { config, devices, logins, data, bulk } =
        serde_json::from_slice(bytes).map_err(|error| HostError::transient(format!("not a tarball: {error}")))?;
    let shape = Shape { config, devices, profiles: Vec::new() };
    let seen = Instance { name: name.clone(), power: Power::Stopped, stamp: None, shape, unclaimed: None };
    memory.instances.insert(name, SimInstance { logins, bulk: bulk.len(), ..SimInstance::new(seen, data) });
    Ok(())
}
