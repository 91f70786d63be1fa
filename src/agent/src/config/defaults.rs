//! Every default in one place. `packaging/robotd.toml` shows the same values, and a test holds
//! the two together.

use super::{Admission, Config, Link, LogLevel};

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/robotd".into(),
            runtime_dir: "/run/robotd".into(),
            broker_socket: "/run/robotd-broker/broker.sock".into(),
            log_level: LogLevel::Info,
            labels: Default::default(),
            admission: Admission::default(),
            link: Link::default(),
        }
    }
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            max_jobs: None,
            min_free_mib: 512,
            spool_mib: 4096,
        }
    }
}

impl Default for Link {
    fn default() -> Self {
        // 60 s with full jitter keeps ten thousand agents that lost one server below 200
        // handshakes a second.
        Self {
            connect_timeout_s: 15,
            backoff_max_s: 60,
        }
    }
}
