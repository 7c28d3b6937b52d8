//! The service that the CLI talks to: requests to valid values, answers to messages, refusals for people. Generated
//! types end here. It must never talk to a node: it changes the database and wakes the drivers.

mod adopt;
mod allow;
mod audit;
mod authorities;
mod backups;
mod caller;
mod certified;
mod configure;
mod create;
mod delete;
mod drain;
mod gate;
mod image_import;
mod images;
mod keys;
mod lifetime;
mod limits;
mod list;
mod moves;
mod nodes;
mod parse;
mod power;
mod progress;
mod protect;
mod refuse;
mod render;
mod repair;
mod replicas;
mod resize;
mod restore;
mod serve;
mod service;
mod sessions;
mod settle;
mod share;
mod snapshots;
mod stray;
mod usage;
mod view;
mod watch;
mod watch_events;

pub(crate) use gate::{Standing, Told};
pub(crate) use serve::{Listeners, serve};
pub(crate) use service::FleetService;
pub(crate) use watch::Places;
