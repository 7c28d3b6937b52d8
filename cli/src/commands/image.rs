//! `image ...`: the golden images that machines are cloned from.

use containarium_proto::v1;
use serde::Serialize;

use crate::{
    args::{self, Format},
    client::Client,
    errors::Failure,
    output,
};

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
}

pub(crate) async fn run(client: &Client, format: Format, command: &args::Image) -> Result<(), Failure> {
    let answer = match command {
        args::Image::List => {
            let request = v1::ListImagesRequest {};
            client.read(request, |mut fleet, request| async move { fleet.list_images(request).await }).await?
        }
        args::Image::Default { image, reset: _ } => {
            // Choosing the same twice is choosing it once, so it may be repeated like a read.
            let request = v1::SetDefaultImageRequest { image: image.clone().unwrap_or_default() };
            client.read(request, |mut fleet, request| async move { fleet.set_default_image(request).await }).await?
        }
    };
    let images: Vec<Image> = answer.images.into_iter().map(Image::from).collect();
    let listed = Images { total_count: images.len(), images };
    output::print(format, &listed, |wide| table(&listed.images, wide))
}

impl From<v1::FleetImage> for Image {
    fn from(image: v1::FleetImage) -> Self {
        let v1::FleetImage { alias, fingerprint, nodes, missing_on, is_default } = image;
        Self { alias, fingerprint, is_default, nodes, missing_on }
    }
}

fn table(images: &[Image], wide: bool) -> String {
    let rows = images.iter().map(|image| {
        let fingerprint =
            if wide { image.fingerprint.as_str() } else { image.fingerprint.get(..12).unwrap_or_default() };
        let default = if image.is_default { "yes" } else { "-" };
        let missing = if image.missing_on.is_empty() { "-".to_owned() } else { image.missing_on.join(" ") };
        vec![image.alias.clone(), fingerprint.to_owned(), default.to_owned(), image.nodes.join(" "), missing]
    });
    output::table(&["ALIAS", "FINGERPRINT", "DEFAULT", "ON", "MISSING ON"], rows.collect())
}
