//! When a machine starts and stops by itself: `set`, and the values that `create` takes too.

use std::time::Duration;

use clap::{ArgGroup, Args as ClapArgs, ValueEnum};
use containarium_proto::{
    lifetime::{Bounds, IDLE_STOP, TTL},
    names::Username,
    snapshots::Keep,
};

use super::{SnapshotEvery, user};

/// How short it may be is for the fleet to say: its operator may have set it.
const LEAST: Duration = Duration::from_secs(1);
const ANY_TTL: Bounds = Bounds { least: LEAST, ..TTL };
const ANY_IDLE_STOP: Bounds = Bounds { least: LEAST, ..IDLE_STOP };

/// Change when a machine starts and stops by itself, or who may reach it; what is not given stays.
#[derive(Debug, ClapArgs)]
// Not #[group]: that one holds every argument, so the user name alone would do.
#[command(group = ArgGroup::new("lifetime").required(true).multiple(true).args([
    "autostart", "ttl", "idle_stop", "snapshots", "keep", "allow_from",
]))]
pub struct Set {
    /// User name; alice-container is understood too.
    #[arg(value_parser = user)]
    pub user: Username,
    /// Whether the machine starts when its server starts.
    #[arg(long, value_enum)]
    pub autostart: Option<Switch>,
    /// Stop it this long from now, such as 8h or 30days, and delete it a grace later; off: never.
    #[arg(long, value_parser = limit(ANY_TTL), value_name = "DURATION|off")]
    pub ttl: Option<Limit>,
    /// Stop it after this long without an ssh session or use of CPU, such as 12h; off: never.
    #[arg(long, value_parser = limit(ANY_IDLE_STOP), value_name = "DURATION|off")]
    pub idle_stop: Option<Limit>,
    /// Make a snapshot of it so often, while it runs.
    #[arg(long, value_enum, value_name = "WHEN")]
    pub snapshots: Option<SnapshotEvery>,
    /// Keep so many of these, the newest.
    #[arg(long, value_name = "N")]
    pub keep: Option<Keep>,
    /// Users whose machines may open connections to this one, and no others; none: nobody's. Given alone.
    #[arg(
        long, value_parser = allowed, value_delimiter = ',', value_name = "USER,..|none",
        conflicts_with_all = ["autostart", "ttl", "idle_stop"]
    )]
    pub allow_from: Option<Vec<Allowed>>,
}

/// A user, or that there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    /// None.
    Nobody,
    /// This one.
    User(Username),
}

fn allowed(text: &str) -> Result<Allowed, String> {
    match text {
        "none" => Ok(Allowed::Nobody),
        text => user(text).map(Allowed::User),
    }
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Yes.
    On,
    /// No.
    Off,
}

/// A duration, or that there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// None.
    Off,
    /// This long.
    After(Duration),
}

pub(super) fn ttl(text: &str) -> Result<Duration, String> {
    ANY_TTL.parse(text).map_err(|error| error.to_string())
}

pub(super) fn idle_stop(text: &str) -> Result<Duration, String> {
    ANY_IDLE_STOP.parse(text).map_err(|error| error.to_string())
}

fn limit(bounds: Bounds) -> impl Fn(&str) -> Result<Limit, String> + Clone + Send + Sync + 'static {
    move |text| match text {
        "off" => Ok(Limit::Off),
        text => bounds.parse(text).map(Limit::After).map_err(|error| format!("{error}, or off")),
    }
}
