//! Stories told on the real programs: real PAM, real TLS, real SQLite, real X server, real processes.

mod bad_input;
mod bot_calls;
mod display;
mod ends;
mod leaves_nothing;
mod licenses;
mod output;
mod restarts;
mod runs_a_job;
mod secrets;
