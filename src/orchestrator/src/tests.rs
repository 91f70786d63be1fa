//! The whole server over real TLS, with an agent that is made of the wire's types.

mod agent;
mod identity;
mod leases;
mod life;
mod output;
mod server;
