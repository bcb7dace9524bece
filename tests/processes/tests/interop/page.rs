//! The examples of `docs/wire.md`, run as they stand there: only the address and the channels' names are replaced.

use crate::{WORKER, python::python, rabbitmq::clear};
use car_workers::recommendation::contract::Brief;
use pitcrew::Document;
use processes::shop::{Shop, broker};
use std::{
    path::Path,
    process::{Command, Output},
};

/// The fenced blocks of one language.
fn blocks(language: &str) -> Vec<String> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/wire.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let fence = format!("```{language}\n");
    page.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// The one block of this language in which this address stands, for this shop.
fn example(language: &str, address: &str, here: &str, shop: &Shop) -> String {
    let blocks = blocks(language);
    let [block] = &blocks.iter().filter(|block| block.contains(address)).collect::<Vec<_>>()[..] else {
        panic!("no block, or more than one, of {language} for {address}");
    };
    assert!(block.contains("car.commands"), "{block}");
    let channel = |name: &str| format!("{}.{name}", shop.prefix);
    let block = block.replace(address, here);
    block.replace("car.commands", &channel("commands")).replace("car.events", &channel("events"))
}

async fn run(program: &Path, example: &str) -> Output {
    let mut command = Command::new(program);
    command.arg("-c").arg(example);
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("it is waited for");
    let output = output.expect("it runs");
    assert!(output.status.success(), "{}\n{example}", String::from_utf8_lossy(&output.stderr));
    output
}

const AMQP: &str = "amqp://guest:guest@127.0.0.1:5672";
const KAFKA: &str = "127.0.0.1:9092";

/// Any RabbitMQ that is there.
fn rabbitmq() -> Option<String> {
    if std::env::var_os("PITCREW_RABBITMQ_URL").is_some() {
        broker("PITCREW_RABBITMQ_URL")
    } else {
        broker("PITCREW_RABBITMQ4_URL")
    }
}

/// The brief was written, once.
async fn brief(shop: &Shop) -> Brief {
    let stored =
        shop.until("a brief", async || shop.store.load(Brief::COLLECTION, "brief-17").await.expect("it answers")).await;
    let brief: Brief = serde_json::from_str(&stored.body).expect("a brief");
    assert_eq!(brief.writes, 1);
    brief
}

async fn in_python(broker: &str, address: &str, here: &str) -> Option<Shop> {
    let python = python()?;
    let shop = Shop::on_sqlite(WORKER, broker, "").await;
    let mut worker = shop.start();
    worker.is_at_work().await;
    let said = run(python, &example("python", address, here, &shop)).await.stdout;
    assert_eq!(String::from_utf8_lossy(&said).trim_end(), brief(&shop).await.headline);
    worker.stop().await;
    Some(shop)
}

async fn in_a_shell(broker: &str, address: &str, here: &str, tool: &str, package: &str) -> Option<Shop> {
    if Command::new(tool).arg("-h").output().is_err() {
        eprintln!("skipped: no {tool} (apt-get install {package})");
        return None;
    }
    let shop = Shop::on_sqlite(WORKER, broker, "").await;
    let mut worker = shop.start();
    worker.is_at_work().await;
    let example = example("sh", address, here, &shop);
    run(Path::new("sh"), &example).await;
    brief(&shop).await;
    // What the page says of a second time. The third one shows that the second has been dealt with: it comes behind it.
    run(Path::new("sh"), &example).await;
    run(Path::new("sh"), &example.replace("from-a-shell-1", "from-a-shell-2").replace("15000", "-1")).await;
    shop.until("the one behind the second one", async || {
        (!shop.history("from-a-shell-2").await.letters.is_empty()).then_some(())
    })
    .await;
    let history = shop.history("from-a-shell-1").await;
    assert!(matches!(&history.inbox[..], [row] if row.fate == "done" && row.source == "/shell"), "{history:?}");
    assert!(history.letters.is_empty(), "{history:?}");
    brief(&shop).await;
    worker.stop().await;
    Some(shop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_in_python_for_rabbitmq_runs() {
    let Some(url) = rabbitmq() else { return };
    let Some(shop) = in_python(&url, AMQP, &url).await else { return };
    clear(&url, &shop).await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_in_a_shell_for_rabbitmq_runs() {
    let Some(url) = rabbitmq() else { return };
    let Some(shop) = in_a_shell(&url, AMQP, &url, "amqp-publish", "amqp-tools").await else { return };
    clear(&url, &shop).await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_in_python_for_kafka_runs() {
    let Some(url) = broker("PITCREW_KAFKA_URL") else { return };
    let brokers = url.trim_start_matches("kafka://");
    let Some(shop) = in_python(&url, KAFKA, brokers).await else { return };
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_in_a_shell_for_kafka_runs() {
    let Some(url) = broker("PITCREW_KAFKA_URL") else { return };
    let brokers = url.trim_start_matches("kafka://");
    let Some(shop) = in_a_shell(&url, KAFKA, brokers, "kcat", "kcat").await else { return };
    shop.close().await;
}
