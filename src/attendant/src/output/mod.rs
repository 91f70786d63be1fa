//! The bot's output on its way to the spool: pipe, masks, lines, records, frames.

mod lane;
mod lines;
mod quota;
mod stream;
mod totals;

pub(crate) use lane::LaneError;
pub(crate) use lane::{Lane, Progress, most_lost};
pub(crate) use quota::Quota;
pub(crate) use stream::{Stream, log_lines};
