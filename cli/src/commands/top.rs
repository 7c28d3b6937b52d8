//! `top`: what machines use at this moment. Nodes count CPU time and nothing else; a share of it is made here, of two
//! counts and the times at which the node itself took them.

use std::{cell::Cell, collections::BTreeMap, ops::ControlFlow, time::Duration};

use containarium_proto::{convert, node::UsageSample, sizes::Bytes, v1};
use indicatif::HumanBytes;
use serde::Serialize;

use crate::{
    args::{Format, Global, Top, TopSort},
    client::Client,
    errors::{Failure, one_line},
    live::{self, Patience, Screen},
    output,
};

/// Long enough for a share that is worth a decimal, short enough to wait for.
const BETWEEN: Duration = Duration::from_secs(1);
/// Each round asks every node about every machine.
const ROUND: Duration = Duration::from_secs(2);

/// A machine as programs see it. What is not known is null.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Row {
    name: String,
    user: String,
    node: String,
    status: &'static str,
    /// Of one CPU.
    cpu_percent: Option<f64>,
    cpu: String,
    memory_bytes: Option<u64>,
    memory_limit_bytes: u64,
    memory_percent: Option<f64>,
    disk_bytes: Option<u64>,
    disk_quota_bytes: u64,
    disk_percent: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Note {
    node: String,
    note: String,
}

#[derive(Debug, Serialize)]
struct Usages {
    containers: Vec<Row>,
    notes: Vec<Note>,
    total_count: usize,
}

/// What a node said of a user's machine.
type Samples = BTreeMap<(String, String), UsageSample>;

pub(crate) async fn run(client: &Client, global: &Global, top: &Top) -> Result<(), Failure> {
    if top.watch {
        let began = Cell::new(false);
        return live::go_on(global.timeout, &began, watch(client, global.format, top, &began)).await;
    }
    let before = samples(&ask(client, top).await?);
    tokio::time::sleep(BETWEEN).await;
    let usages = Usages::of(&ask(client, top).await?, &before, top.sort);
    output::print(global.format, &usages, |_| usages.table())?;
    if matches!(global.format, Format::Table | Format::Wide) {
        usages.notes.iter().for_each(|note| output::note(&note.line()));
    }
    Ok(())
}

async fn ask(client: &Client, top: &Top) -> Result<v1::ListUsageResponse, Failure> {
    let request = v1::ListUsageRequest { nodes: top.node.iter().map(ToString::to_string).collect() };
    client.read(request, |mut fleet, request| async move { fleet.list_usage(request).await }).await
}

async fn watch(client: &Client, format: Format, top: &Top, began: &Cell<bool>) -> Result<(), Failure> {
    let screen = match format {
        Format::Table | Format::Wide => Screen::of_terminal(),
        Format::Json | Format::Yaml => None,
    };
    let mut patience = Patience::new(client, began);
    let mut before: Option<Samples> = None;
    loop {
        let answer = match ask(client, top).await {
            Ok(answer) => answer,
            Err(failure) => {
                patience.lost(failure).await?;
                continue;
            }
        };
        patience.heard();
        let now = samples(&answer);
        let Some(before) = before.replace(now) else {
            tokio::time::sleep(BETWEEN).await;
            continue;
        };
        let usages = Usages::of(&answer, &before, top.sort);
        let next = match &screen {
            Some(screen) => screen.draw(&usages.frame()).map(ControlFlow::Continue)?,
            None => output::out_while_read(&output::one_of_many(format, &usages)?)?,
        };
        if next.is_break() {
            return Ok(());
        }
        tokio::time::sleep(ROUND).await;
    }
}

fn samples(answer: &v1::ListUsageResponse) -> Samples {
    let sample = |c: &v1::ContainerUsage| Some(((c.node.clone(), c.user.clone()), sample_of(c)?));
    answer.containers.iter().filter_map(sample).collect()
}

fn sample_of(container: &v1::ContainerUsage) -> Option<UsageSample> {
    container.sample.as_ref().and_then(|sample| convert::usage_sample_from_wire(sample).ok())
}

/// Of one CPU, between two samples of one node. None: it was started anew, or there is nothing to compare.
fn cpu_percent(before: &UsageSample, now: &UsageSample) -> Option<f64> {
    let elapsed = now.at.checked_sub(before.at).filter(|elapsed| !elapsed.is_zero())?;
    let used = now.usage.cpu?.checked_sub(before.usage.cpu?)?;
    Some(one_decimal(used.as_secs_f64() / elapsed.as_secs_f64() * 100.0))
}

fn percent(used: u64, of: u64) -> Option<f64> {
    // Sizes are far below where a float gets inexact by a tenth of a percent.
    #[allow(clippy::cast_precision_loss)]
    (of > 0).then(|| one_decimal(used as f64 / of as f64 * 100.0))
}

