//! This machine's account files, read and written as a whole: any number of accounts in two replacements of a file, under
//! the lock that `useradd` and its kin take (lckpwdf). A tool per account reads and rewrites both files each time: for
//! 200 accounts 2 s to add and 2.5 s to delete on an idle disk, 13 s and 12 s on a busy one; as a whole, half a second with keys. It must never change a line that does not carry our stamp, nor lose one.
//!
//! ```text
//! passwd   alice:x:20000:998:containarium-fleet=<id>:/home/alice:/usr/sbin/nologin
//! shadow   alice:*:20781:0:99999:7:::        '*' fits no password; '!' is a locked account, turned away without PAM
//! ```
//! The stamp is in passwd: it is written first and removed last, so that whatever is half made or half removed is known.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions, Permissions},
    io::{ErrorKind, Write},
    ops::RangeInclusive,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use containarium_proto::ids::FleetId;
use rustix::fs::{FlockOperation, fcntl_lock};

use super::files;
use crate::host::HostError;

pub(super) const PASSWD: &str = "/etc/passwd";
pub(super) const SHADOW: &str = "/etc/shadow";
const LOCK: &str = "/etc/.pwd.lock";
/// An administrator's `vipw` may hold it for as long as they think; their account comes at the next try.
const LOCK_WAIT: Duration = Duration::from_secs(15);
const LOCK_PAUSE: Duration = Duration::from_millis(10);
const SHELL: &str = "/usr/sbin/nologin";
const STAMP: &str = "containarium-fleet=";

/// Who may have what, in numbers.
#[derive(Debug, Clone)]
pub(super) struct Numbers {
    pub(super) uids: RangeInclusive<u32>,
    /// Of the group of all proxy accounts.
    pub(super) gid: u32,
}

/// One line of passwd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) comment: String,
    pub(super) home: String,
}

impl Entry {
    fn parse(line: &[u8]) -> Option<Self> {
        // A comment may be in any encoding; names, numbers and paths of ours are ASCII.
        let text = String::from_utf8_lossy(line);
        let fields: Vec<&str> = text.split(':').collect();
        let [name, _, uid, _, comment, home, _] = fields[..] else { return None };
        Some(Self { name: name.into(), uid: uid.parse().ok()?, comment: comment.into(), home: home.into() })
    }

    pub(super) fn is_of(&self, fleet: FleetId) -> bool {
        self.comment.strip_prefix(STAMP).is_some_and(|id| id == fleet.to_string())
    }
}

/// The lines of one of the files, as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Lines(Vec<Vec<u8>>);

impl Lines {
    fn parse(bytes: &[u8]) -> Self {
        let mut lines: Vec<Vec<u8>> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        if lines.last().is_some_and(Vec::is_empty) {
            lines.pop();
        }
        Self(lines)
    }

    fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|line| line.iter().copied().chain([b'\n'])).collect()
    }

    fn name(line: &[u8]) -> &[u8] {
        line.split(|byte| *byte == b':').next().unwrap_or_default()
    }
}

pub(super) fn entries() -> Result<Vec<Entry>, HostError> {
    let bytes = read(Path::new(PASSWD))?;
    Ok(Lines::parse(&bytes).0.iter().filter_map(|line| Entry::parse(line)).collect())
}

fn read(path: &Path) -> Result<Vec<u8>, HostError> {
    fs::read(path).map_err(|error| files::error("reading", path, &error))
}

/// Makes these accounts, all of ours, be there as they must be; gives the number of each. Names that others hold are
/// left out. `taken` says which numbers must not be given out, whoever has them.
pub(super) fn ensure(
    fleet: FleetId,
    names: &[&str],
    numbers: &Numbers,
    taken: impl FnOnce() -> Result<BTreeSet<u32>, HostError>,
) -> Result<BTreeMap<String, u32>, HostError> {
    let _lock = lock()?;
    let (passwd, shadow) = (Lines::parse(&read(Path::new(PASSWD))?), Lines::parse(&read(Path::new(SHADOW))?));
    let given = with(fleet, names, numbers, (&passwd, &shadow), taken)?;
    // The stamp first.
    if given.passwd != passwd {
        replace(Path::new(PASSWD), &given.passwd.to_bytes())?;
    }
    if given.shadow != shadow {
        replace(Path::new(SHADOW), &given.shadow.to_bytes())?;
    }
    Ok(given.uids)
}

/// Takes these accounts away, as far as they are ours.
pub(super) fn remove(fleet: FleetId, names: &BTreeSet<String>) -> Result<(), HostError> {
    let _lock = lock()?;
    let (passwd, shadow) = (Lines::parse(&read(Path::new(PASSWD))?), Lines::parse(&read(Path::new(SHADOW))?));
    let (fewer, fewer_shadow) = without(fleet, names, (&passwd, &shadow));
    // The stamp last.
    if fewer_shadow != shadow {
        replace(Path::new(SHADOW), &fewer_shadow.to_bytes())?;
    }
    if fewer != passwd {
        replace(Path::new(PASSWD), &fewer.to_bytes())?;
    }
    Ok(())
}

