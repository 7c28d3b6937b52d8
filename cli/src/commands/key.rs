//! `key add|list|remove|replace`, and how key files are read. Files are checked before anything is dialled; a private key
//! is refused and never repeated.

use std::io::Read;

use containarium_proto::{ids::RequestId, keys::KeySet, v1};
use serde::Serialize;

use crate::{
    args::{Format, Global, Key},
    client::Client,
    commands::{list, progress},
    errors::Failure,
    output,
};

/// A key file is small; this bounds what standard input can make us read.
const MAX_INPUT: u64 = 1 << 20;

#[derive(Debug, Serialize)]
struct Keys {
    user: String,
    keys: Vec<One>,
}

#[derive(Debug, Serialize)]
struct One {
    fingerprint: String,
    algorithm: String,
    comment: String,
}

pub(crate) async fn run(global: &Global, key: &Key) -> Result<(), Failure> {
    let mut request = v1::ChangeKeysRequest { request_id: RequestId::generate().to_string(), ..Default::default() };
    match key {
        Key::List(user) => {
            let client = Client::new(global)?;
            let container = list::get(&client, &user.user).await?.container;
            return show(global.format, container.as_ref());
        }
        Key::Add(files) | Key::Replace(files) => {
            request.user = files.user.to_string();
            request.add = read(&files.ssh_key)?.to_lines();
            request.replace = matches!(key, Key::Replace(_));
        }
        Key::Remove(remove) => {
            request.user = remove.user.to_string();
            request.remove_fingerprints.clone_from(&remove.fingerprint);
            request.force = remove.force;
        }
    }
    let client = Client::new(global)?;
    let last = progress::change(&client, request, |mut fleet, request| async move { fleet.change_keys(request).await })
        .await?;
    show(global.format, last.container.as_ref())
}

fn show(format: Format, container: Option<&v1::Container>) -> Result<(), Failure> {
    let container = container.ok_or_else(|| Failure::new(1, "the coordinator gave no container"))?;
    let one = |key: &v1::SshKey| One {
        fingerprint: key.fingerprint.clone(),
        algorithm: key.algorithm.clone(),
        comment: key.comment.clone(),
    };
    let keys = Keys { user: container.user.clone(), keys: container.ssh_keys.iter().map(one).collect() };
    output::print(format, &keys, |_| {
        let row = |key: &One| vec![key.fingerprint.clone(), key.algorithm.clone(), key.comment.clone()];
        output::table(&["FINGERPRINT", "TYPE", "COMMENT"], keys.keys.iter().map(row).collect())
    })
}

/// All keys of some files, each once.
pub(crate) fn read(files: &[String]) -> Result<KeySet, Failure> {
    let mut lines = Vec::new();
    for file in files {
        let text = read_file(file)?;
        let keys: KeySet = text.parse().map_err(|error| Failure::usage(format!("{file}: {error}")))?;
        lines.extend(keys.to_lines());
    }
    KeySet::from_lines(lines.iter().map(String::as_str)).map_err(|e| Failure::usage(e.to_string()))
}

fn read_file(file: &str) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let read = match file {
        "-" => std::io::stdin().take(MAX_INPUT).read_to_end(&mut bytes),
        path => std::fs::File::open(path).and_then(|opened| opened.take(MAX_INPUT).read_to_end(&mut bytes)),
    };
    read.map_err(|error| Failure::usage(format!("reading the key file {file}: {error}")))?;
    String::from_utf8(bytes).map_err(|_| Failure::usage(format!("{file}: not a text file, so not a public key")))
}
