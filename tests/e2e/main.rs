//! Stories told on the real programs: real PAM, real TLS, real SQLite, real X server, real processes.

mod administration;
mod bad_input;
mod bot_calls;
mod certificate;
mod desktop;
mod display;
mod ends;
mod enrolment;
mod full_disk;
mod hostile_trees;
mod imposters;
mod kills;
mod leaves_nothing;
mod licenses;
mod many;
mod messages;
mod missing;
mod neighbours;
mod order_keys;
mod output;
mod restarts;
mod runs_a_job;
mod secrets;
mod sessions;
mod traces;
mod watch;