struct Given {
    passwd: Lines,
    shadow: Lines,
    uids: BTreeMap<String, u32>,
}

fn with(
    fleet: FleetId,
    names: &[&str],
    numbers: &Numbers,
    (passwd, shadow): (&Lines, &Lines),
    taken: impl FnOnce() -> Result<BTreeSet<u32>, HostError>,
) -> Result<Given, HostError> {
    let there: BTreeMap<String, Entry> =
        passwd.0.iter().filter_map(|line| Entry::parse(line)).map(|entry| (entry.name.clone(), entry)).collect();
    let mut free = FreeNumbers::new(numbers, there.values().map(|entry| entry.uid), taken);
    let mut given = Given { passwd: passwd.clone(), shadow: shadow.clone(), uids: BTreeMap::new() };
    for name in names {
        let uid = match there.get(*name) {
            Some(entry) if entry.is_of(fleet) => entry.uid,
            Some(_) => continue,
            None => free.next()?,
        };
        let line = format!("{name}:x:{uid}:{}:{STAMP}{fleet}:/home/{name}:{SHELL}", numbers.gid);
        put(&mut given.passwd, name, line.into_bytes(), |_| false);
        let today = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 86_400;
        let secret = format!("{name}:*:{today}:0:99999:7:::").into_bytes();
        // The date is nobody's business: a line without a password stays as it is.
        put(&mut given.shadow, name, secret, |line| line.starts_with(format!("{name}:*:").as_bytes()));
        given.uids.insert((*name).to_owned(), uid);
    }
    Ok(given)
}

/// Exactly one line of that name: this one, or one that is as good.
fn put(lines: &mut Lines, name: &str, line: Vec<u8>, is_as_good: impl Fn(&[u8]) -> bool) {
    let mut of_name = lines.0.iter_mut().filter(|line| Lines::name(line) == name.as_bytes());
    match of_name.next() {
        Some(there) if is_as_good(there) => {}
        Some(there) => *there = line,
        None => lines.0.push(line),
    }
}

fn without(fleet: FleetId, names: &BTreeSet<String>, (passwd, shadow): (&Lines, &Lines)) -> (Lines, Lines) {
    let ours = |line: &Vec<u8>| Entry::parse(line).filter(|e| e.is_of(fleet) && names.contains(&e.name));
    let gone: BTreeSet<Vec<u8>> =
        passwd.0.iter().filter_map(|line| ours(line).map(|entry| entry.name.into_bytes())).collect();
    let keep = |lines: &Lines, is_gone: &dyn Fn(&Vec<u8>) -> bool| {
        Lines(lines.0.iter().filter(|line| !is_gone(line)).cloned().collect())
    };
    (keep(passwd, &|line| ours(line).is_some()), keep(shadow, &|line| gone.contains(Lines::name(line))))
}

/// Numbers upwards from the highest in use, then the lowest that are free: one that was given back is given out again as
/// late as possible, and never while anything still has it.
struct FreeNumbers<T> {
    range: RangeInclusive<u32>,
    used: BTreeSet<u32>,
    last: u32,
    taken: Option<T>,
}

impl<T: FnOnce() -> Result<BTreeSet<u32>, HostError>> FreeNumbers<T> {
    fn new(numbers: &Numbers, used: impl Iterator<Item = u32>, taken: T) -> Self {
        let used: BTreeSet<u32> = used.filter(|uid| numbers.uids.contains(uid)).collect();
        let last = used.last().copied().unwrap_or_else(|| numbers.uids.start().saturating_sub(1));
        Self { range: numbers.uids.clone(), used, last, taken: Some(taken) }
    }

    fn next(&mut self) -> Result<u32, HostError> {
        // Asked only when one is needed: it looks at every process.
        if let Some(taken) = self.taken.take() {
            self.used.extend(taken()?);
        }
        let (start, end) = (*self.range.start(), *self.range.end());
        let upwards = self.last.saturating_add(1).max(start)..=end;
        let free = upwards.chain(start..=end).find(|uid| !self.used.contains(uid));
        let Some(uid) = free else {
            let text = format!("no user id from {start} to {end} is free: give the agent a wider --uid-range");
            return Err(HostError::permanent(text));
        };
        self.used.insert(uid);
        self.last = uid;
        Ok(uid)
    }
}

/// Held until the file is dropped.
fn lock() -> Result<File, HostError> {
    let path = Path::new(LOCK);
    let failed = |error: &std::io::Error| files::error("locking", path, error);
    let mut open = OpenOptions::new();
    let file = open.write(true).create(true).truncate(false).mode(0o600).open(path).map_err(|e| failed(&e))?;
    let until = Instant::now() + LOCK_WAIT;
    loop {
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) if Instant::now() < until => {
                std::thread::sleep(LOCK_PAUSE);
            }
            Err(error) => return Err(failed(&error.into())),
        }
    }
}

