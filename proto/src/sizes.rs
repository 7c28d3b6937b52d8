//! Memory and disk sizes as people type them. Parsing and printing are the `bytesize` crate's; the bounds are ours.

use std::{fmt, str::FromStr};

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

/// Below this systemd and sshd do not come up reliably in a container.
pub const MIN_MEMORY: Bytes = Bytes(128 << 20);
/// The golden image itself takes about 1 GB unpacked; less than this leaves no room for a user.
pub const MIN_DISK: Bytes = Bytes(2_000_000_000);
/// Far above any machine, far below where sums of sizes could overflow 63 bits (SQL's BIGINT).
pub const MAX: Bytes = Bytes(1 << 50);

/// A number of bytes. `8GB` is 8 x 1000^3, `8GiB` is 8 x 1024^3, as in Incus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

/// A size that could not be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("size '{0}' is not a number with a unit, such as 512MiB, 8GB or 8GiB")]
pub struct SizeError(String);

/// A size that could be read but not given.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {given} is out of range: at least {min}, at most {max}")]
pub struct SizeRangeError {
    what: &'static str,
    given: Bytes,
    min: Bytes,
    max: Bytes,
}

impl Bytes {
    /// This as the memory of a container.
    ///
    /// # Errors
    /// Below [`MIN_MEMORY`] or above [`MAX`].
    pub fn as_memory(self) -> Result<Self, SizeRangeError> {
        self.within("memory", MIN_MEMORY)
    }

    /// This as the disk of a container.
    ///
    /// # Errors
    /// Below [`MIN_DISK`] or above [`MAX`].
    pub fn as_disk(self) -> Result<Self, SizeRangeError> {
        self.within("disk", MIN_DISK)
    }

    /// This as what a node keeps for itself. Nothing at all is possible.
    ///
    /// # Errors
    /// Above [`MAX`].
    pub fn as_headroom(self) -> Result<Self, SizeRangeError> {
        self.within("headroom", Self(0))
    }

    fn within(self, what: &'static str, min: Self) -> Result<Self, SizeRangeError> {
        if (min..=MAX).contains(&self) { Ok(self) } else { Err(SizeRangeError { what, given: self, min, max: MAX }) }
    }
}

impl FromStr for Bytes {
    type Err = SizeError;
    fn from_str(text: &str) -> Result<Self, SizeError> {
        let refuse = || SizeError(text.chars().take(48).flat_map(char::escape_default).collect());
        // A bare number would mean bytes, which nobody means: `--memory 8` must not become 8 bytes.
        if !text.starts_with(|c: char| c.is_ascii_digit()) || !text.ends_with(|c: char| c.is_ascii_alphabetic()) {
            return Err(refuse());
        }
        text.parse::<ByteSize>().map(|size| Self(size.as_u64())).map_err(|_| refuse())
    }
}

impl fmt::Display for Bytes {
    /// The unit that shows it exactly in the fewest digits (`8GB`, `8GiB`), else rounded (`7.4GiB`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 8] = [
            (1 << 40, "TiB"),
            (1_000_000_000_000, "TB"),
            (1 << 30, "GiB"),
            (1_000_000_000, "GB"),
            (1 << 20, "MiB"),
            (1_000_000, "MB"),
            (1 << 10, "KiB"),
            (1_000, "KB"),
        ];
        let exact = UNITS.iter().find(|(unit, _)| self.0 >= *unit && self.0.is_multiple_of(*unit));
        f.pad(&match exact {
            Some((unit, name)) if self.0 / unit < 100_000 => format!("{}{name}", self.0 / unit),
            _ => ByteSize(self.0).display().iec().to_string().replace(' ', ""),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_and_binary_units() {
        assert_eq!("8GB".parse(), Ok(Bytes(8_000_000_000)));
        assert_eq!("4096MB".parse(), Ok(Bytes(4_096_000_000)));
        assert_eq!("8GiB".parse(), Ok(Bytes(8 << 30)));
        assert_eq!("1.5GiB".parse(), Ok(Bytes(3 << 29)));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "8", "-8GB", "8XB", "GB", "8 8GB", "NaNGB", "1e400GB", "8GB;", "infGB"] {
            assert!(text.parse::<Bytes>().is_err(), "{text:?} was accepted");
        }
        let huge = "999999999999999EB".parse::<Bytes>();
        assert!(huge.is_err() || huge.is_ok_and(|b| b.as_disk().is_err()));
        assert!(Bytes(1).as_memory().is_err());
        assert!(Bytes(1 << 30).as_disk().is_err());
    }

    #[test]
    fn prints_what_was_typed() {
        for text in ["8GB", "8GiB", "4096MB", "512MiB", "50GB", "2GB"] {
            let shown = text.parse::<Bytes>().unwrap().to_string();
            assert_eq!(shown.parse::<Bytes>(), text.parse::<Bytes>(), "{text} shown as {shown}");
        }
        assert_eq!(Bytes(50_000_000_000).to_string(), "50GB");
        assert_eq!(Bytes(7_999_999_999).to_string(), "7.5GiB");
    }
}
