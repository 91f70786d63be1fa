//! The whole server over real TLS, with an agent that is made of the wire's types.

mod agent;
mod attempts;
mod commands;
mod disk;
mod enrolment;
mod hostile;
mod identity;
mod leases;
mod life;
mod output;
mod pages;
mod publisher;
mod recovery;
mod results;
mod server;
mod shown;
mod tls;
mod viewer;
mod views;
