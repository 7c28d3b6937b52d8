//! `start`, `stop`, `restart`.

use containarium_proto::{
    ids::RequestId,
    names::Username,
    v1::{self, PowerAction},
};

use crate::{
    args::Format,
    client::Client,
    commands::{list, progress},
    errors::Failure,
    output,
};

pub(crate) async fn run(client: &Client, format: Format, user: &Username, action: PowerAction) -> Result<(), Failure> {
    let mut request =
        v1::SetPowerRequest { user: user.to_string(), request_id: RequestId::generate().to_string(), action: 0 };
    request.set_action(action);
    let last =
        progress::change(client, request, |mut fleet, request| async move { fleet.set_power(request).await }).await?;
    let container = list::needed(last.container.as_ref())?;
    output::print(format, &container, |_| format!("{} is {}\n", container.name, container.status))
}
