//! What `--cpu` means. One text form, one value; how it becomes Incus keys is the agent's business.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Linux's own upper bound for CPU ids (`CONFIG_NR_CPUS` of distribution kernels).
const MAX_CPUS: u32 = 8192;

/// CPU given to a container. Text forms, as typed and as printed:
///
/// | text | meaning | inside the container |
/// |---|---|---|
/// | `4` | any CPUs of the node, 4 at a time | `nproc` prints 4 |
/// | `2-4`, `0,2-4` | only these CPU ids of the node | `nproc` prints how many of them the node has |
/// | `1.5`, `250m` | that much time of one CPU in every 100 ms, on any CPUs | `nproc` prints all; the CFS quota holds |
///
/// `4.0` is a quota of four CPUs' time, `4` is a count.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Cpu {
    /// So many CPUs, chosen by Incus.
    Count(u32),
    /// These CPU ids; never empty.
    Pinned(BTreeSet<u32>),
    /// Thousandths of a CPU.
    QuotaMillis(u32),
}

/// Why a CPU text was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CpuError {
    /// None of the forms.
    #[error("cpu '{0}' is not a count (4), a set (2-4 or 0,2-4) or an amount (1.5 or 250m)")]
    Form(String),
    /// A form, but not one that can run anything.
    #[error("cpu '{text}' is out of range: {limit}")]
    Range {
        /// As given.
        text: String,
        /// What is accepted.
        limit: &'static str,
    },
}

impl Cpu {
    /// What placement reserves for it, in thousandths of a CPU.
    #[must_use]
    pub fn reserved_millis(&self) -> u32 {
        match self {
            Self::Count(n) => n * 1000,
            Self::Pinned(ids) => u32::try_from(ids.len()).unwrap_or(MAX_CPUS) * 1000,
            Self::QuotaMillis(millis) => *millis,
        }
    }
}

impl FromStr for Cpu {
    type Err = CpuError;
    fn from_str(text: &str) -> Result<Self, CpuError> {
        let form = || CpuError::Form(text.chars().take(48).flat_map(char::escape_default).collect());
        let digits = |t: &str| -> Result<u32, CpuError> {
            if t.is_empty() || t.len() > 9 || !t.bytes().all(|b| b.is_ascii_digit()) {
                return Err(form());
            }
            t.parse().map_err(|_| form())
        };
        if let Some(millis) = text.strip_suffix('m') {
            return quota(text, digits(millis)?);
        }
        if let Some((whole, fraction)) = text.split_once('.') {
            if fraction.is_empty() || fraction.len() > 3 {
                return Err(form());
            }
            let thousandths = digits(&format!("{fraction:0<3}"))?;
            let whole = digits(whole)?.checked_mul(1000).ok_or_else(form)?;
            return quota(text, whole.checked_add(thousandths).ok_or_else(form)?);
        }
        if text.contains(['-', ',']) {
            return pinned(text, &digits);
        }
        match digits(text)? {
            n @ 1..=MAX_CPUS => Ok(Self::Count(n)),
            _ => Err(CpuError::Range { text: text.to_owned(), limit: "a count is 1 to 8192" }),
        }
    }
}

fn quota(text: &str, millis: u32) -> Result<Cpu, CpuError> {
    // The kernel refuses a quota below 1 ms per period: 10 thousandths of the 100 ms period.
    if !(10..=MAX_CPUS * 1000).contains(&millis) {
        return Err(CpuError::Range { text: text.to_owned(), limit: "an amount is 10m to 8192" });
    }
    Ok(Cpu::QuotaMillis(millis))
}

fn pinned(text: &str, digits: &impl Fn(&str) -> Result<u32, CpuError>) -> Result<Cpu, CpuError> {
    let range = |limit| CpuError::Range { text: text.to_owned(), limit };
    let mut ids = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (digits(first)?, digits(last)?);
        if last >= MAX_CPUS {
            return Err(range("CPU ids are 0 to 8191"));
        }
        if first > last {
            return Err(range("a range goes from low to high"));
        }
        ids.extend(first..=last);
    }
    Ok(Cpu::Pinned(ids))
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&match self {
            Self::Count(n) => n.to_string(),
            Self::Pinned(ids) => pinned_text(ids),
            Self::QuotaMillis(millis) => format!("{millis}m"),
        })
    }
}

/// `{0,2,3,4}` as `0,2-4`; one id alone as `3-3`, because `3` is a count, to Incus too.
fn pinned_text(ids: &BTreeSet<u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for &id in ids {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == id => *last = id,
            _ => runs.push((id, id)),
        }
    }
    let alone = runs.len() == 1;
    let show = |&(first, last): &(u32, u32)| {
        if first == last && !alone { first.to_string() } else { format!("{first}-{last}") }
    };
    runs.iter().map(show).collect::<Vec<_>>().join(",")
}

impl TryFrom<String> for Cpu {
    type Error = CpuError;
    fn try_from(text: String) -> Result<Self, CpuError> {
        text.parse()
    }
}

impl From<Cpu> for String {
    fn from(cpu: Cpu) -> Self {
        cpu.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cpu(text: &str) -> Cpu {
        text.parse().unwrap()
    }

    #[test]
    fn every_documented_form() {
        assert_eq!(cpu("4"), Cpu::Count(4));
        assert_eq!(cpu("2-4"), Cpu::Pinned([2, 3, 4].into()));
        assert_eq!(cpu("0-3"), Cpu::Pinned([0, 1, 2, 3].into()));
        assert_eq!(cpu("0,2-4"), Cpu::Pinned([0, 2, 3, 4].into()));
        assert_eq!(cpu("1.5"), Cpu::QuotaMillis(1500));
        assert_eq!(cpu("4.0"), Cpu::QuotaMillis(4000));
        assert_eq!(cpu("250m"), Cpu::QuotaMillis(250));
        assert_eq!(cpu("3-3").to_string(), "3-3");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "0",
            "-1",
            "4x",
            "1.",
            ".5",
            "1.5.5",
            "4-2",
            "a-b",
            "1,,2",
            "9m",
            "0.0",
            "8193",
            "0-8192",
            "99999999999",
            "4294967295.999",
            "1e3",
            " 4",
            "+4",
        ] {
            assert!(text.parse::<Cpu>().is_err(), "{text:?} was accepted");
        }
    }

    proptest! {
        #[test]
        fn printing_and_parsing_agree(ids in prop::collection::btree_set(0u32..64, 1..20), n in 1u32..256, m in 10u32..64000) {
            for value in [Cpu::Pinned(ids), Cpu::Count(n), Cpu::QuotaMillis(m)] {
                prop_assert_eq!(value.to_string().parse::<Cpu>(), Ok(value));
            }
        }
    }
}
