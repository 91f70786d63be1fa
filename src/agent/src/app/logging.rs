//! The operator's log: the journal where one reads our standard error, else standard error.

use std::os::unix::fs::MetadataExt as _;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::LogLevel;

/// Starts it. Other people's crates speak up only when something is wrong.
pub(super) fn start(level: LogLevel) {
    let own = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let others = own.min(LevelFilter::WARN);
    let filter = Targets::new()
        .with_default(others)
        .with_target(env!("CARGO_CRATE_NAME"), own);
    let log = tracing_subscriber::registry().with(filter);
    let journal = journal_reads_us()
        .then(tracing_journald::layer)
        .and_then(Result::ok);
    // It fails only where a test has started one already.
    let _ = match journal {
        Some(journal) => log
            .with(journal.with_syslog_identifier("robotd".into()))
            .try_init(),
        None => log
            .with(
                tracing_subscriber::fmt::layer()
                    .with_writer(std::io::stderr)
                    .with_target(false),
            )
            .try_init(),
    };
}

/// systemd.exec(5): the variable names device and inode of the journal's stream; a child with
/// another standard error inherits the variable too.
fn journal_reads_us() -> bool {
    let named = std::env::var("JOURNAL_STREAM").ok();
    let facts = std::fs::metadata("/proc/self/fd/2").ok();
    named
        .zip(facts)
        .is_some_and(|(named, facts)| named == format!("{}:{}", facts.dev(), facts.ino()))
}
