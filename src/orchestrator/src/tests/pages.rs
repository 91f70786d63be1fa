//! The pages behind `--http`: who may read them, and the live view of a job.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::server::{Server, until};
use super::viewer::{Feed, frame, whole};
use super::views::{running, with_display};
use crate::admin::Request;

/// A page's answer, read as far as its headers.
struct Page {
    status: u16,
    headers: String,
    stream: TcpStream,
}

impl Page {
    /// Asks as a program that knows no later HTTP: what comes ends with the connection.
    async fn get(server: &Server, path: &str, cookie: &str) -> Self {
        let file = std::fs::read(server.data_dir().join("addresses.json")).unwrap();
        let addresses: Value = serde_json::from_slice(&file).unwrap();
        let url = addresses["http_url"].as_str().unwrap().to_owned();
        let host = url.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(host).await.unwrap();
        let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nCookie: {cookie}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let headers = String::from_utf8(head).unwrap();
        let status = headers.split(' ').nth(1).unwrap().parse().unwrap();
        Self {
            status,
            headers,
            stream,
        }
    }

    fn header(&self, name: &str) -> String {
        let found = self.headers.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then(|| value.to_owned())
        });
        found.unwrap_or_else(|| panic!("no {name} in {}", self.headers))
    }

    async fn text(mut self) -> String {
        let mut text = String::new();
        self.stream.read_to_string(&mut text).await.unwrap();
        text
    }

    /// The next message of a live view that is no sign of life.
    async fn message(&mut self) -> (Value, Vec<Vec<u8>>) {
        loop {
            let length = self.stream.read_u32().await.unwrap() as usize;
            let facts: Value = serde_json::from_slice(&self.exact(length).await).unwrap();
            if facts["alive"] == true {
                continue;
            }
            let mut pictures = Vec::new();
            for part in facts["parts"].as_array().unwrap() {
                let bytes = usize::try_from(part["bytes"].as_u64().unwrap()).unwrap();
                pictures.push(self.exact(bytes).await);
            }
            return (facts, pictures);
        }
    }

    async fn exact(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).await.unwrap();
        bytes
    }
}

/// The path and query of a page that `job watch` prints.
async fn address(server: &Server, job: &str) -> String {
    let request = Request::JobPage {
        job: job.to_owned(),
    };
    let shown = server.ask(request).await.unwrap();
    let url = shown["page"].as_str().unwrap();
    format!("/{}", url.splitn(4, '/').nth(3).unwrap())
}

