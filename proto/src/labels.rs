//! Labels: what an operator says of a node (`gpu=true`), and what a container wants of the node it is placed on. It must
//! never give a label a meaning of its own.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Of one node, or wanted by one container: enough for people, small enough for every list.
pub const MAX_LABELS: usize = 32;
const MAX_LENGTH: usize = 63;

/// Why a label was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// The name in front of the `=`.
    #[error(
        "label key '{0}' must start with a-z or 0-9 and hold only a-z, 0-9, '.', '/', '_' and '-', at most 63 of them"
    )]
    Key(String),
    /// The text behind it.
    #[error("label value '{0}' may hold only A-Z, a-z, 0-9, '.', '_' and '-', at most 63 of them")]
    Value(String),
    /// No `=`.
    #[error("label '{0}' is not KEY=VALUE, such as gpu=true")]
    NoValue(String),
    /// Two values of one key.
    #[error("label '{0}' is given twice with different values")]
    Twice(LabelKey),
    /// More than [`MAX_LABELS`].
    #[error("{0} labels: at most {max}", max = MAX_LABELS)]
    TooMany(usize),
}

fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_default).collect()
}

/// `gpu`, `example.com/zone`
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LabelKey(String);

impl FromStr for LabelKey {
    type Err = LabelError;
    fn from_str(text: &str) -> Result<Self, LabelError> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let first = text.bytes().next().is_some_and(plain);
        if first && text.len() <= MAX_LENGTH && text.bytes().all(|b| plain(b) || b"./_-".contains(&b)) {
            return Ok(Self(text.to_owned()));
        }
        Err(LabelError::Key(shown(text)))
    }
}

/// `true`, `europe-west4-a`; may be empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LabelValue(String);

impl FromStr for LabelValue {
    type Err = LabelError;
    fn from_str(text: &str) -> Result<Self, LabelError> {
        let good = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if text.len() <= MAX_LENGTH && text.bytes().all(good) {
            return Ok(Self(text.to_owned()));
        }
        Err(LabelError::Value(shown(text)))
    }
}

macro_rules! text_impls {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = LabelError;
            fn try_from(text: String) -> Result<Self, LabelError> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0
            }
        }
    )*};
}
text_impls!(LabelKey, LabelValue);

/// One `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label {
    /// In front of the `=`.
    pub key: LabelKey,
    /// Behind it.
    pub value: LabelValue,
}

impl FromStr for Label {
    type Err = LabelError;
    fn from_str(text: &str) -> Result<Self, LabelError> {
        let (key, value) = text.split_once('=').ok_or_else(|| LabelError::NoValue(shown(text)))?;
        Ok(Self { key: key.parse()?, value: value.parse()? })
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}={}", self.key, self.value))
    }
}

/// Some labels, one value per key, at most [`MAX_LABELS`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Labels(BTreeMap<LabelKey, LabelValue>);

impl Labels {
    /// All of them.
    ///
    /// # Errors
    /// Two values of one key, or too many.
    pub fn of(labels: impl IntoIterator<Item = Label>) -> Result<Self, LabelError> {
        let mut all = BTreeMap::new();
        for Label { key, value } in labels {
            if all.get(&key).is_some_and(|known| *known != value) {
                return Err(LabelError::Twice(key));
            }
            all.insert(key, value);
        }
        Self(all).bounded()
    }

    /// Reads the pairs of a message.
    ///
    /// # Errors
    /// A key or value that is none, or too many.
    pub fn from_wire(pairs: &BTreeMap<String, String>) -> Result<Self, LabelError> {
        let read = |(key, value): (&String, &String)| Ok((key.parse()?, value.parse()?));
        Self(pairs.iter().map(read).collect::<Result<_, LabelError>>()?).bounded()
    }

    /// Writes the pairs of a message.
    #[must_use]
    pub fn to_wire(&self) -> BTreeMap<String, String> {
        self.0.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    /// These, with the others over them.
    ///
    /// # Errors
    /// Too many.
    pub fn with(mut self, others: &Self) -> Result<Self, LabelError> {
        self.0.extend(others.0.iter().map(|(key, value)| (key.clone(), value.clone())));
        self.bounded()
    }

    /// Takes one away; gives whether it was there.
    pub fn remove(&mut self, key: &LabelKey) -> bool {
        self.0.remove(key).is_some()
    }

    /// Those that `carried` has not, or has with another value.
    #[must_use]
    pub fn missing_from(&self, carried: &Self) -> Self {
        let missing = self.0.iter().filter(|(key, value)| carried.0.get(*key) != Some(*value));
        Self(missing.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn bounded(self) -> Result<Self, LabelError> {
        if self.0.len() > MAX_LABELS { Err(LabelError::TooMany(self.0.len())) } else { Ok(self) }
    }
}

impl fmt::Display for Labels {
    /// `gpu=true, zone=a`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(|(key, value)| format!("{key}={value}")).collect();
        f.pad(&all.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Labels {
        Labels::of(text.split_whitespace().map(|label| label.parse().unwrap())).unwrap()
    }

    #[test]
    fn labels_are_key_and_value_of_plain_characters() {
        let long = "a".repeat(63);
        for good in ["gpu=true", "example.com/zone=europe-west4-A", "0_x-y=", &format!("{long}={long}")] {
            assert_eq!(good.parse::<Label>().unwrap().to_string(), good);
        }
        let (key, value) = (format!("{long}a=x"), format!("x={long}a"));
        for bad in
            ["", "gpu", "=true", "GPU=true", "-a=b", "a b=c", "a=b c", "a=b=c", "a=\u{e4}", "a\n=b", &key, &value]
        {
            let error = bad.parse::<Label>().unwrap_err().to_string();
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn one_value_per_key_and_not_too_many() {
        assert_eq!(labels("zone=a gpu=true gpu=true").to_string(), "gpu=true, zone=a");
        let two = Labels::of(["gpu=true", "gpu=false"].map(|label| label.parse().unwrap()));
        assert_eq!(two, Err(LabelError::Twice("gpu".parse().unwrap())));
        let many = |count: usize| Labels::of((0..count).map(|i| format!("k{i}=v").parse().unwrap()));
        assert!(many(MAX_LABELS).is_ok());
        assert_eq!(many(MAX_LABELS + 1), Err(LabelError::TooMany(33)));
        assert!(many(MAX_LABELS).unwrap().with(&labels("one=more")).is_err());
    }

    #[test]
    fn what_is_missing_is_named() {
        let carried = labels("gpu=true zone=a");
        assert!(labels("gpu=true").missing_from(&carried).is_empty());
        assert_eq!(labels("gpu=false zone=a disk=fast").missing_from(&carried).to_string(), "disk=fast, gpu=false");
        assert!(Labels::default().missing_from(&Labels::default()).is_empty());
    }

    #[test]
    fn the_wire_and_json_hold_valid_labels_only() {
        let all = labels("gpu=true zone=a");
        assert_eq!(Labels::from_wire(&all.to_wire()).unwrap(), all);
        assert!(Labels::from_wire(&BTreeMap::from([("A".to_owned(), "b".to_owned())])).is_err());
        let json = serde_json::to_string(&all).unwrap();
        assert_eq!(json, r#"{"gpu":"true","zone":"a"}"#);
        assert_eq!(serde_json::from_str::<Labels>(&json).unwrap(), all);
        assert!(serde_json::from_str::<Labels>(r#"{"gpu":"a b"}"#).is_err());
    }
}
