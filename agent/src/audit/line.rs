//! One line of a log, taken apart: when, by which program, what. Pure. A line that is not exactly of a known form is
//! nothing; what an attacker may have put into it is behind everything that is looked at here.

use chrono::{DateTime, Datelike, Local, NaiveDateTime, TimeZone};

/// sshd itself, and since OpenSSH 9.8 the program that serves one connection.
const SSHD: [&str; 3] = ["sshd", "sshd-session", "sshd-auth"];

/// What sshd said, and when: of a line as syslog writes it, with a full date or the old one without a year.
pub(crate) fn of_sshd(line: &str, now: DateTime<Local>) -> Option<(i64, &str)> {
    let (at, rest) = rfc3339(line).or_else(|| bsd(line, now))?;
    let (_host, rest) = rest.split_once(' ')?;
    let (program, message) = rest.split_once(": ")?;
    let name = program.split_once('[').map_or(Some(program), |(name, pid)| {
        let digits = pid.strip_suffix(']')?;
        digits.bytes().all(|b| b.is_ascii_digit()).then_some(name)
    })?;
    SSHD.contains(&name).then_some((at, message))
}

/// "2026-11-24T14:43:53.123456+00:00 rest"
fn rfc3339(line: &str) -> Option<(i64, &str)> {
    let (stamp, rest) = line.split_once(' ')?;
    let at = DateTime::parse_from_rfc3339(stamp).ok()?;
    Some((at.timestamp_millis(), rest))
}

/// "Nov 24 14:43:53 rest": of the latest year in which it does not lie ahead by more than a day.
fn bsd(line: &str, now: DateTime<Local>) -> Option<(i64, &str)> {
    let (stamp, rest) = (line.get(..15)?, line.get(15..)?.strip_prefix(' ')?);
    let in_year = |year: i32| {
        let naive = NaiveDateTime::parse_from_str(&format!("{year} {stamp}"), "%Y %b %e %H:%M:%S").ok()?;
        Local.from_local_datetime(&naive).earliest()
    };
    let tomorrow = now + chrono::TimeDelta::days(1);
    let at = in_year(now.year()).filter(|at| *at <= tomorrow).or_else(|| in_year(now.year() - 1))?;
    Some((at.timestamp_millis(), rest))
}

/// What a jail of fail2ban did, and when: "2026-11-24 14:43:53,123 fail2ban.actions [12]: NOTICE  [sshd] Ban 192.0.2.1"
/// gives `sshd` and `Ban 192.0.2.1`.
pub(crate) fn of_fail2ban(line: &str) -> Option<(i64, &str, &str)> {
    let (stamp, rest) = (line.get(..23)?, line.get(23..)?.strip_prefix(' ')?);
    let naive = NaiveDateTime::parse_from_str(stamp, "%Y-%m-%d %H:%M:%S,%3f").ok()?;
    let at = Local.from_local_datetime(&naive).earliest()?.timestamp_millis();
    let rest = rest.strip_prefix("fail2ban.actions")?.trim_start().strip_prefix('[')?;
    let (pid, rest) = rest.split_once("]: ")?;
    pid.bytes().all(|b| b.is_ascii_digit()).then_some(())?;
    let rest = rest.strip_prefix("NOTICE")?.trim_start().strip_prefix('[')?;
    let (jail, what) = rest.split_once("] ")?;
    Some((at, jail, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Local> {
        Local.with_ymd_and_hms(2026, 1, 2, 12, 0, 0).unwrap()
    }

    #[test]
    fn both_forms_of_syslog_are_read() {
        let new = of_sshd("2026-11-24T14:43:53.123456+01:00 jump-1 sshd[123]: Accepted x", now()).unwrap();
        assert_eq!(new, (1_795_527_833_123, "Accepted x"));
        let old = of_sshd("Jan  2 11:00:00 jump-1 sshd-session[9]: a: b", now()).unwrap();
        assert_eq!(old, (Local.with_ymd_and_hms(2026, 1, 2, 11, 0, 0).unwrap().timestamp_millis(), "a: b"));
        let last_year = of_sshd("Dec 31 23:00:00 jump-1 sshd: x", now()).unwrap();
        assert_eq!(last_year.0, Local.with_ymd_and_hms(2025, 12, 31, 23, 0, 0).unwrap().timestamp_millis());
    }

    #[test]
    fn other_programs_and_broken_lines_are_nothing() {
        for line in [
            "",
            "Accepted publickey for alice from 192.0.2.1 port 1 ssh2",
            "2026-11-24T14:43:53.123456+01:00 jump-1 sudo: alice : sshd[1]: Accepted x",
            "2026-11-24T14:43:53.123456+01:00 jump-1 sshd[1x]: Accepted x",
            "2026-11-24T14:43:53.123456+01:00 jump-1 notsshd[1]: Accepted x",
            "2026-11-24T14:43:53.123456+01:00 jump-1 sshd[1]:Accepted x",
            "Feb 30 11:00:00 jump-1 sshd[1]: x",
            "é 2 11:00:00 jump-1 sshd[1]: x",
        ] {
            assert_eq!(of_sshd(line, now()), None, "{line}");
        }
    }

    #[test]
    fn bans_are_read_and_what_is_found_is_not() {
        let line = "2026-11-24 14:43:53,123 fail2ban.actions        [123]: NOTICE  [sshd] Ban 192.0.2.1";
        let (_, jail, what) = of_fail2ban(line).unwrap();
        assert_eq!((jail, what), ("sshd", "Ban 192.0.2.1"));
        for line in [
            "2026-11-24 14:43:53,123 fail2ban.filter         [123]: INFO    [sshd] Found 192.0.2.1",
            "2026-11-24 14:43:53,123 fail2ban.actions        [x]: NOTICE  [sshd] Ban 192.0.2.1",
            "x fail2ban.actions [123]: NOTICE  [sshd] Ban 192.0.2.1",
        ] {
            assert_eq!(of_fail2ban(line), None, "{line}");
        }
    }
}