/// The cookie that an address is worth.
async fn cookie(server: &Server, address: &str) -> String {
    let welcome = Page::get(server, address, "").await;
    assert_eq!(welcome.status, 303);
    let cookie = welcome.header("set-cookie");
    assert!(cookie.contains("; HttpOnly; SameSite=Strict"), "{cookie}");
    cookie.split(';').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_no_page_is_shown() {
    let server = Server::start().await;
    let (_agent, _session, job) = running(&server).await;
    let job = job.job_id;
    for path in [
        "/".to_owned(),
        "/jobs".to_owned(),
        format!("/jobs/{job}"),
        format!("/jobs/{job}/watch"),
        format!("/jobs/{job}/screen"),
        format!("/jobs/{job}/watch?token=guessed"),
    ] {
        let page = Page::get(&server, &path, "robot-orchestrator=guessed").await;
        assert_eq!(page.status, 401, "{path}");
        assert!(page.text().await.starts_with("TOKEN_MISSING"));
    }
    assert_eq!(server.count(100_514).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_works_once_and_for_its_job_alone() {
    let server = Server::start().await;
    let (_agent, _session, job) = running(&server).await;
    let another = server.submit(with_display).await;
    let address = address(&server, &job.job_id).await;
    let cookie = cookie(&server, &address).await;
    assert_eq!(Page::get(&server, &address, "").await.status, 401);
    let own = format!("/jobs/{}/watch", job.job_id);
    assert_eq!(Page::get(&server, &own, &cookie).await.status, 200);
    for path in [
        "/".to_owned(),
        "/jobs".to_owned(),
        format!("/jobs/{another}"),
        format!("/jobs/{another}/watch"),
        format!("/jobs/{another}/screen"),
    ] {
        let page = Page::get(&server, &path, &cookie).await;
        assert_eq!(page.status, 403, "{path}");
        assert!(page.text().await.starts_with("PAGE_NOT_YOURS"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_runs_what_stands_in_it_and_loads_nothing() {
    use base64::Engine as _;
    use sha2::Digest as _;
    let server = Server::start().await;
    let (_agent, _session, job) = running(&server).await;
    let cookie = cookie(&server, &address(&server, &job.job_id).await).await;
    let path = format!("/jobs/{}/watch", job.job_id);
    let page = Page::get(&server, &path, &cookie).await;
    let policy = page.header("content-security-policy");
    let html = page.text().await;
    for (kind, tag) in [("script-src", "script"), ("style-src", "style")] {
        let (_, rest) = html.split_once(&format!("<{tag}>")).unwrap();
        let (inside, behind) = rest.split_once(&format!("</{tag}>")).unwrap();
        assert!(!behind.contains(&format!("<{tag}")), "one {tag}");
        let digest = sha2::Sha256::digest(inside);
        let hash = base64::engine::general_purpose::STANDARD.encode(digest);
        assert!(
            policy.contains(&format!("{kind} 'sha256-{hash}'")),
            "{policy}"
        );
    }
    assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"));
    for forbidden in [
        "://",
        "innerHTML",
        "document.write",
        "eval(",
        " src=",
        " href=",
        " on",
    ] {
        let at = html.find(forbidden).unwrap_or(html.len());
        // ` on` begins words of comments; an attribute is followed by an equals sign.
        let word: String = html[at..].chars().take(24).collect();
        assert!(
            at == html.len() || (forbidden == " on" && !word.contains('=')),
            "{word}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_is_told_what_changes_and_closing_its_tab_ends_the_watch() {
    let server = Server::start().await;
    let (agent, mut session, job) = running(&server).await;
    let cookie = cookie(&server, &address(&server, &job.job_id).await).await;
    let path = format!("/jobs/{}/screen?fps=5", job.job_id);
    let mut page = Page::get(&server, &path, &cookie).await;
    assert_eq!(page.status, 200);
    assert_eq!(page.message().await.0["standing"], "asked");
    let (_, wish) = session.asked_to_show().await;
    assert_eq!(wish.most_per_second, 5);
    let epoch = session.welcome.session_epoch;
    let mut feed = Feed::open(&agent, epoch, &job).await.unwrap();
    feed.show(&whole(1)).await;
    let (facts, pictures) = page.message().await;
    assert_eq!(
        (&facts["whole"], &facts["changed"]),
        (&json!(true), &json!(6))
    );
    assert_eq!(pictures, [whole(1).picture.to_vec()]);
    feed.show(&frame(2, false, &[3])).await;
    let (facts, _) = page.message().await;
    assert_eq!(facts["parts"][0]["tiles"], json!([3]));
    let closed = std::time::Instant::now();
    drop(page);
    assert!(
        feed.word().await.unwrap().is_none(),
        "the agent's call ends"
    );
    assert!(closed.elapsed() < std::time::Duration::from_secs(2));
    let left = until("the event", async || {
        let events = server.events().await;
        events.into_iter().find(|event| event["code"] == 100_515)
    })
    .await;
    let by = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap();
    assert_eq!(left["user"], by.unwrap().name.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_can_not_look_on_is_told_why() {
    let server = Server::start().await;
    let (_agent, _session, _job) = running(&server).await;
    let queued = server.submit(with_display).await;
    let cookie = cookie(&server, &address(&server, &queued).await).await;
    for (query, status, code) in [
        ("", 409, "JOB_NOT_RUNNING"),
        ("?fps=0", 400, "RATE_INVALID"),
        ("?fps=%3Cscript%3E", 400, "RATE_INVALID"),
    ] {
        let path = format!("/jobs/{queued}/screen{query}");
        let page = Page::get(&server, &path, &cookie).await;
        assert_eq!(page.status, status);
        assert!(page.text().await.starts_with(code));
    }
}
