//! The real binary against a fake coordinator: what it prints, what it asks for, and its exit codes.

#![allow(clippy::unwrap_used)]

mod adopt;
mod allow_from;
mod backups;
mod create;
mod delete;
mod export;
mod images;
mod keys;
mod lifetime;
mod list;
mod moves;
mod nodes;
mod openssh;
mod people;
mod program;
mod refusals;
mod repair;
mod replicas;
mod snapshots;
mod ssh;
mod support;
mod top;
mod watch;
