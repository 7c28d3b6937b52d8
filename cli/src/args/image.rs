//! `image import` and `image bake`, as data.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};
use containarium_proto::{image, names::NodeName};

/// Bring a golden image into the fleet.
#[derive(Debug, ClapArgs)]
pub struct ImageImport {
    /// What to call it: containarium-...
    #[arg(value_parser = name)]
    pub name: String,
    /// The image's metadata, a tar file.
    #[arg(long, value_name = "FILE")]
    pub metadata: PathBuf,
    /// The image's root file system, a squashfs or tar file.
    #[arg(long, value_name = "FILE")]
    pub rootfs: PathBuf,
    /// Send it to this server; without it, to the one with most room.
    #[arg(long, value_name = "NAME")]
    pub node: Option<NodeName>,
}

/// Make a golden image on this machine.
#[derive(Debug, ClapArgs)]
pub struct ImageBake {
    /// Where the image and its manifest go; made if missing.
    #[arg(long, value_name = "DIR")]
    pub output_dir: PathBuf,
    /// What it is made of.
    #[arg(long, value_enum, default_value = "debian")]
    pub base: Base,
    /// Release of it, such as bookworm or noble.
    #[arg(long, value_name = "NAME")]
    pub suite: Option<String>,
    /// Package mirror; without it, the one that this machine's apt uses.
    #[arg(long, value_name = "URL")]
    pub mirror: Option<String>,
    /// Also if an image of the same inputs is there.
    #[arg(long)]
    pub force: bool,
    /// Then bring it into the fleet.
    #[arg(long)]
    pub import: bool,
}

/// A distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Base {
    /// Debian, bookworm unless said otherwise.
    Debian,
    /// Ubuntu, noble unless said otherwise.
    Ubuntu,
}

fn name(text: &str) -> Result<String, image::ImageError> {
    image::check_name(text).map(|()| text.to_owned())
}
