//! When to try for the next term. Each way of knowing that nobody else leads is one file here; all end in
//! [`Store::take_lease`](crate::store::Store), which alone makes a fence. Nothing here may write anything else.

mod sole;

pub(crate) use sole::lead;
