//! Flags of several coordinators on one Postgres.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use crate::config::{ElectionKind, Etcd, Ha};

/// Who says that it is one's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Who {
    /// The lease row in the database: it has rested.
    Sql,
    /// A campaign in etcd.
    Etcd,
}

#[derive(Debug, Args)]
pub(super) struct HaArgs {
    /// On Postgres: under which the other coordinators reach this one; without it, the address in --listen.
    #[arg(long, env = "CONTAINARIUM_COORDINATOR_ADVERTISE", value_name = "HOST:PORT", value_parser = host_port)]
    advertise: Option<String>,
    /// On Postgres: what tells that the leader is gone.
    #[arg(long, env = "CONTAINARIUM_COORDINATOR_ELECTION", value_enum, default_value = "sql")]
    election: Who,
    /// With --election etcd: its members, separated by commas.
    #[arg(long, env = "CONTAINARIUM_COORDINATOR_ETCD", value_name = "URL", value_delimiter = ',', value_parser = member,
          required_if_eq("election", "etcd"))]
    etcd: Vec<String>,
    /// Folder with etcd's ca.crt, and a client.crt and client.key that it accepts.
    #[arg(
        long,
        env = "CONTAINARIUM_COORDINATOR_ETCD_CERTS_DIR",
        value_name = "DIR",
        required_if_eq("election", "etcd")
    )]
    etcd_certs_dir: Option<PathBuf>,
    /// On Postgres: a leader that is silent for this long may be replaced.
    #[arg(long, env = "CONTAINARIUM_COORDINATOR_LEASE", default_value = "5s", value_parser = lease)]
    lease: Duration,
}

impl HaArgs {
    pub(super) fn into_config(self) -> Ha {
        let election = match self.election {
            Who::Sql => ElectionKind::Sql,
            Who::Etcd => ElectionKind::Etcd(Etcd { endpoints: self.etcd, certs_dir: self.etcd_certs_dir }),
        };
        Ha { advertise: self.advertise, election, lease: self.lease }
    }
}

fn host_port(text: &str) -> Result<String, String> {
    if crate::node::check_address(text) { Ok(text.to_owned()) } else { Err("not a HOST:PORT".to_owned()) }
}

/// The key to the leader's chair is worth a certificate.
fn member(text: &str) -> Result<String, String> {
    match text.strip_prefix("https://").is_some_and(crate::node::check_address) {
        true => Ok(text.to_owned()),
        false => Err("not https://HOST:PORT".to_owned()),
    }
}

/// etcd counts in seconds, and a database server pauses for one; nobody waits longer than a minute for a leader.
fn lease(text: &str) -> Result<Duration, String> {
    let parsed = humantime::parse_duration(text).ok();
    let fits = |lease: &Duration| (Duration::from_secs(2)..=Duration::from_secs(60)).contains(lease);
    parsed.filter(fits).ok_or_else(|| format!("'{text}' is not a duration from 2s to 60s"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        ha: HaArgs,
    }

    fn parse(line: &str) -> Result<Ha, String> {
        let words = ["coordinator"].into_iter().chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.ha.into_config()).map_err(|error| error.to_string())
    }

    #[test]
    fn elections() {
        assert_eq!(parse("").unwrap(), Ha::default());
        let etcd = "--election etcd --etcd https://a:2379,https://b:2379 --etcd-certs-dir /c --advertise c1:7443";
        let endpoints = vec!["https://a:2379".to_owned(), "https://b:2379".to_owned()];
        let expected = ElectionKind::Etcd(Etcd { endpoints, certs_dir: Some("/c".into()) });
        assert_eq!(parse(etcd).unwrap().election, expected);
        for bad in [
            "--election etcd",
            "--election etcd --etcd https://a:1",
            "--election etcd --etcd http://a:1 --etcd-certs-dir /c",
            "--lease 1s",
            "--lease 2m",
            "--advertise here",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
