//! Service Activator: a command becomes files, documents and an event.

use crate::files::{jpeg, plain};
use car_workers::image::{
    ImageProcessor,
    contract::{ListingImage, ListingImageProcessed, ListingLooks, ProcessListingImage, Source},
    decode::PhotoError,
    drawing::Scene,
    recipe::{Config, Recipe},
    studio::Studio,
};
use pitcrew::{Handlers, testing::TestWorker};
use std::{collections::BTreeSet, path::Path};
use tempfile::TempDir;

struct Bench {
    folder: TempDir,
    worker: TestWorker,
}
impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let config = Config { originals: at("originals"), output: at("output"), ..Config::default() };
        let handlers = Handlers::new().handle(ImageProcessor::new(&config).unwrap()).emits::<ListingImageProcessed>();
        Self { worker: TestWorker::new(handlers).await, folder }
    }
    fn upload(&self, key: &str, photo: &[u8]) {
        let path = self.folder.path().join("originals").join(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, photo).unwrap();
    }
    fn files(&self) -> BTreeSet<String> {
        let output = self.folder.path().join("output");
        let mut files = BTreeSet::new();
        for folder in std::fs::read_dir(&output).unwrap() {
            for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
                files.insert(relative(&file.unwrap().path(), &output));
            }
        }
        files
    }
    async fn image(&self, photo: &str) -> Option<ListingImage> {
        self.worker.document(ListingImage::id_of("l-1", photo)).await
    }
}
fn relative(path: &Path, to: &Path) -> String {
    path.strip_prefix(to).unwrap().display().to_string()
}

fn command(photo: &str, key: &str) -> ProcessListingImage {
    ProcessListingImage { listing_id: "l-1".into(), photo_id: photo.into(), source: Source::Key(key.into()) }
}
fn scene(seed: u64) -> Scene {
    Scene { width: 400, height: 300, ..Scene::of(seed) }
}

#[tokio::test]
async fn a_photo_is_stored_described_and_told() {
    let bench = Bench::new().await;
    bench.upload("l-1/front.jpg", &scene(1).jpeg());
    let outcome = bench.worker.deliver(&command("front", "l-1/front.jpg")).await;
    outcome.assert_done();
    let image = bench.image("front").await.unwrap();
    assert_eq!(outcome.emitted::<ListingImageProcessed>(), [ListingImageProcessed::of(&image)]);
    assert_eq!((image.original.width, image.original.height, image.writes), (400, 300, 1));
    assert_eq!(image.near_duplicates, []);
    let keys: BTreeSet<_> = image.variants.iter().map(|variant| variant.key.clone()).collect();
    assert_eq!(bench.files(), keys);
    for variant in &image.variants {
        let stored = std::fs::read(bench.folder.path().join("output").join(&variant.key)).unwrap();
        assert_eq!(stored.len() as u64, variant.bytes);
        use sha2::Digest;
        let hash: String = sha2::Sha256::digest(&stored).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!((&variant.hash, variant.key.contains(&hash)), (&hash, true));
    }
}

#[tokio::test]
async fn the_same_photo_again_writes_the_same_objects() {
    let bench = Bench::new().await;
    bench.upload("a.jpg", &scene(1).jpeg());
    bench.worker.deliver(&command("front", "a.jpg")).await.assert_done();
    let (first, files) = (bench.image("front").await.unwrap(), bench.files());
    bench.worker.deliver(&command("front", "a.jpg")).await.assert_done();
    let second = bench.image("front").await.unwrap();
    assert_eq!(second, ListingImage { writes: 2, ..first });
    assert_eq!(bench.files(), files);
}

