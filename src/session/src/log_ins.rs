//! Records of log-ins that `last` and `wtmpdb` show. A leader that dies can't close its own: the
//! account would count as logged in for ever.

use std::path::Path;

use privsep::session::{Account, Swept};
use sys::process::Spawn;

const WTMP: &str = "/var/log/wtmp";

/// What replaces it from Debian 13 on: an SQLite file.
const WTMPDB: &str = "/var/lib/wtmpdb/wtmp.db";

const PYTHON: &str = "/usr/bin/python3";

/// wtmpdb has no command for this. A package depends on python3 already; a database engine in this
/// process, for one statement in a case that should not happen, it would not be.
const CLOSE: &str = "\
import sqlite3, sys, time
db = sqlite3.connect('file:' + sys.argv[1] + '?mode=rw', uri=True, timeout=5)
done = db.execute('UPDATE wtmp SET Logout = ? WHERE User = ? AND Logout IS NULL AND Type = 3',
                  (time.time_ns() // 1000, sys.argv[2]))
db.commit()
print(done.rowcount)
";

/// Ends them. What can't be ended harms no later job: it is told to the operator only.
pub(crate) fn end(account: &Account, swept: &mut Swept) {
    let now = std::time::Duration::from_millis(sys::clock::unix_ms());
    let wtmp = sys::wtmp::close_logins(Path::new(WTMP), &account.name, now);
    let ended = wtmp.map_err(|error| error.to_string());
    let more = if Path::new(WTMPDB).exists() {
        end_in_database(&account.name)
    } else {
        Ok(0)
    };
    for outcome in [ended, more] {
        match outcome {
            Ok(0) => {}
            Ok(count) => swept.swept.push(format!("log-in records: {count}")),
            Err(error) => eprintln!(
                "robotd-session: {} stays logged in by the host's records: {error}",
                account.name
            ),
        }
    }
}

fn end_in_database(user: &str) -> Result<usize, String> {
    let output = Spawn::new(Path::new(PYTHON))
        .arg("-I")
        .arg("-S")
        .arg("-c")
        .arg(CLOSE)
        .arg(WTMPDB)
        .arg(user)
        .output(64)
        .map_err(|error| crate::text(&error))?;
    let text = String::from_utf8_lossy(&output);
    text.trim()
        .parse()
        .map_err(|_| format!("{WTMPDB} could not be changed"))
}
