//! `image ...`: the golden images that machines are cloned from.

use containarium_proto::v1;
use serde::Serialize;

use crate::{args::Format, client::Client, errors::Failure, output};

#[derive(Debug, Serialize)]
struct Images {
    images: Vec<Image>,
    total_count: usize,
}

#[derive(Debug, Serialize)]
struct Image {
    alias: String,
    fingerprint: String,
    is_default: bool,
    nodes: Vec<String>,
    missing_on: Vec<String>,
    servers: Vec<OnNode>,
}

/// How far one server is with an image.
#[derive(Debug, Serialize)]
struct OnNode {
    node: String,
    state: &'static str,
    detail: String,
}

pub(crate) async fn list(client: &Client, format: Format) -> Result<(), Failure> {
    let request = v1::ListImagesRequest {};
    let answer = client.read(request, |mut fleet, request| async move { fleet.list_images(request).await }).await?;
    show(format, answer)
}

pub(crate) async fn default(client: &Client, format: Format, image: Option<&String>) -> Result<(), Failure> {
    // Choosing the same twice is choosing it once, so it may be repeated like a read.
    let request = v1::SetDefaultImageRequest { image: image.cloned().unwrap_or_default() };
    let answer = client.read(request, |mut fleet, request| async move { fleet.set_default_image(request).await });
    show(format, answer.await?)
}

fn show(format: Format, answer: v1::ListImagesResponse) -> Result<(), Failure> {
    let images: Vec<Image> = answer.images.into_iter().map(Image::from).collect();
    let listed = Images { total_count: images.len(), images };
    output::print(format, &listed, |wide| table(&listed.images, wide))
}

impl From<v1::FleetImage> for Image {
    fn from(image: v1::FleetImage) -> Self {
        let v1::FleetImage { alias, fingerprint, nodes, missing_on, is_default, on_nodes } = image;
        let servers = on_nodes.into_iter().map(OnNode::from).collect();
        Self { alias, fingerprint, is_default, nodes, missing_on, servers }
    }
}

impl From<v1::ImageOnNode> for OnNode {
    fn from(on: v1::ImageOnNode) -> Self {
        let state = match on.state() {
            v1::ImageState::Present => "has it",
            v1::ImageState::Fetching => "fetching",
            v1::ImageState::Missing => "missing",
            v1::ImageState::Failed => "failed",
            v1::ImageState::Unspecified => "unknown",
        };
        Self { node: on.node, state, detail: on.detail }
    }
}

/// "jump-1 has it; jump-2 fetching from jump-1"
fn states(servers: &[OnNode]) -> String {
    let one = |on: &OnNode| format!("{} {} {}", on.node, on.state, on.detail).trim_end().to_owned();
    servers.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn table(images: &[Image], wide: bool) -> String {
    let mut header = vec!["ALIAS", "FINGERPRINT", "DEFAULT", "ON", "MISSING ON"];
    if wide {
        header.push("SERVERS");
    }
    let rows = images.iter().map(|image| {
        let fingerprint =
            if wide { image.fingerprint.as_str() } else { image.fingerprint.get(..12).unwrap_or_default() };
        let default = if image.is_default { "yes" } else { "-" };
        let missing = if image.missing_on.is_empty() { "-".to_owned() } else { image.missing_on.join(" ") };
        let mut row =
            vec![image.alias.clone(), fingerprint.to_owned(), default.to_owned(), image.nodes.join(" "), missing];
        if wide {
            row.push(states(&image.servers));
        }
        row
    });
    output::table(&header, rows.collect())
}
