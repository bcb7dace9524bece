//! Channel Adapter: originals over HTTP, from servers that are slow, wrong or after something else.

use car_workers::image::{fetch::Fetcher, recipe::FetchConfig, source::SourceError};
use pitcrew::config::parse_duration;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

const MOST: u64 = 1_000;

/// Answers each request by its path, with bytes as they go over the wire, and remembers the paths.
struct Server {
    at: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}
impl Server {
    async fn new(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (at, asked) = (listener.local_addr().unwrap(), Arc::default());
        let paths: Arc<Mutex<Vec<String>>> = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        break;
                    }
                }
                let request = String::from_utf8_lossy(&request).into_owned();
                let Some(path) = request.split(' ').nth(1) else { continue };
                paths.lock().unwrap().push(path.to_owned());
                let answer = answer(path);
                // An empty answer is none: the connection stays open and silent.
                if answer.is_empty() {
                    std::mem::forget(stream);
                } else {
                    let _ = stream.write_all(&answer).await;
                }
            }
        });
        Self { at, asked }
    }
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.at)
    }
    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}").into_bytes()
}
fn redirect(to: &str) -> Vec<u8> {
    answer("302 Found", &format!("location: {to}\r\n"), "")
}
fn config(allow: &[&str]) -> FetchConfig {
    let allow = allow.iter().map(|network| network.parse().unwrap()).collect();
    FetchConfig { allow, ..FetchConfig::default() }
}
/// May ask the server of the test, and nobody else inside.
fn fetcher() -> Fetcher {
    Fetcher::new(&config(&["127.0.0.1"])).unwrap()
}

/// Names that mean what the test says, one answer a look-up; the last one stays.
struct Names {
    answers: Vec<Vec<SocketAddr>>,
    asked: Arc<AtomicUsize>,
}
impl Resolve for Names {
    fn resolve(&self, _: Name) -> Resolving {
        let at = self.asked.fetch_add(1, Ordering::Relaxed).min(self.answers.len() - 1);
        let found = self.answers[at].clone();
        Box::pin(async move { Ok(Box::new(found.into_iter()) as Addrs) })
    }
}

#[tokio::test]
async fn an_original_is_fetched() {
    let server = Server::new(|_| answer("200 OK", "", "photo")).await;
    assert_eq!(fetcher().fetch(&server.url("/front.jpg?size=1"), MOST).await.unwrap(), "photo");
    assert_eq!(server.asked(), ["/front.jpg?size=1"]);
}

