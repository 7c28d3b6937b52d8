//! One run of the real binary: nothing of the caller's settings reaches it, and it never outlives the test.

use std::{
    ffi::OsStr,
    fs::File,
    io::{Write, pipe},
    os::unix::{fs::FileExt, process::ExitStatusExt},
    process::{Child, Command, Stdio},
};

use super::until;

/// A command line, not yet run.
pub(crate) struct Cli {
    command: Command,
}

impl Cli {
    pub(crate) fn new<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_containarium"));
        command.args(args).env_clear().env("HOME", "/nonexistent").stdin(Stdio::null());
        Self { command }
    }

    /// A pipe that holds `text`, which must fit into it: a child that ends without reading it is no error.
    #[must_use]
    pub(crate) fn stdin(mut self, text: &str) -> Self {
        let (reader, mut writer) = pipe().unwrap();
        writer.write_all(text.as_bytes()).unwrap();
        self.command.stdin(reader);
        self
    }

    /// With a variable set, such as another home.
    #[must_use]
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// With standard output there, so that the outcome's is empty.
    pub(crate) fn start_into(mut self, to: impl Into<Stdio>) -> Running {
        self.command.stdout(to);
        self.spawn(None)
    }

    pub(crate) fn start(mut self) -> Running {
        let stdout = tempfile::tempfile().unwrap();
        self.command.stdout(stdout.try_clone().unwrap());
        self.spawn(Some(stdout))
    }

    pub(crate) fn run(self) -> Outcome {
        self.start().wait()
    }

    /// Files rather than pipes: no reader is needed for the child to go on, and what it said can be read meanwhile.
    fn spawn(mut self, stdout: Option<File>) -> Running {
        let stderr = tempfile::tempfile().unwrap();
        let child = self.command.stderr(stderr.try_clone().unwrap()).spawn().unwrap();
        Running { child, stdout, stderr }
    }
}

/// A child that is killed when it is dropped.
pub(crate) struct Running {
    child: Child,
    stdout: Option<File>,
    stderr: File,
}

impl Running {
    /// What it said so far on standard error.
    pub(crate) fn stderr(&self) -> String {
        text(&self.stderr)
    }

    /// And on standard output.
    pub(crate) fn stdout(&self) -> String {
        self.stdout.as_ref().map(text).unwrap_or_default()
    }

    /// As Ctrl-C does.
    pub(crate) fn interrupt(&self) {
        let kill = format!("kill -INT {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    pub(crate) fn wait(mut self) -> Outcome {
        let status = until("the command ends", || self.child.try_wait().unwrap());
        assert_eq!(status.signal(), None, "ended by a signal: {}", self.stderr());
        let stdout = self.stdout();
        Outcome { code: status.code().unwrap(), stdout, stderr: self.stderr() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only for a child that has ended and was waited for.
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

/// From the start, without moving the position that the child writes at.
fn text(file: &File) -> String {
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// Standard output of a run that went well.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }

    /// The one error line of a run that ended with `code` and printed nothing for programs.
    #[track_caller]
    pub(crate) fn error(&self, code: u8) -> &str {
        assert_eq!(self.code, i32::from(code), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        let errors: Vec<&str> = self.stderr.lines().filter_map(|line| line.strip_prefix("error: ")).collect();
        assert_eq!(errors.len(), 1, "{self:?}");
        errors[0]
    }
}
