use std::{fs, io::Write};

use super::*;

struct Log {
    dir: tempfile::TempDir,
    at: Option<Place>,
}

impl Log {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), at: None }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("auth.log")
    }

    fn older(&self) -> PathBuf {
        self.dir.path().join("auth.log.1")
    }

    fn write(&self, text: &str) {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(self.path()).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// Everything that is there after the place, and whether something was lost.
    fn read(&mut self) -> (Vec<String>, bool) {
        let (mut lines, mut lost) = (Vec::new(), false);
        loop {
            let part = part(&self.path(), self.at.clone()).unwrap();
            lines.extend(part.lines.into_iter().map(|(_, text)| text));
            lost |= part.lost;
            self.at = part.next;
            if !part.more {
                return (lines, lost);
            }
        }
    }
}

fn lines(words: &[&str]) -> (Vec<String>, bool) {
    (words.iter().map(|word| (*word).to_owned()).collect(), false)
}

#[test]
fn each_line_is_read_once_and_never_half() {
    let mut log = Log::new();
    assert_eq!(log.read(), lines(&[]));
    log.write("one\ntw");
    assert_eq!(log.read(), lines(&["one"]));
    assert_eq!(log.read(), lines(&[]));
    log.write("o\nthree\n");
    assert_eq!(log.read(), lines(&["two", "three"]));
}

#[test]
fn a_renamed_file_is_read_to_its_end_and_then_the_next() {
    let mut log = Log::new();
    log.write("one\n");
    log.read();
    log.write("two\n");
    fs::rename(log.path(), log.older()).unwrap();
    assert_eq!(log.read(), lines(&["two"]));
    // The next file is there, and has no line yet: its writer may still hold the old one.
    log.write("");
    fs::OpenOptions::new().append(true).open(log.older()).unwrap().write_all(b"late\n").unwrap();
    assert_eq!(log.read(), lines(&["late"]));
    log.write("three\n");
    assert_eq!(log.read(), lines(&["three"]));
    log.write("four\n");
    assert_eq!(log.read(), lines(&["four"]));
}

#[test]
fn a_file_that_is_copied_and_cut_is_read_on_in_the_copy() {
    let mut log = Log::new();
    log.write("one\n");
    log.read();
    log.write("two\n");
    fs::copy(log.path(), log.older()).unwrap();
    fs::write(log.path(), "three\n").unwrap();
    assert_eq!(log.read(), lines(&["two", "three"]));
}

#[test]
fn two_rotations_in_one_are_told() {
    let mut log = Log::new();
    log.write("one\n");
    log.read();
    fs::remove_file(log.path()).unwrap();
    assert_eq!(log.read(), lines(&[]), "between two files nothing is lost yet");
    fs::write(log.older(), "two\n").unwrap();
    log.write("three\n");
    assert_eq!(log.read(), (vec!["two".to_owned(), "three".to_owned()], true));
}

#[test]
fn what_is_longer_than_any_line_of_sshd_is_passed_over() {
    let mut log = Log::new();
    log.write(&format!("one\n{}\ntwo\n", "x".repeat(700_000)));
    assert_eq!(log.read(), lines(&["one", "two"]));
    let mut long = Log::new();
    long.write(&format!("{}\ntwo\n", "x".repeat(700_000)));
    assert_eq!(long.read(), lines(&["two"]));
}

#[test]
fn a_cursor_survives_its_text() {
    let cursor = Cursor { file: Some(Place { id: "a".into(), at: 7 }), journal: None, fail2ban: None };
    assert_eq!(serde_json::from_str::<Cursor>(&serde_json::to_string(&cursor).unwrap()).unwrap(), cursor);
    assert_eq!(serde_json::from_str::<Cursor>("").unwrap_or_default(), Cursor::default());
}
