//! Exit codes of robotd and robotctl: those of sysexits.h, so that scripts can tell who has to act.

/// All is well.
pub const OK: u8 = 0;
/// The command line.
pub const USAGE: u8 = 64;
/// What was handed over: a token, a file.
pub const DATA: u8 = 65;
/// A file that was named is not there.
pub const NO_INPUT: u8 = 66;
/// robotd, the broker or the orchestrator does not answer.
pub const UNAVAILABLE: u8 = 69;
/// A bug.
pub const SOFTWARE: u8 = 70;
/// The operating system.
pub const OS: u8 = 71;
/// A file can't be written.
pub const CANNOT_CREATE: u8 = 73;
/// It may pass: try again.
pub const TEMPORARY: u8 = 75;
/// Not allowed.
pub const NO_PERMISSION: u8 = 77;
/// The configuration.
pub const CONFIG: u8 = 78;