/// Never half a file, and no other owner or mode than before.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), HostError> {
    let aside = path.with_added_extension("containarium");
    let write = || -> std::io::Result<()> {
        let before = fs::metadata(path)?;
        match fs::remove_file(&aside) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
        file.write_all(bytes)?;
        fchown(&file, Some(before.uid()), Some(before.gid()))?;
        file.set_permissions(Permissions::from_mode(before.mode() & 0o7777))?;
        file.sync_all()?;
        fs::rename(&aside, path)?;
        path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    };
    write().map_err(|error| files::error("writing", path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHERS: &str = "root:x:0:0:root:/root:/bin/bash\njos\u{e9}:x:1000:1000:\u{e9}:/home/jos:/bin/sh\n";
    const SECRETS: &str = "root:$y$j9T$x:19000:0:99999:7:::\n";

    fn numbers() -> Numbers {
        Numbers { uids: 20_000..=20_003, gid: 998 }
    }

    fn ensured(fleet: FleetId, names: &[&str], passwd: &str, shadow: &str) -> Result<(String, String), HostError> {
        let lines = (&Lines::parse(passwd.as_bytes()), &Lines::parse(shadow.as_bytes()));
        let given = with(fleet, names, &numbers(), lines, || Ok(BTreeSet::from([20_001])))?;
        let text = |lines: &Lines| String::from_utf8(lines.to_bytes()).unwrap();
        Ok((text(&given.passwd), text(&given.shadow)))
    }

    #[test]
    fn accounts_are_added_after_what_is_there_and_no_number_is_given_out_that_something_has() {
        let fleet = FleetId::generate();
        let (passwd, shadow) = ensured(fleet, &["alice", "bob"], OTHERS, SECRETS).unwrap();
        let line = |name: &str, uid: u32| {
            format!("{name}:x:{uid}:998:containarium-fleet={fleet}:/home/{name}:/usr/sbin/nologin\n")
        };
        assert_eq!(passwd, format!("{OTHERS}{}{}", line("alice", 20_000), line("bob", 20_002)));
        assert!(
            shadow.starts_with(SECRETS) && shadow.contains("\nalice:*:") && shadow.contains("\nbob:*:"),
            "{shadow}"
        );
        // Again: the same bytes.
        assert_eq!(ensured(fleet, &["alice", "bob"], &passwd, &shadow).unwrap(), (passwd.clone(), shadow.clone()));
        let full = ensured(fleet, &["alice", "bob", "carol", "dave"], &passwd, &shadow).unwrap_err();
        assert!(full.permanent && full.message.contains("--uid-range"), "{full}");
    }

    #[test]
    fn what_somebody_gave_an_account_of_ours_is_taken_back_and_others_accounts_are_never_touched() {
        let fleet = FleetId::generate();
        let (passwd, shadow) = ensured(fleet, &["alice"], OTHERS, SECRETS).unwrap();
        let changed = passwd.replace("/home/alice:/usr/sbin/nologin", "/home/alice:/bin/bash");
        let opened = shadow.replace("alice:*:", "alice:$6$x:");
        assert_eq!(ensured(fleet, &["alice"], &changed, &opened).unwrap(), (passwd.clone(), shadow.clone()));
        // A stranger's alice, and another fleet's.
        assert_eq!(ensured(FleetId::generate(), &["alice", "root"], &passwd, &shadow).unwrap(), (passwd, shadow));
    }

    #[test]
    fn what_is_removed_leaves_the_files_as_they_were_before_and_a_crash_between_leaves_the_stamp() {
        let fleet = FleetId::generate();
        let (passwd, shadow) = ensured(fleet, &["alice", "bob"], OTHERS, SECRETS).unwrap();
        let both = BTreeSet::from(["alice".to_owned(), "bob".to_owned(), "root".to_owned()]);
        let lines = (Lines::parse(passwd.as_bytes()), Lines::parse(shadow.as_bytes()));
        let (fewer, fewer_shadow) = without(fleet, &both, (&lines.0, &lines.1));
        assert_eq!((fewer.to_bytes(), fewer_shadow.to_bytes()), (OTHERS.into(), SECRETS.into()));
        // Killed after the first file: the rest is done the next time; or, wanted again, made whole.
        assert_eq!(without(fleet, &both, (&lines.0, &fewer_shadow)), (fewer, fewer_shadow));
        let (again, again_shadow) = ensured(fleet, &["alice", "bob"], &passwd, SECRETS).unwrap();
        assert_eq!((again, again_shadow), (passwd, shadow));
    }

    #[test]
    fn bytes_that_are_no_text_stay_as_they_are() {
        let bytes = b"jos\xe9:x:1000:1000:\xff:/home/jos:/bin/sh\nbroken line\n+::::::\n";
        assert_eq!(Lines::parse(bytes).to_bytes(), bytes);
        let names: Vec<_> = Lines::parse(bytes).0.iter().filter_map(|line| Entry::parse(line)).collect();
        assert_eq!(names.len(), 1);
    }
}