#[tokio::test]
async fn an_address_inside_is_refused_and_never_asked() {
    let server = Server::new(|_| answer("200 OK", "", "secret")).await;
    let fetcher = Fetcher::new(&config(&[])).unwrap();
    let port = server.at.port();
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "[::ffff:127.0.0.1]",
        "[::1]",
        "localhost",
        "0.0.0.0",
    ] {
        let refused = fetcher.fetch(&format!("http://{host}:{port}/"), MOST).await.unwrap_err();
        assert!(matches!(refused, SourceError::NotPublic { .. }), "{host}: {refused}");
        assert!(!refused.is_transient());
    }
    let metadata = fetcher.fetch("http://169.254.169.254/latest/meta-data/", MOST).await.unwrap_err();
    assert_eq!(
        metadata.to_string(),
        "fetch the original: `169.254.169.254` is at 169.254.169.254, which is not public; `fetch.allow` can allow its network"
    );
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn a_name_that_means_an_address_inside_is_refused_and_never_asked() {
    let server = Server::new(|_| answer("200 OK", "", "secret")).await;
    let names = |answers| Names { answers, asked: Arc::default() };
    let fetcher = Fetcher::with_names(&config(&[]), names(vec![vec![server.at]])).unwrap();
    let refused = fetcher.fetch("http://photos.example/", MOST).await.unwrap_err().to_string();
    assert!(
        refused.starts_with("fetch the original: `photos.example` is at 127.0.0.1, which is not public"),
        "{refused}"
    );
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn the_address_that_was_checked_is_the_one_that_is_asked() {
    // The first answer is allowed, every later one is inside. Whoever looked up once more for the connection would land there.
    let (good, bad) =
        (Server::new(|_| answer("200 OK", "", "photo")).await, Server::new(|_| answer("200 OK", "", "secret")).await);
    let inside = SocketAddr::from(([127, 0, 0, 2], bad.at.port()));
    let asked = Arc::new(AtomicUsize::new(0));
    let names = Names { answers: vec![vec![good.at], vec![inside]], asked: asked.clone() };
    let fetcher = Fetcher::with_names(&config(&["127.0.0.1"]), names).unwrap();
    let url = format!("http://photos.example:{}/", good.at.port());
    assert_eq!(fetcher.fetch(&url, MOST).await.unwrap(), "photo");
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    assert!(matches!(fetcher.fetch(&url, MOST).await, Err(SourceError::NotPublic { .. })));
}

#[tokio::test]
async fn of_several_addresses_only_those_that_are_allowed_are_asked() {
    let server = Server::new(|_| answer("200 OK", "", "photo")).await;
    let inside = SocketAddr::from(([127, 0, 0, 2], server.at.port()));
    let names = Names { answers: vec![vec![inside, server.at]], asked: Arc::default() };
    let fetcher = Fetcher::with_names(&config(&["127.0.0.1"]), names).unwrap();
    let url = format!("http://photos.example:{}/", server.at.port());
    assert_eq!(fetcher.fetch(&url, MOST).await.unwrap(), "photo");
}

#[tokio::test]
async fn three_redirects_are_followed_and_a_fourth_is_not() {
    let server = Server::new(|path| match path.trim_start_matches('/').parse::<u32>() {
        Ok(0) => answer("200 OK", "", "photo"),
        Ok(left) => redirect(&format!("/{}", left - 1)),
        Err(_) => answer("404 Not Found", "", ""),
    })
    .await;
    assert_eq!(fetcher().fetch(&server.url("/3"), MOST).await.unwrap(), "photo");
    let refused = fetcher().fetch(&server.url("/4"), MOST).await.unwrap_err();
    assert_eq!(
        (refused.to_string().as_str(), refused.is_transient()),
        ("fetch the original: more than 3 redirects", false)
    );
}

#[tokio::test]
async fn each_redirect_is_checked_like_the_first_address() {
    let inside = Server::new(|_| answer("200 OK", "", "secret")).await;
    let port = inside.at.port();
    let server = Server::new(move |path| match path {
        "/address" => redirect(&format!("http://127.0.0.2:{port}/")),
        "/metadata" => redirect("http://169.254.169.254/"),
        "/file" => redirect("file:///etc/passwd"),
        "/password" => redirect("http://me:secret@127.0.0.1/"),
        _ => answer("302 Found", "", ""),
    })
    .await;
    let fetcher = fetcher();
    for path in ["/address", "/metadata"] {
        let refused = fetcher.fetch(&server.url(path), MOST).await.unwrap_err();
        assert!(matches!(refused, SourceError::NotPublic { .. }), "{path}: {refused}");
    }
    for path in ["/file", "/password"] {
        let refused = fetcher.fetch(&server.url(path), MOST).await.unwrap_err();
        assert!(matches!(refused, SourceError::NoUrl { .. }), "{path}: {refused}");
    }
    let refused = fetcher.fetch(&server.url("/nowhere"), MOST).await.unwrap_err();
    assert_eq!(refused.to_string(), "fetch the original: the server answers 302 Found");
    assert!(inside.asked().is_empty());
}

#[tokio::test]
async fn what_is_no_address_is_refused() {
    for url in [
        "",
        "front.jpg",
        "//photos.example/",
        "file:///etc/passwd",
        "ftp://photos.example/",
        "data:image/png;base64,AA",
        "http://",
    ] {
        let refused = fetcher().fetch(url, MOST).await.unwrap_err();
        assert!(matches!(refused, SourceError::NoUrl { .. }) && !refused.is_transient(), "{url}: {refused}");
    }
}

#[tokio::test]
async fn an_original_that_is_too_large_is_not_read_to_its_end() {
    let endless = |_: &str| {
        let piece = format!("{:x}\r\n{}\r\n", 600, "x".repeat(600));
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{piece}{piece}").into_bytes()
    };
    let lengthy = |_: &str| b"HTTP/1.1 200 OK\r\ncontent-length: 9999999999\r\n\r\nx".to_vec();
    for server in [Server::new(endless).await, Server::new(lengthy).await] {
        let refused = fetcher().fetch(&server.url("/"), MOST).await.unwrap_err();
        assert_eq!(refused.to_string(), "read the original: it has more than `max_bytes` = 1000 bytes");
        assert!(!refused.is_transient());
    }
}

#[tokio::test]
async fn what_the_server_says_decides_whether_to_ask_again() {
    let server = Server::new(|path| match path.trim_start_matches('/') {
        "429" => answer("429 Too Many Requests", "retry-after: 7\r\n", ""),
        "503" => answer("503 Service Unavailable", "retry-after: 999999\r\n", ""),
        "500" => answer("500 Internal Server Error", "retry-after: Thu, 01 Jan 1970 00:00:00 GMT\r\n", ""),
        status => answer(&format!("{status} So"), "", ""),
    })
    .await;
    let fetcher = fetcher();
    for status in ["400", "401", "403", "404", "410", "451", "204"] {
        let refused = fetcher.fetch(&server.url(&format!("/{status}")), MOST).await.unwrap_err();
        assert!(!refused.is_transient(), "{refused}");
    }
    for (status, seconds) in
        [("429", Some(7)), ("503", Some(3_600)), ("500", None), ("502", None), ("408", None), ("425", None)]
    {
        let refused = fetcher.fetch(&server.url(&format!("/{status}")), MOST).await.unwrap_err();
        assert!(refused.is_transient(), "{refused}");
        let SourceError::NotNow { after, .. } = refused else { panic!("{refused}") };
        assert_eq!(after.map(|after| after.as_secs()), seconds, "{status}");
    }
}

#[tokio::test]
async fn a_server_that_is_away_or_breaks_off_is_asked_again_later() {
    let server = Server::new(|path| match path {
        "/half" => b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 100\r\n\r\nhalf".to_vec(),
        "/rubbish" => b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        _ => Vec::new(),
    })
    .await;
    let impatient = FetchConfig { timeout: parse_duration("300ms").unwrap(), ..config(&["127.0.0.1"]) };
    let fetcher = Fetcher::new(&impatient).unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for url in [server.url("/half"), server.url("/rubbish"), server.url("/silent"), format!("http://{closed}/")] {
        let refused = fetcher.fetch(&url, MOST).await.unwrap_err();
        assert!(matches!(refused, SourceError::Unreachable(_)) && refused.is_transient(), "{url}: {refused}");
    }
}
