//! ConfigureNode: what a node does differently from the fleet, and its labels. The operator's word, all of a request or
//! nothing; no node hears of it, and no container that is placed is moved by it.

use containarium_proto::{
    error::{Reason, Refusal},
    factor::{Factor, FactorError},
    labels::{LabelKey, Labels},
    names::NodeName,
    sizes::Bytes,
    spec::Capacity,
    v1,
};

use super::{
    nodes, parse,
    refuse::{field, no_such_node},
};
use crate::{
    config::MOST_CONTAINERS,
    reign::Reign,
    settings::NodeSettings,
    store::{EventKind, NodeRow},
};

/// A change that could succeed.
#[derive(Debug)]
pub(super) struct Configure {
    node: NodeName,
    reset: bool,
    settings: NodeSettings,
    set_labels: Labels,
    remove_labels: Vec<LabelKey>,
}

pub(super) fn parse(request: &v1::ConfigureNodeRequest) -> Result<Configure, Refusal> {
    let key = |key: &String| key.parse::<LabelKey>();
    let remove_labels = request.remove_labels.iter().map(key).collect::<Result<Vec<_>, _>>();
    let configure = Configure {
        node: parse::node(&request.name)?,
        reset: request.reset,
        settings: request.settings.as_ref().map(settings).transpose()?.unwrap_or_default(),
        set_labels: parse::labels(&request.set_labels)?,
        remove_labels: remove_labels.map_err(|e| field(e.to_string(), "give the key of a label, such as gpu"))?,
    };
    let nothing = configure.settings == NodeSettings::default()
        && !configure.reset
        && configure.set_labels.is_empty()
        && configure.remove_labels.is_empty();
    if nothing {
        return Err(field("nothing to change is given", "give a value, --reset, or a label"));
    }
    Ok(configure)
}

fn settings(wire: &v1::NodeSettings) -> Result<NodeSettings, Refusal> {
    let factor = |permille: u32| {
        Factor::from_permille(permille).map_err(|e: FactorError| field(e.to_string(), "give a factor such as 1.5"))
    };
    let headroom =
        |bytes: u64| Bytes(bytes).as_headroom().map_err(|e| field(e.to_string(), "give a size such as 2GiB"));
    let most = |count: u32| match count {
        1..=MOST_CONTAINERS => Ok(count),
        _ => {
            let message = format!("at most {count} containers is out of range: from 1 to {MOST_CONTAINERS}");
            Err(field(message, "cordon the node if nothing new may be placed there"))
        }
    };
    Ok(NodeSettings {
        overcommit_cpu: wire.overcommit_cpu_permille.map(factor).transpose()?,
        overcommit_memory: wire.overcommit_memory_permille.map(factor).transpose()?,
        overcommit_disk: wire.overcommit_disk_permille.map(factor).transpose()?,
        max_containers: wire.max_containers.map(most).transpose()?,
        headroom_memory: wire.headroom_memory_bytes.map(headroom).transpose()?,
        headroom_disk: wire.headroom_disk_bytes.map(headroom).transpose()?,
    })
}

/// Records it, if it is a change; gives the node as it is then.
pub(super) async fn set(reign: &Reign, wanted: &Configure) -> Result<v1::Node, Refusal> {
    let mut tx = reign.write().await?;
    let name = &wanted.node;
    let row = tx.reader().node(name).await?.ok_or_else(|| no_such_node(name.as_str()))?;
    let (settings, labels) = changed(&row, wanted)?;
    let differences = settings.differences(&row.settings);
    let relabelled = labels != row.labels;
    if !differences.is_empty() || relabelled {
        tx.configure_node(name, &settings, &labels).await?;
        if !differences.is_empty() {
            tx.note(name.as_str(), EventKind::NodeSettings, &differences).await?;
        }
        if relabelled {
            let message = if labels.is_empty() { "none".to_owned() } else { labels.to_string() };
            tx.note(name.as_str(), EventKind::NodeLabels, &message).await?;
        }
        tx.commit().await?;
        reign.wake_streams();
    }
    nodes::get(reign, name).await
}

/// The row's settings and labels as they are to be.
fn changed(row: &NodeRow, wanted: &Configure) -> Result<(NodeSettings, Labels), Refusal> {
    let before = if wanted.reset { NodeSettings::default() } else { row.settings };
    let settings = before.with(&wanted.settings);
    if let Some(capacity) = row.capacity {
        refuse_nothing_left(&row.name, capacity, &wanted.settings)?;
    }
    let mut labels = row.labels.clone();
    for key in &wanted.remove_labels {
        if !labels.remove(key) {
            let message = format!("{} has no label '{key}': nothing was changed", row.name);
            return Err(Refusal::new(Reason::NotFound, message)
                .hint(format!("see 'containarium node label list {}'", row.name)));
        }
    }
    let labels = labels.with(&wanted.set_labels);
    let labels = labels.map_err(|e| field(format!("{} would have {e}", row.name), "remove some first"))?;
    Ok((settings, labels))
}

/// A node that keeps all of itself for itself is a mistake; who wants nothing placed there cordons it.
fn refuse_nothing_left(name: &NodeName, capacity: Capacity, wanted: &NodeSettings) -> Result<(), Refusal> {
    let sizes = [("memory", wanted.headroom_memory, capacity.memory), ("disk", wanted.headroom_disk, capacity.disk)];
    for (what, kept, there) in sizes {
        if let Some(kept) = kept.filter(|kept| *kept >= there) {
            let message = format!("a headroom of {kept} is all of {name}'s {what}, which is {there}");
            return Err(field(message, "keep less, or cordon the node if nothing new may be placed there"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> v1::ConfigureNodeRequest {
        v1::ConfigureNodeRequest { name: "jump-1".into(), reset: true, ..Default::default() }
    }

    #[test]
    fn each_field_is_refused_by_name_with_a_cure() {
        type Spoil = fn(&mut v1::ConfigureNodeRequest);
        fn own(request: &mut v1::ConfigureNodeRequest) -> &mut v1::NodeSettings {
            request.settings.get_or_insert_default()
        }
        let cases: [(Spoil, &str); 8] = [
            (|r| r.name = "-".into(), "node name"),
            (|r| r.reset = false, "nothing to change"),
            (|r| own(r).overcommit_cpu_permille = Some(1), "factor"),
            (|r| own(r).overcommit_disk_permille = Some(100_001), "factor"),
            (|r| own(r).max_containers = Some(0), "containers"),
            (|r| own(r).headroom_memory_bytes = Some(u64::MAX), "headroom"),
            (|r| drop(r.set_labels.insert("gpu".into(), "a b".into())), "label value"),
            (|r| r.remove_labels.push("GPU".into()), "label key"),
        ];
        assert!(parse(&request()).is_ok());
        for (spoil, word) in cases {
            let mut bad = request();
            spoil(&mut bad);
            let refusal = parse(&bad).unwrap_err();
            assert!(refusal.message.contains(word), "{}", refusal.message);
            assert!(refusal.hint.is_some() && !refusal.message.contains('\n'), "{refusal:?}");
        }
    }
}
