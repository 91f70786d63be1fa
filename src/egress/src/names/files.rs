//! What the host knows by itself: whom it asks, and the names in its own file.

use std::fs::File;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};

use super::message::Family;

const RESOLVERS: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";
/// glibc asks no more either.
const MOST: usize = 3;
const MAX_BYTES: u64 = 1 << 20;

/// Whom the host asks, as the file says now.
pub(super) fn resolvers() -> Vec<SocketAddr> {
    parse_resolvers(&read(RESOLVERS))
}

/// Addresses that the host's own file has for a name.
pub(super) fn hosts(name: &str, family: Family) -> Vec<IpAddr> {
    parse_hosts(&read(HOSTS), name, family)
}

fn read(path: &str) -> String {
    let mut bytes = Vec::new();
    // A host without the file knows nothing by itself.
    let _ = File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(['#', ';'])
        .next()
        .unwrap_or_default()
        .split_whitespace()
}

fn parse_resolvers(text: &str) -> Vec<SocketAddr> {
    let addresses = text.lines().filter_map(|line| {
        let mut words = words(line);
        (words.next()? == "nameserver")
            .then(|| words.next())
            .flatten()
    });
    let parsed = addresses.filter_map(|address| {
        // A zone, as in fe80::1%eth0, can't be expressed by an address alone.
        let plain = address
            .parse::<IpAddr>()
            .ok()
            .map(|address| SocketAddr::new(address, 53));
        plain.or_else(|| format!("[{address}]:53").parse().ok())
    });
    parsed.take(MOST).collect()
}

fn parse_hosts(text: &str, name: &str, family: Family) -> Vec<IpAddr> {
    let lines = text.lines().filter_map(|line| {
        let mut words = words(line);
        let address: IpAddr = words.next()?.parse().ok()?;
        let named = words.any(|own| own.eq_ignore_ascii_case(name));
        (named && Family::of(address) == family).then_some(address)
    });
    lines.take(super::message::MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_are_read_as_glibc_reads_them() {
        let text = "# made by hand\nsearch example.com\nnameserver 10.0.0.53 # main\nnameserver fd00::53\nnameserver bad\n";
        let expected: Vec<SocketAddr> = vec![
            "10.0.0.53:53".parse().unwrap(),
            "[fd00::53]:53".parse().unwrap(),
        ];
        assert_eq!(parse_resolvers(text), expected);
        let text =
            "127.0.0.1 localhost\n10.1.1.1\tERP.example.com erp # old\n10.1.1.2 erp\nfd00::1 erp\n";
        let four: Vec<IpAddr> = vec!["10.1.1.1".parse().unwrap(), "10.1.1.2".parse().unwrap()];
        assert_eq!(parse_hosts(text, "erp", Family::V4), four);
        assert_eq!(parse_hosts(text, "erp.example.com", Family::V4), four[..1]);
        assert_eq!(parse_hosts(text, "old", Family::V4), Vec::<IpAddr>::new());
        assert_eq!(parse_hosts(text, "erp", Family::V6).len(), 1);
    }
}
