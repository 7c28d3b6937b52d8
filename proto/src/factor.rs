//! How much more may be promised than there is, as people type it: `1.5`. Held in thousandths, never as a float.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Less than this would leave half of a machine to nobody.
pub const MIN: Factor = Factor(500);
/// Far above what any machine bears.
pub const MAX: Factor = Factor(100_000);

/// Promises per thing there is, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Factor(u32);

/// A factor that could not be read, or that no machine bears.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a factor from 0.5 to 100 with at most three digits behind the point, such as 1.5")]
pub struct FactorError(String);

impl Factor {
    /// From thousandths.
    ///
    /// # Errors
    /// Below [`MIN`] or above [`MAX`].
    pub fn from_permille(permille: u32) -> Result<Self, FactorError> {
        let factor = Self(permille);
        if (MIN..=MAX).contains(&factor) { Ok(factor) } else { Err(FactorError(factor.to_string())) }
    }

    /// In thousandths.
    #[must_use]
    pub fn permille(self) -> u32 {
        self.0
    }
}

impl FromStr for Factor {
    type Err = FactorError;
    fn from_str(text: &str) -> Result<Self, FactorError> {
        let refuse = || FactorError(text.chars().take(48).flat_map(char::escape_default).collect());
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |t: &str| !t.is_empty() && t.len() <= 3 && t.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) {
            return Err(refuse());
        }
        let permille = format!("{whole}{fraction:0<3}").parse().map_err(|_| refuse())?;
        Self::from_permille(permille).map_err(|_| refuse())
    }
}

impl fmt::Display for Factor {
    /// `4`, `1.5`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:03}", self.0 / 1000, self.0 % 1000);
        f.pad(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_what_is_shown() {
        for (text, permille) in [("4", 4000), ("1.5", 1500), ("0.5", 500), ("100", 100_000), ("1.125", 1125)] {
            let factor: Factor = text.parse().unwrap();
            assert_eq!((factor.permille(), factor.to_string().as_str()), (permille, text));
        }
        assert_eq!("2.0".parse::<Factor>().unwrap().to_string(), "2");
    }

    #[test]
    fn what_no_machine_bears_is_refused() {
        for bad in ["", "0", "0.4", "0.499", "101", "100.001", "1.", ".5", "-1", "1e3", "1.2345", "nan", "1,5", "٤"] {
            assert!(bad.parse::<Factor>().is_err(), "{bad}");
        }
        assert!(Factor::from_permille(499).is_err() && Factor::from_permille(100_001).is_err());
    }
}
