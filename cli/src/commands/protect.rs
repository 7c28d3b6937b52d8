//! `protect` and `unprotect`.

use containarium_proto::{names::Username, v1};

use crate::{
    args::Format,
    client::Client,
    errors::Failure,
    output::{self, Container},
};

pub(crate) async fn run(client: &Client, format: Format, user: &Username, protected: bool) -> Result<(), Failure> {
    let request = v1::SetProtectionRequest { user: user.to_string(), protected };
    // Saying it twice is saying it once, so a lost answer is asked for again.
    let answer = client.read(request, |mut fleet, request| async move { fleet.set_protection(request).await }).await?;
    let container = Container::from(&answer);
    output::print(format, &container, |_| {
        let word = if container.protected { "protected" } else { "not protected" };
        format!("{} is {word}\n", container.name)
    })
}
