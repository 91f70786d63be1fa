//! The generated types of `robotd.link.v1` and nothing else.
//!
//! What a message means and which errors it can bring stands in `proto/`.
//! With the feature `service` also the gRPC client and server; the attendant
//! goes without it and links no network code.

/// Package `robotd.link.v1`.
pub mod v1 {
    #![allow(
        missing_docs,
        clippy::all,
        reason = "generated; the documentation is in proto/"
    )]
    include!(concat!(env!("OUT_DIR"), "/robotd.link.v1.rs"));
}
