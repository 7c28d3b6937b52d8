//! The question before something that cannot be taken back.

use std::io::Write;

use crate::{
    errors::{self, Failure},
    output,
};

/// Asks, and goes on only if exactly this word is typed. Whoever calls has seen that there is a terminal.
pub(crate) fn confirm(question: &str, word: &str) -> Result<(), Failure> {
    write!(std::io::stderr(), "{question} Type {word} to confirm: ")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if answer.trim() == word {
        return Ok(());
    }
    output::note("nothing was changed");
    Err(Failure::new(errors::REFUSED, "not confirmed"))
}
