//! Secrets are masked before anything of the bot's output is kept or leaves.
//!
//! `forms` knows how programs write a secret, `needles` finds those forms in bytes, `stream`
//! masks an endless stream whose cuts say nothing: a secret may come in any number of writes.
//!
//! What this can't do: a bot that wants to tell its secret can always write it in a form that
//! nobody thought of. It guards against leaks, not against intent.

mod forms;
mod needles;
mod stream;

pub(crate) use forms::{MAX_FORM, MAX_SECRET, NotMaskable};
pub(crate) use needles::Needles;
pub(crate) use stream::{MASK, MaskStream, Masked, mask};