fn one_decimal(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

impl Row {
    fn of(container: &v1::ContainerUsage, before: &Samples) -> Self {
        let now = sample_of(container);
        let earlier = before.get(&(container.node.clone(), container.user.clone()));
        let spec = container.spec.clone().unwrap_or_default();
        let cpu = spec.cpu.as_ref().and_then(|cpu| convert::cpu_from_wire(cpu).ok()).map(|cpu| cpu.to_string());
        let memory = now.map(|now| now.usage.memory.0);
        let disk = now.and_then(|now| now.usage.disk).map(|disk| disk.0);
        Self {
            name: container.name.clone(),
            user: container.user.clone(),
            node: container.node.clone(),
            status: output::phase(container.phase()),
            cpu_percent: earlier.zip(now.as_ref()).and_then(|(before, now)| cpu_percent(before, now)),
            cpu: cpu.unwrap_or_default(),
            memory_bytes: memory,
            memory_limit_bytes: spec.memory_bytes,
            memory_percent: memory.and_then(|used| percent(used, spec.memory_bytes)),
            disk_bytes: disk,
            disk_quota_bytes: spec.disk_bytes,
            disk_percent: disk.and_then(|used| percent(used, spec.disk_bytes)),
        }
    }

    fn cells(&self) -> Vec<String> {
        let share = |percent: Option<f64>| percent.map(|p| format!("{p:.1}%")).unwrap_or_default();
        let amount = |used: Option<u64>, of: u64| {
            let used = used.map_or_else(|| "-".to_owned(), |used| HumanBytes(used).to_string().replace(' ', ""));
            format!("{used}/{}", Bytes(of))
        };
        vec![
            self.user.clone(),
            self.node.clone(),
            self.status.to_owned(),
            share(self.cpu_percent),
            self.cpu.clone(),
            amount(self.memory_bytes, self.memory_limit_bytes),
            share(self.memory_percent),
            amount(self.disk_bytes, self.disk_quota_bytes),
            share(self.disk_percent),
        ]
    }
}

impl Note {
    fn line(&self) -> String {
        one_line(&format!("{} {}", self.node, self.note))
    }
}

impl Usages {
    fn of(answer: &v1::ListUsageResponse, before: &Samples, by: TopSort) -> Self {
        let mut containers: Vec<Row> = answer.containers.iter().map(|c| Row::of(c, before)).collect();
        sort(by, &mut containers);
        let note = |n: &v1::NodeNote| Note { node: n.node.clone(), note: n.note.clone() };
        Self { total_count: containers.len(), containers, notes: answer.notes.iter().map(note).collect() }
    }

    fn table(&self) -> String {
        let header = ["USER", "NODE", "STATUS", "CPU%", "CPU", "MEMORY", "MEMORY%", "DISK", "DISK%"];
        output::table(&header, self.containers.iter().map(Row::cells).collect())
    }

    /// With the notes below.
    fn frame(&self) -> String {
        let notes: String = self.notes.iter().map(|note| format!("\n{}", note.line())).collect();
        format!("{}{notes}", self.table())
    }
}

/// The coordinator gives them by name, and equals stay in that order. What is not known comes last.
fn sort(by: TopSort, rows: &mut [Row]) {
    match by {
        TopSort::Cpu => rows.sort_by(|a, b| {
            let share = |row: &Row| row.cpu_percent.unwrap_or(-1.0);
            share(b).total_cmp(&share(a))
        }),
        TopSort::Memory => rows.sort_by_key(|row| std::cmp::Reverse(row.memory_bytes)),
        TopSort::Disk => rows.sort_by_key(|row| std::cmp::Reverse(row.disk_bytes)),
        TopSort::User => {}
    }
}

#[cfg(test)]
mod tests {
    use containarium_proto::node::Usage;

    use super::*;

    #[test]
    fn a_share_is_of_two_counts_that_belong_together() {
        let sample = |cpu: Option<u64>, at: u64| UsageSample {
            usage: Usage { cpu: cpu.map(Duration::from_millis), ..Usage::default() },
            at: Duration::from_millis(at),
        };
        let cases = [
            (sample(Some(500), 1000), sample(Some(750), 2000), Some(25.0)),
            (sample(Some(0), 1000), sample(Some(3000), 2000), Some(300.0)),
            (sample(Some(500), 1000), sample(Some(500), 2500), Some(0.0)),
            (sample(Some(500), 1000), sample(Some(1), 2000), None),
            (sample(Some(500), 9000), sample(Some(600), 2000), None),
            (sample(Some(500), 1000), sample(Some(600), 1000), None),
            (sample(None, 1000), sample(Some(600), 2000), None),
        ];
        for (before, now, expected) in cases {
            assert_eq!(cpu_percent(&before, &now), expected, "{before:?} {now:?}");
        }
        assert_eq!((percent(1, 3), percent(1, 0)), (Some(33.3), None));
    }
}
