//! The options of the commands about people: sharing, sessions, the audit, bans.

use std::{net::IpAddr, time::Duration};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use clap::Subcommand;
use containarium_proto::{
    audit::AuditKind,
    names::{NodeName, Username},
};

use super::user;

/// Let another user into a machine.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Share {
    /// What is shared with whom.
    #[command(subcommand)]
    pub list: Option<ShareList>,
    /// Whose machine; alice-container is understood too.
    #[arg(value_parser = user, required = true)]
    pub user: Option<Username>,
    /// Who is let in, as themselves and with their own keys.
    #[arg(long, value_name = "USER", required = true)]
    pub with: Option<Username>,
    /// They may become root inside; without it, they may not, any more.
    #[arg(long)]
    pub sudo: bool,
}

/// Looks, and changes nothing.
#[derive(Debug, Subcommand)]
pub enum ShareList {
    /// What is shared with whom.
    List {
        /// Only this user's machine, and what others share with them.
        #[arg(value_parser = user)]
        user: Option<Username>,
    },
}

/// Let another user in no more.
#[derive(Debug, clap::Args)]
pub struct Unshare {
    /// Whose machine; alice-container is understood too.
    #[arg(value_parser = user)]
    pub user: Username,
    /// Who is let in no more; their sessions are ended.
    #[arg(long, value_name = "USER")]
    pub with: Username,
}

/// Who is connected.
#[derive(Debug, Subcommand)]
pub enum Sessions {
    /// Who is connected now, from where, to what, since when.
    List {
        /// Only of this user.
        #[arg(long, value_parser = user)]
        user: Option<Username>,
        /// Only through this server.
        #[arg(long, value_name = "NAME")]
        node: Option<NodeName>,
    },
    /// End sessions. Who still has a key may come back: 'key remove' or 'unshare' keeps them out.
    Kill {
        /// A user, or one session's id as 'sessions list' prints it.
        who: String,
    },
}

/// A user's latest logins.
#[derive(Debug, clap::Args)]
pub struct Last {
    /// Login name, also of one who has no machine any more.
    pub user: String,
    /// At most so many.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub limit: u32,
}

/// Who connected, tried, was kept out.
#[derive(Debug, clap::Args)]
pub struct Audit {
    /// From this time on: 2026-11-24, 2026-11-24T10:00:00Z, or so long ago: 2h, 7days. Without it, from the first.
    #[arg(long, value_parser = moment, value_name = "TIME")]
    pub since: Option<i64>,
    /// Up to this time. Without it, to the last.
    #[arg(long, value_parser = moment, value_name = "TIME")]
    pub until: Option<i64>,
    /// Only with this name, whoever gave it.
    #[arg(long)]
    pub user: Option<String>,
    /// Only on this server.
    #[arg(long, value_name = "NAME")]
    pub node: Option<NodeName>,
    /// Only of this kind: accepted, failed, rejected-key, denied, ended, banned, unbanned, gap. May be given several
    /// times.
    #[arg(long)]
    pub kind: Vec<AuditKind>,
}

/// Who is kept out, and who may be a danger.
#[derive(Debug, Subcommand)]
pub enum Security {
    /// Sessions, bans, the latest logins and failures.
    Status,
    /// Let a banned address in again.
    Unban {
        /// Which.
        address: IpAddr,
        /// Only on this server; without it, on all.
        #[arg(long, value_name = "NAME")]
        node: Option<NodeName>,
    },
}

/// Unix milliseconds of a time, a day's beginning in UTC, or a duration before now.
fn moment(text: &str) -> Result<i64, String> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(at.timestamp_millis());
    }
    if let Some(at) = text.parse::<NaiveDate>().ok().and_then(|day| day.and_hms_opt(0, 0, 0)) {
        return Ok(at.and_utc().timestamp_millis());
    }
    let ago = |ago: Duration| Utc::now().checked_sub_signed(TimeDelta::from_std(ago).ok()?);
    let at = humantime::parse_duration(text).ok().and_then(ago).map(|at| at.timestamp_millis());
    at.ok_or_else(|| "give a time such as 2026-11-24T10:00:00Z, a day, or a duration such as 2h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        assert_eq!(moment("2026-11-24T10:00:00Z"), Ok(1_795_514_400_000));
        assert_eq!(moment("2026-11-24T11:00:00+01:00"), Ok(1_795_514_400_000));
        assert_eq!(moment("2026-11-24"), Ok(1_795_478_400_000));
        let ago = Utc::now().timestamp_millis() - moment("2h").unwrap();
        assert!((7_200_000..7_260_000).contains(&ago), "{ago}");
        for bad in ["", "yesterday", "2026-13-01", "24.11.2026", "-1h", "9999999999999years"] {
            assert!(moment(bad).is_err(), "{bad}");
        }
    }
}
