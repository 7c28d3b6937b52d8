//! This release and the one before in one fleet: see `deploy/compat`, which builds both.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use containarium_tests::compat::{self, Release};

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let mut next = |what: &'static str| args.next().context(what);
    let usage = "usage: compat PREVIOUS-NAME PREVIOUS-SOURCE PREVIOUS-PROGRAMS";
    let (name, source, programs) = (next(usage)?, next(usage)?, next(usage)?);
    let ours = std::env::current_exe()?;
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("workspace folder")?;
    let old = Release::new(&name.display().to_string(), &source, &programs)?;
    let new = Release::new("this", here, ours.parent().context("a folder")?)?;
    compat::run(&old, &new)
}
