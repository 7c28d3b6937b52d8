//! One file per command. Each takes what was typed and ends in an output or a failure.

mod adopt;
mod audit;
mod backup;
mod cert;
mod configure;
mod confirm;
mod create;
mod delete;
mod events;
mod export;
mod image;
mod image_bake;
mod image_import;
mod key;
mod list;
mod lost;
mod moving;
mod node;
mod power;
mod progress;
mod protect;
mod repair;
mod replica;
mod resize;
mod security;
mod sessions;
mod set;
mod share;
mod snapshot;
mod ssh;
mod ssh_ca;
mod ssh_config;
mod top;
mod version;
mod watch;

use clap::CommandFactory;
use containarium_proto::v1::PowerAction;

use crate::{
    args::{Args, Cert, Command, Image, SshConfig},
    client::Client,
    errors::Failure,
    output,
};

pub(crate) async fn run(args: &Args) -> Result<(), Failure> {
    let format = args.global.format;
    let client = || Client::new(&args.global);
    match &args.command {
        Command::Create(create) => create::run(&args.global, create).await,
        Command::List(wanted) if wanted.watch => watch::list(&client()?, &args.global, wanted).await,
        Command::List(wanted) => list::list(&client()?, format, wanted).await,
        Command::Info(user) => list::info(&client()?, format, &user.user).await,
        Command::Delete(delete) => delete::run(&args.global, delete).await,
        Command::Protect(user) => protect::run(&client()?, format, &user.user, true).await,
        Command::Unprotect(user) => protect::run(&client()?, format, &user.user, false).await,
        Command::Start(user) => power::run(&client()?, format, &user.user, PowerAction::Start).await,
        Command::Stop(user) => power::run(&client()?, format, &user.user, PowerAction::Stop).await,
        Command::Restart(user) => power::run(&client()?, format, &user.user, PowerAction::Restart).await,
        Command::Resize(resize) => resize::run(&client()?, format, resize).await,
        Command::Repair(user) => repair::run(&client()?, format, &user.user).await,
        Command::Move(wanted) => moving::run(&client()?, format, wanted).await,
        Command::Replicate(wanted) => replica::replicate(&client()?, format, wanted).await,
        Command::Failover(wanted) => replica::failover(&args.global, wanted).await,
        Command::Set(set) => set::run(&client()?, format, set).await,
        Command::Snapshot(snapshot) => snapshot::run(&client()?, format, snapshot).await,
        Command::Backup(wanted) => backup::run(&args.global, wanted).await,
        Command::Key(key) => key::run(&args.global, key).await,
        Command::Export(export) => export::run(&args.global, export).await,
        Command::Ssh(wanted) => ssh::run(&args.global, wanted).await,
        Command::SshCa(command) => ssh_ca::run(&client()?, format, command).await,
        Command::SshConfig(SshConfig::Sync(wanted)) => ssh_config::sync(&args.global, wanted).await,
        Command::Share(share) => share::share(&client()?, format, share).await,
        Command::Unshare(unshare) => share::unshare(&client()?, format, unshare).await,
        Command::Sessions(sessions) => sessions::run(&client()?, format, sessions).await,
        Command::Last(last) => audit::last(&client()?, format, last).await,
        Command::Audit(audit) => audit::run(&client()?, format, audit).await,
        Command::Security(security) => security::run(&client()?, format, security).await,
        Command::Image(Image::Import(wanted)) => image_import::run(&client()?, format, wanted).await,
        Command::Image(Image::Bake(wanted)) => image_bake::run(&args.global, wanted).await,
        Command::Image(Image::List) => image::list(&client()?, format).await,
        Command::Image(Image::Default { image, reset: _ }) => image::default(&client()?, format, image.as_ref()).await,
        Command::Node(node) => node::run(&client()?, format, node).await,
        Command::Events(events) if events.follow => events::follow(&client()?, &args.global, events).await,
        Command::Events(events) => events::run(&client()?, format, events).await,
        Command::Top(top) => top::run(&client()?, &args.global, top).await,
        Command::Cert(Cert::Generate(generate)) => cert::generate(format, generate),
        Command::Version => version::run(&args.global).await,
        Command::Completions { shell } => completions(*shell),
    }
}

fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "containarium", &mut text);
    output::out(&String::from_utf8_lossy(&text))
}
