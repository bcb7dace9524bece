//! The door over TLS, with a certificate of the test's own.

use super::{WORKER, client::sha256};
use processes::shop::Shop;

#[tokio::test]
async fn a_door_with_a_certificate_speaks_https_and_nothing_else() {
    let shop = Shop::on_sqlite(WORKER, "embedded", "").await;
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let (cert, key) = (folder.path().join("door.pem"), folder.path().join("door.key"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let sections = format!(
        "\n[http]\nlisten = \"0.0.0.0:0\"\ntls_cert = {cert:?}\ntls_key = {key:?}\n\
         [http.tokens.board]\nsha256 = \"{}\"\nroles = [\"read\"]\n",
        sha256("secret")
    );
    let mut worker = shop.start_with(&sections);
    let url = worker.door().await.replace("0.0.0.0", "127.0.0.1");
    assert!(url.starts_with("https://"), "{url}");
    worker.is_at_work().await;
    car_workers::http::use_ring();
    let root = reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
    let http = reqwest::Client::builder().tls_certs_only([root]).build().unwrap();
    let metrics = http.get(format!("{url}/metrics")).bearer_auth("secret").send().await.unwrap();
    assert_eq!(metrics.status(), 200);
    assert_eq!(http.get(format!("{url}/metrics")).send().await.unwrap().status(), 401);
    assert!(http.get(url.replace("https", "http")).send().await.is_err(), "nothing is said in the clear");
    worker.stop().await;
    std::fs::remove_file(&key).unwrap();
    let mut worker = shop.start_with(&sections);
    assert_eq!(worker.ends().await.code(), Some(1));
    assert!(worker.said().contains("door.key"), "{}", worker.said());
    shop.close().await;
}
