//! robotd-broker: decides what runs on this host. See the crate's documentation.

fn main() -> std::process::ExitCode {
    broker::main(std::env::args_os().skip(1))
}
