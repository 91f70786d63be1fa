//! The verbs of a job, in the order of its life. Each knows from the journal whether it was done.

mod before;
mod closing;
mod ended;
mod secret;
mod start;

pub(super) use secret::fetch_secret;
