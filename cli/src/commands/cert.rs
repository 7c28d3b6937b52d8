//! `cert generate`: dials nobody.

use containarium_proto::pki::{self, GenerateOptions};
use serde::Serialize;

use crate::{
    args::{Format, Generate},
    errors::Failure,
    output,
};

#[derive(Debug, Serialize)]
struct Made {
    made: Vec<String>,
    kept: Vec<String>,
}

pub(crate) fn generate(format: Format, command: &Generate) -> Result<(), Failure> {
    let options = GenerateOptions {
        output_dir: command.output_dir.clone(),
        server_ips: command.server_ip.clone(),
        server_names: command.server_name.clone(),
        nodes: command.node.clone(),
        days: command.days,
    };
    let done = pki::generate(&options).map_err(|error| Failure::usage(crate::errors::chain(&error)))?;
    let names = |pairs: Vec<std::path::PathBuf>| pairs.iter().map(|pair| pair.display().to_string()).collect();
    let made = Made { made: names(done.made), kept: names(done.kept) };
    output::print(format, &made, |_| people(&made))
}

fn people(made: &Made) -> String {
    let lines = |what: &str, pairs: &[String]| -> String {
        pairs.iter().map(|pair| format!("{what}  {pair}.crt, {pair}.key\n")).collect()
    };
    format!(
        "{}{}ca.crt and server.* go to the coordinator, ca.crt and client.* to whoever uses this command, ca.crt and \
         agent-NAME.* to server NAME; ca.key stays where it is.\n",
        lines("made", &made.made),
        lines("kept", &made.kept)
    )
}
