//! `containarium`: a runtime and an exit code; everything else is the library's.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    ExitCode::from(containarium_cli::run(std::env::args_os()).await)
}
