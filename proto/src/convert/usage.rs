//! What containers use, to the wire and back.

use std::time::Duration;

use super::{ConvertError, need, parse};
use crate::{
    ids::ContainerId,
    node::{Usage, UsageSample},
    sizes::Bytes,
    v1,
};

/// Reads what a container uses. Everything in it may be.
#[must_use]
pub fn usage_from_wire(usage: &v1::Usage) -> Usage {
    Usage {
        memory: Bytes(usage.memory_bytes),
        disk: usage.disk_bytes.map(Bytes),
        cpu: usage.cpu_nanos.map(Duration::from_nanos),
    }
}

/// Writes what a container uses.
#[must_use]
pub fn usage_to_wire(usage: &Usage) -> v1::Usage {
    v1::Usage {
        memory_bytes: usage.memory.0,
        disk_bytes: usage.disk.map(|disk| disk.0),
        cpu_nanos: usage.cpu.map(nanos),
    }
}

/// Reads a sample.
///
/// # Errors
/// Without a use.
pub fn usage_sample_from_wire(sample: &v1::UsageSample) -> Result<UsageSample, ConvertError> {
    let usage = usage_from_wire(need("sample.usage", sample.usage.as_ref())?);
    Ok(UsageSample { usage, at: Duration::from_nanos(sample.at_nanos) })
}

/// Writes a sample.
#[must_use]
pub fn usage_sample_to_wire(sample: &UsageSample) -> v1::UsageSample {
    v1::UsageSample { usage: Some(usage_to_wire(&sample.usage)), at_nanos: nanos(sample.at) }
}

/// Reads a container's sample.
///
/// # Errors
/// Any field missing or invalid.
pub fn usage_of_from_wire(of: &v1::UsageOf) -> Result<(ContainerId, UsageSample), ConvertError> {
    let sample = usage_sample_from_wire(need("sample", of.sample.as_ref())?)?;
    Ok((parse("container_id", &of.container_id)?, sample))
}

/// Writes a container's sample.
#[must_use]
pub fn usage_of_to_wire(container: ContainerId, sample: &UsageSample) -> v1::UsageOf {
    v1::UsageOf { container_id: container.to_string(), sample: Some(usage_sample_to_wire(sample)) }
}

/// Five centuries fit; what is longer stays at their end.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_survives_the_wire_also_where_it_says_nothing() {
        let (id, at) = (ContainerId::generate(), Duration::from_nanos(1_234_567_890_123));
        let full = Usage { memory: Bytes(7), disk: Some(Bytes(8)), cpu: Some(Duration::from_nanos(9)) };
        for usage in [full, Usage::default()] {
            let sample = UsageSample { usage, at };
            assert_eq!(usage_of_from_wire(&usage_of_to_wire(id, &sample)).unwrap(), (id, sample));
        }
        let empty = v1::UsageOf { container_id: id.to_string(), sample: None };
        assert_eq!(usage_of_from_wire(&empty).unwrap_err().to_string(), "field sample: missing");
    }
}
