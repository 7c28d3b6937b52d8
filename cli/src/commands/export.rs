//! `export`: an ssh configuration that can be appended to ~/.ssh/config again and again, and beside it the file of known
//! hosts that it names.

use containarium_proto::names::Username;

use crate::{
    access::{Access, Choice, quoted},
    args::{Export, Global},
    client::Client,
    commands::list,
    errors::Failure,
    files, output,
};

pub(crate) async fn run(global: &Global, export: &Export) -> Result<(), Failure> {
    let key = quoted(&export.key)?;
    let client = Client::new(global)?;
    let choice = Choice { jump: export.jump_ip.as_deref(), known_hosts: export.known_hosts.as_deref() };
    let answer = list::get(&client, &export.user).await?;
    let container = list::needed(answer.container.as_ref())?;
    let access = Access::ask(&client, choice).await?;
    let user = export.user.as_str();
    let mut text = access.block(user, &container.name, &key)?;
    for share in &answer.shared_with_owner {
        let owner: Username =
            share.owner.parse().map_err(|e| Failure::new(1, format!("the coordinator's answer: {e}")))?;
        text += &access.shared_block(user, owner.as_str(), &share.container, &key)?;
    }
    text += &access.for_other_machines();
    access.write_known_hosts()?;
    match &export.output {
        None => output::out(&text),
        Some(path) => {
            files::ensure(path, &text, 0o600)
                .map_err(|e| Failure::usage(format!("writing {}: {e}", path.display())))?;
            output::note(&format!("written to {}; try: ssh -F {} {user}-dev", path.display(), path.display()));
            Ok(())
        }
    }
}