#[tokio::test]
async fn nearly_the_same_photo_of_a_listing_is_flagged() {
    let bench = Bench::new().await;
    for (key, scene) in [("a", scene(1)), ("b", scene(2)), ("c", Scene { light: 15, ..scene(1) })] {
        bench.upload(key, &scene.jpeg());
        bench.worker.deliver(&command(key, key)).await.assert_done();
    }
    let near = |image: ListingImage| image.near_duplicates.into_iter().map(|near| near.photo_id).collect::<Vec<_>>();
    assert!(near(bench.image("b").await.unwrap()).is_empty());
    assert_eq!(near(bench.image("c").await.unwrap()), ["a"]);
    // Another listing is another matter.
    let elsewhere = ProcessListingImage { listing_id: "l-2".into(), ..command("c", "c") };
    bench.worker.deliver(&elsewhere).await.assert_done();
    let elsewhere: ListingImage = bench.worker.document(ListingImage::id_of("l-2", "c")).await.unwrap();
    assert!(near(elsewhere).is_empty());
    let looks: ListingLooks = bench.worker.document("l-1").await.unwrap();
    assert_eq!(looks.photos.into_keys().collect::<Vec<_>>(), ["a", "b", "c"]);
}

#[tokio::test]
async fn what_cannot_become_better_is_dead_and_says_why() {
    let bench = Bench::new().await;
    bench.upload("page.jpg", b"<html>");
    bench.upload("empty.jpg", b"");
    bench.upload("large.jpg", &vec![0; 20_000_001]);
    bench.upload("iphone.jpg", b"\0\0\0\x18ftypheic\0\0\0\0");
    for (photo, key, why) in [
        ("a", "gone.jpg", "there is no `gone.jpg` in "),
        ("a", "page.jpg", "it is a web page or other markup"),
        ("a", "empty.jpg", "the file is empty"),
        ("a", "large.jpg", "more than `max_bytes` = 20000000 bytes"),
        ("a", "iphone.jpg", "it is HEIC"),
        ("a", "../secret.jpg", "`../secret.jpg` is no name of an object"),
        ("a", "", "`` is no name of an object"),
        ("a/b", "page.jpg", "`photo_id` holds 1 to 100 characters, no `/`"),
        ("", "page.jpg", "`photo_id` holds"),
    ] {
        bench.worker.deliver(&command(photo, key)).await.assert_dead(why);
    }
    assert!(bench.files().is_empty());
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_asked_again() {
    let bench = Bench::new().await;
    bench.upload("a.jpg", &jpeg(&plain(8, 8, [1, 2, 3])));
    // A file where the folder was: no room for anything.
    std::fs::remove_dir(bench.folder.path().join("output")).unwrap();
    std::fs::write(bench.folder.path().join("output"), "").unwrap();
    bench.worker.deliver(&command("a", "a.jpg")).await.assert_retry();
    assert_eq!(bench.image("a").await, None);
}

#[tokio::test]
async fn who_gives_up_frees_the_thread_for_the_next() {
    let recipe = Recipe::new(&Config::default()).unwrap();
    let studio = Studio::new(recipe, 1);
    let photo = bytes::Bytes::from(scene(1).jpeg());
    // Begun, so that it has the thread, and dropped, as at a deadline.
    let mut first = Box::pin(studio.develop(photo.clone()));
    assert!(still_works(first.as_mut()).await);
    drop(first);
    studio.develop(photo).await.unwrap();
    // A recipe is kept to whatever else goes wrong.
    assert!(matches!(studio.develop(bytes::Bytes::new()).await, Err(PhotoError::Empty)));
}

/// Polls once: whether it is still at work.
async fn still_works<F: Future>(mut future: std::pin::Pin<&mut F>) -> bool {
    std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

#[test]
fn the_contract_is_exported() {
    let schemas = car_workers::handlers().schemas();
    let command = serde_json::to_value(&schemas["car.ProcessListingImage"]).unwrap();
    assert_eq!(command["required"], serde_json::json!(["listing_id", "photo_id", "source"]));
    let event = serde_json::to_value(&schemas["car.ListingImageProcessed"]).unwrap();
    assert_eq!(event["description"], "\"The photo can be shown.\"");
    let wire =
        serde_json::json!({ "listing_id": "l-1", "photo_id": "p", "source": { "url": "https://x/y" }, "newer": 1 });
    let command: ProcessListingImage = serde_json::from_value(wire).unwrap();
    assert_eq!(command.source, Source::Url("https://x/y".into()));
}
