//! Which image a create means: an alias or a fingerprint becomes one fingerprint. Pure. It must never invent an image
//! that no node has reported.

use std::collections::{BTreeMap, BTreeSet};

use containarium_proto::spec::{Fingerprint, Image};

/// What was resolved: the name for people, the identity for nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) alias: String,
    pub(crate) fingerprint: Fingerprint,
}

/// Resolves `wanted` against the images of every node that may be used. Where nodes disagree on what an alias means
/// (a new image on its way), the fingerprint that most nodes have wins, so that most nodes can take the container;
/// among equals the greatest, so that the answer does not depend on the order of nodes.
pub(crate) fn resolve<'a>(wanted: &str, nodes: impl IntoIterator<Item = &'a [Image]>) -> Result<Chosen, Vec<String>> {
    let mut known = BTreeSet::new();
    let mut votes: BTreeMap<&Fingerprint, u32> = BTreeMap::new();
    let mut alias_of: BTreeMap<&Fingerprint, &str> = BTreeMap::new();
    for image in nodes.into_iter().flatten() {
        known.insert(image.alias.clone());
        let fingerprint = &image.fingerprint;
        if image.alias == wanted || fingerprint.to_string() == wanted {
            *votes.entry(fingerprint).or_default() += 1;
            alias_of.entry(fingerprint).and_modify(|a| *a = (*a).min(&image.alias)).or_insert(&image.alias);
        }
    }
    let best = votes.into_iter().max_by_key(|(fingerprint, count)| (*count, *fingerprint));
    let Some((fingerprint, _)) = best else {
        return Err(known.into_iter().filter(|alias| !alias.is_empty()).collect());
    };
    let by_alias = fingerprint.to_string() != wanted;
    let alias = if by_alias { wanted } else { alias_of.get(fingerprint).copied().unwrap_or_default() };
    Ok(Chosen { alias: alias.to_owned(), fingerprint: fingerprint.clone() })
}

/// The name for people of an image that is in use on a node: what the node calls it, or how its fingerprint begins.
pub(crate) fn called(images: &[Image], fingerprint: &Fingerprint) -> String {
    let known = images.iter().find(|image| image.fingerprint == *fingerprint);
    known.map_or_else(|| format!("{:.12}", fingerprint.to_string()), |image| image.alias.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(alias: &str, digit: char) -> Image {
        Image { alias: alias.into(), fingerprint: digit.to_string().repeat(64).parse().unwrap() }
    }

    #[test]
    fn alias_fingerprint_majority_and_unknown() {
        let nodes = [
            vec![image("containarium", 'b'), image("old", 'a')],
            vec![image("containarium", 'a')],
            vec![image("containarium", 'a')],
        ];
        let ask = |wanted: &str| resolve(wanted, nodes.iter().map(Vec::as_slice));
        assert_eq!(ask("containarium").unwrap().fingerprint.to_string(), "a".repeat(64));
        assert_eq!(ask(&"b".repeat(64)).unwrap().alias, "containarium");
        assert_eq!(ask("nope").unwrap_err(), ["containarium", "old"]);
        let reversed = resolve("containarium", nodes.iter().rev().map(Vec::as_slice));
        assert_eq!(reversed, ask("containarium"));
    }
}
