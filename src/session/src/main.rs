//! robotd-session: opens, watches, closes and wipes one job. See the crate's documentation.

fn main() -> std::process::ExitCode {
    session::main(std::env::args().skip(1))
}
