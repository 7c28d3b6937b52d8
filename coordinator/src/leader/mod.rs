//! When to try for the next term. Each way of knowing that nobody else leads is one file here; all end in the lease row
//! of [`Store`](crate::store::Store), which alone makes a fence. Nothing here may write anything else, and nothing here
//! says when a reign is over: the row does, at the next beat or write.
//!
//! ```text
//! sole   the kernel's lock on the state folder   (one coordinator, SQLite)
//! sql    the row rested for a lease's time       (several, Postgres)
//! etcd   a campaign was won                      (several, Postgres)
//! ```

mod etcd;
mod follow;
mod sole;

pub(crate) use etcd::Campaign;
pub(crate) use follow::{Elected, Election, follow};
pub(crate) use sole::lead;
