//! The head of a request: what is wanted, and what is passed on of it.

use std::fmt;

use privsep::egress::is_name;

/// Longest head, and most fields in it.
pub(super) const MAX_HEAD: usize = 32 * 1024;
const MAX_FIELDS: usize = 100;

/// Fields that are meant for a proxy, or for one connection only.
const HOP_BY_HOP: [&str; 5] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
];

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// A name in lower case without its last dot, or an address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A whole head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) wanted: Wanted,
    /// CONNECT: what follows is none of ours.
    pub(super) tunnel: bool,
    /// The head as the server gets it.
    pub(super) forward: Vec<u8>,
    /// What came behind the head.
    pub(super) rest: Vec<u8>,
}

impl Head {
    /// Reads a head. `None`: it is not whole yet.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, &'static str> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        let length = match request.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err("this is no request of HTTP/1"),
        };
        let (method, target) = (
            request.method.unwrap_or_default(),
            request.path.unwrap_or_default(),
        );
        let rest = bytes[length..].to_vec();
        if method == "CONNECT" {
            let wanted = authority(target, None).ok_or("write CONNECT HOST:PORT")?;
            return Ok(Some(Self {
                wanted,
                tunnel: true,
                forward: vec![],
                rest,
            }));
        }
        let (wanted, path) = absolute(target)?;
        let forward = forward(method, path, &wanted, request.headers);
        Ok(Some(Self {
            wanted,
            tunnel: false,
            forward,
            rest,
        }))
    }
}

/// `http://HOST[:PORT]/PATH`
fn absolute(target: &str) -> Result<(Wanted, &str), &'static str> {
    const SHAPE: &str = "this is a proxy: write CONNECT HOST:PORT, or GET http://HOST/PATH";
    let (scheme, rest) = target.split_once("://").ok_or(SHAPE)?;
    if !scheme.eq_ignore_ascii_case("http") {
        return Err("only http:// is passed on here; everything else goes through CONNECT");
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    let wanted = authority(host, Some(80)).ok_or("the host is no name and no address")?;
    Ok((wanted, path))
}

fn authority(text: &str, default: Option<u16>) -> Option<Wanted> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            let address: std::net::Ipv6Addr = host.parse().ok()?;
            let port = rest.strip_prefix(':');
            if port.is_none() && !rest.is_empty() {
                return None;
            }
            (address.to_string(), port)
        }
        None => {
            let (host, port) = match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            };
            let host = host.to_ascii_lowercase();
            let host = host.strip_suffix('.').unwrap_or(&host);
            (is_name(host).then(|| host.to_owned())?, port)
        }
    };
    let digits = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = match port {
        Some(port) => Some(port).filter(digits)?.parse().ok()?,
        None => default?,
    };
    (port > 0).then_some(Wanted { host, port })
}

/// In the form that a server expects, for this one exchange: what comes after it on the same connection
/// would go to the same server whatever it says.
fn forward(method: &str, path: &str, wanted: &Wanted, fields: &[httparse::Header<'_>]) -> Vec<u8> {
    let path = match path {
        "" => "/".to_owned(),
        query if query.starts_with('?') => format!("/{query}"),
        path => path.to_owned(),
    };
    let mut head = format!("{method} {path} HTTP/1.1\r\n").into_bytes();
    let named = |field: &httparse::Header<'_>, name: &str| field.name.eq_ignore_ascii_case(name);
    // The request line decides, whatever the field says (RFC 9112, 3.2.2).
    let host = if wanted.port == 80 {
        wanted.to_string().trim_end_matches(":80").to_owned()
    } else {
        wanted.to_string()
    };
    head.extend(format!("Host: {host}\r\n").bytes());
    for field in fields {
        if named(field, "host") || HOP_BY_HOP.iter().any(|name| named(field, name)) {
            continue;
        }
        head.extend(field.name.bytes());
        head.extend(b": ");
        head.extend(field.value);
        head.extend(b"\r\n");
    }
    head.extend(b"Connection: close\r\n\r\n");
    head
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Option<Head>, &'static str> {
        Head::parse(text.as_bytes())
    }

    #[test]
    fn a_tunnel_names_host_and_port_and_nothing_else() {
        let head = parse("CONNECT ERP.example.com.:443 HTTP/1.1\r\nHost: evil\r\n\r\nrest")
            .unwrap()
            .unwrap();
        assert_eq!(
            (
                head.wanted.to_string().as_str(),
                head.tunnel,
                &head.rest[..]
            ),
            ("erp.example.com:443", true, &b"rest"[..])
        );
        for bad in [
            "CONNECT / HTTP/1.1",
            "CONNECT erp HTTP/1.1",
            "CONNECT erp:0 HTTP/1.1",
            "CONNECT erp:70000 HTTP/1.1",
            "CONNECT erp:+80 HTTP/1.1",
            "CONNECT a@b:80 HTTP/1.1",
            "CONNECT [::1:80 HTTP/1.1",
            "CONNECT [::1]x:80 HTTP/1.1",
            "CONNECT http://erp:80 HTTP/1.1",
            "GET / HTTP/1.1",
            "GET https://erp/ HTTP/1.1",
            "GET ftp://erp/ HTTP/1.1",
            "GET http://a@erp/ HTTP/1.1",
            "GET http:// HTTP/1.1",
            "PRI * HTTP/2.0",
        ] {
            assert!(parse(&format!("{bad}\r\n\r\n")).is_err(), "{bad}");
        }
        assert_eq!(
            parse("CONNECT [FD00::1]:443 HTTP/1.1\r\n\r\n")
                .unwrap()
                .unwrap()
                .wanted
                .to_string(),
            "[fd00::1]:443"
        );
    }

    #[test]
    fn a_plain_request_is_passed_on_to_the_host_of_its_address_only() {
        let text = "GET http://erp.example.com:8080?q=1 HTTP/1.1\r\nHost: other.example\r\nProxy-Authorization: Basic c2VjcmV0\r\n\
                    Proxy-Connection: keep-alive\r\nAccept: */*\r\n\r\nbody";
        let head = parse(text).unwrap().unwrap();
        let expected = "GET /?q=1 HTTP/1.1\r\nHost: erp.example.com:8080\r\nAccept: */*\r\nConnection: close\r\n\r\n";
        assert_eq!(String::from_utf8(head.forward).unwrap(), expected);
        assert_eq!((head.wanted.port, head.tunnel), (8080, false));
        assert_eq!(parse("GET http://erp/ HTTP/1.1\r\nA: b\r\n").unwrap(), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_pass_on_a_second_head(bytes in proptest::collection::vec(any::<u8>(), 0..200), host in "[a-z.:@/\\[\\]0-9 ]{0,30}") {
            let _ = Head::parse(&bytes);
            if let Ok(Some(head)) = parse(&format!("GET http://{host} HTTP/1.1\r\nX: y\r\n\r\n")) {
                let text = String::from_utf8(head.forward).unwrap();
                prop_assert_eq!(text.matches("\r\n\r\n").count(), 1);
            }
        }
    }
}
