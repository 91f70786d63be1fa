//! The certificate authority: made at first start, kept in the data directory.
//!
//! One P-256 root, valid for ten years; the server's certificate, renewed when
//! near its end; agents' certificates, valid for a day; the revocation list.

mod issue;
mod root;

pub(crate) use issue::{Request, ServerIdentity};
pub(crate) use root::Ca;
