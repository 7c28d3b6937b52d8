//! A golden image as the two files that Incus makes one of: what must be true of its name, its sizes and its order of
//! bytes before anybody opens it.

use crate::{
    spec::{Fingerprint, Image},
    v1,
};

/// What the name of every golden image begins with; an image with another name is none of the fleet's.
pub const PREFIX: &str = "containarium";
/// What is sent at once. Far below the 4 MB that a message may have.
pub const CHUNK: usize = 1 << 20;
/// A description and some templates.
const METADATA_MOST: u64 = 64 << 20;
/// More than any root file system of a golden image.
const ROOTFS_MOST: u64 = 64 << 30;
const NAME_MOST: usize = 64;

/// Why it cannot be an image.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The name.
    #[error("image name '{0}' must be '{PREFIX}', or begin with '{PREFIX}-', and have only a-z, 0-9, '.', '_' and '-'")]
    Name(String),
    /// A file that is too large, or empty.
    #[error("the {what} of an image has 1 to {most} bytes, not {given}")]
    Size {
        /// Which.
        what: &'static str,
        /// The largest.
        most: u64,
        /// As given.
        given: u64,
    },
    /// The fingerprint, or nothing at all.
    #[error("{0}")]
    Fingerprint(String),
}

/// An image that is on its way as two files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFiles {
    /// Name, and SHA-256 of both files, metadata first.
    pub image: Image,
    /// Size of the first.
    pub metadata_bytes: u64,
    /// Size of the second.
    pub rootfs_bytes: u64,
}

impl ImageFiles {
    /// Checks all that can be known before the first byte.
    ///
    /// # Errors
    /// Which part is wrong.
    pub fn new(image: Image, metadata_bytes: u64, rootfs_bytes: u64) -> Result<Self, ImageError> {
        check_name(&image.alias)?;
        for (what, most, given) in
            [("metadata", METADATA_MOST, metadata_bytes), ("root file system", ROOTFS_MOST, rootfs_bytes)]
        {
            if !(1..=most).contains(&given) {
                return Err(ImageError::Size { what, most, given });
            }
        }
        Ok(Self { image, metadata_bytes, rootfs_bytes })
    }

    /// Reads it from a message.
    ///
    /// # Errors
    /// Which part is wrong.
    pub fn from_wire(image: Option<&v1::Image>, metadata: u64, rootfs: u64) -> Result<Self, ImageError> {
        let image = image.ok_or_else(|| ImageError::Fingerprint("the image is missing".to_owned()))?;
        let fingerprint: Fingerprint =
            image.fingerprint.parse().map_err(|error| ImageError::Fingerprint(format!("{error}")))?;
        Self::new(Image { alias: image.alias.clone(), fingerprint }, metadata, rootfs)
    }

    /// Of both files.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.metadata_bytes.saturating_add(self.rootfs_bytes)
    }
}

/// Whether people may call a golden image so.
///
/// # Errors
/// They may not.
pub fn check_name(name: &str) -> Result<(), ImageError> {
    let rest = name.strip_prefix(PREFIX);
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    let well_formed =
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-') && rest.len() > 1 && rest.chars().all(good));
    if well_formed && name.len() <= NAME_MOST {
        return Ok(());
    }
    Err(ImageError::Name(name.chars().take(NAME_MOST).flat_map(char::escape_default).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["containarium", "containarium-noble", "containarium-debian-12.7_a"] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        let long = format!("containarium-{}", "x".repeat(60));
        for bad in ["", "noble", "containariumx", "containarium-", "containarium-A", "containarium-a b", "c/x", &long] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        let image = || Image { alias: "containarium-x".into(), fingerprint: "5".repeat(64).parse().unwrap() };
        assert_eq!(ImageFiles::new(image(), 1, 2).unwrap().total_bytes(), 3);
        for (metadata, rootfs) in [(0, 1), (1, 0), (METADATA_MOST + 1, 1), (1, ROOTFS_MOST + 1), (u64::MAX, u64::MAX)] {
            assert!(ImageFiles::new(image(), metadata, rootfs).is_err(), "{metadata} {rootfs}");
        }
        let wire = v1::Image { alias: "containarium".into(), fingerprint: "5".repeat(63) };
        assert!(ImageFiles::from_wire(Some(&wire), 1, 1).is_err());
        assert!(ImageFiles::from_wire(None, 1, 1).is_err());
    }
}
