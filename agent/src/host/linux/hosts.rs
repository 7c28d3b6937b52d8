//! The containers' names on this machine: one block of /etc/hosts, between two lines of ours. sshd looks a name up here
//! when somebody passes through to it. What others wrote in the file is never touched.

use std::{fmt::Write, path::Path};

use containarium_proto::node::Account;

use super::files;
use crate::host::HostError;

const HOSTS: &str = "/etc/hosts";
const BEGIN: &str = "# containarium: begin; written by containarium-agent, changes are undone";
const END: &str = "# containarium: end";

/// Makes the names exactly those of these accounts' containers.
pub(super) async fn ensure(accounts: &[Account]) -> Result<(), HostError> {
    let path = Path::new(HOSTS);
    let before = files::read(path).await?.unwrap_or_default();
    let after = with_names(&before, accounts);
    if before == after {
        return Ok(());
    }
    files::replace(path, &after, 0o644).await
}

fn with_names(before: &str, accounts: &[Account]) -> String {
    let mut after = String::new();
    let mut ours = false;
    for line in before.lines() {
        ours |= line == BEGIN;
        if !ours {
            after.push_str(line);
            after.push('\n');
        }
        ours &= line != END;
    }
    let mut names = String::new();
    for account in accounts {
        if let Some(address) = account.permit {
            // Writing to a String cannot fail.
            writeln!(names, "{address}\t{}", account.username.container_name()).expect("a String takes all");
        }
    }
    if !names.is_empty() {
        after.push_str(&format!("{BEGIN}\n{names}{END}\n"));
    }
    after
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str, permit: Option<[u8; 4]>) -> Account {
        Account {
            username: name.parse().unwrap(),
            ssh_keys: Vec::new(),
            permit: permit.map(Into::into),
            shared: Vec::new(),
        }
    }

    #[test]
    fn the_block_is_replaced_and_the_rest_stays() {
        let others = "127.0.0.1\tlocalhost\n10.0.0.1 db\n";
        let one = with_names(others, &[account("alice", Some([10, 100, 1, 2])), account("bob", None)]);
        assert_eq!(one, format!("{others}{BEGIN}\n10.100.1.2\talice-container\n{END}\n"));
        let behind = format!("{one}10.0.0.2 mail\n");
        let two =
            with_names(&behind, &[account("alice", Some([10, 100, 2, 2])), account("carol", Some([10, 100, 2, 3]))]);
        assert_eq!(
            two,
            format!(
                "{others}10.0.0.2 mail\n{BEGIN}\n10.100.2.2\talice-container\n10.100.2.3\tcarol-container\n{END}\n"
            )
        );
        assert_eq!(with_names(&two, &[]), format!("{others}10.0.0.2 mail\n"));
        assert_eq!(with_names(&one, &[account("alice", Some([10, 100, 1, 2]))]), one);
    }
}
