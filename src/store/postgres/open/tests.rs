//! How the escape hatch ends. Inside the library, because nobody else holds its connection without a handler.

use super::*;
use crate::store::{Batch, Expect, Fate, Store, postgres::Options};

struct Bed {
    store: PostgresStore,
    message: Finished,
}

impl Bed {
    async fn make() -> Option<Self> {
        let Ok(url) = std::env::var("PITCREW_POSTGRES_URL") else {
            eprintln!("skipped: no Postgres (PITCREW_POSTGRES_URL)");
            return None;
        };
        let schema = format!("t_{}", crate::clock::uuid_v7().simple());
        let store = PostgresStore::connect(&url, Options { schema, ..Options::default() }).await.expect("connects");
        store.migrate().await.expect("migrates");
        let table = store.sql.ddl("create table {s}.{t} (n int)", "own");
        sqlx::raw_sql(table).execute(&store.other.get()).await.expect("creates");
        let envelope = Envelope::new("demo.Do", "/test", "{}");
        let message = Finished {
            consumer: "demo.Do".into(),
            subscription: "demo.commands".into(),
            payload_hash: envelope.payload_hash(),
            at: crate::clock::now(),
            envelope: Arc::new(envelope),
            fate: Fate::Done,
            fenced: true,
            operation: None,
            effects: Default::default(),
            attempt: None,
            letter: None,
            row: None,
            claimed: false,
            duration: Duration::ZERO,
        };
        Some(Self { store, message })
    }

    async fn begin(&self) -> Begun {
        self.begin_within(Duration::from_secs(10)).await.expect("begins")
    }

    async fn begin_within(&self, left: Duration) -> crate::store::StoreResult<Begun> {
        let Finished { consumer, envelope, payload_hash, .. } = &self.message;
        self.store.begin(consumer, envelope, payload_hash, left).await
    }

    /// Begun, with one row of the author's written.
    async fn written(&self) -> OpenTx {
        let Begun::Open(mut open) = self.begin().await else { panic!("is fresh") };
        self.execute(&mut open, "insert into {s}.{t} values (1)").await;
        open
    }

    async fn execute(&self, open: &mut OpenTx, text: &str) {
        sqlx::raw_sql(self.store.sql.ddl(text, "own")).execute(open.connection()).await.expect("runs");
    }

    async fn finish(&self, open: OpenTx) -> crate::store::StoreResult<Verdict> {
        self.store.commit_open(open, Uuid::nil(), &self.message).await
    }

    async fn own_rows(&self) -> i64 {
        let text = self.store.sql.get("select count(*) from {s}.own");
        sqlx::query_scalar(text).fetch_one(&self.store.other.get()).await.expect("counts")
    }

    /// The message's fate as a group commit writes it afterwards.
    async fn commit(&self, message: &Finished) -> Verdict {
        let batch = Batch { worker: Uuid::nil(), messages: std::slice::from_ref(message), confirmed: &[] };
        self.store.commit(&batch).await.expect("commits")[0]
    }

    async fn fate(&self) -> Option<String> {
        self.store.seen(&[self.message.key()]).await.expect("answers")[0].take().map(|seen| seen.fate)
    }

    async fn end(self) {
        self.store.drop_schema().await.expect("drops");
    }
}

#[tokio::test]
async fn own_rows_and_the_inbox_row_commit_together() {
    let Some(bed) = Bed::make().await else { return };
    let open = bed.written().await;
    assert_eq!((bed.own_rows().await, bed.fate().await), (0, None));
    assert_eq!(bed.finish(open).await.expect("commits"), Verdict::Stored);
    assert_eq!((bed.own_rows().await, bed.fate().await.as_deref()), (1, Some("done")));
    assert!(matches!(bed.begin().await, Begun::Duplicate));
    assert_eq!(bed.commit(&bed.message).await, Verdict::Duplicate);
    bed.end().await;
}

#[tokio::test]
async fn a_dropped_transaction_leaves_nothing() {
    let Some(bed) = Bed::make().await else { return };
    drop(bed.written().await);
    let open = bed.written().await;
    assert_eq!(bed.finish(open).await.expect("commits"), Verdict::Stored);
    assert_eq!(bed.own_rows().await, 1);
    bed.end().await;
}

#[tokio::test]
async fn a_raw_commit_is_refused_and_the_message_can_still_die() {
    let Some(bed) = Bed::make().await else { return };
    let mut open = bed.written().await;
    bed.execute(&mut open, "commit").await;
    let error = bed.finish(open).await.expect_err("is refused");
    assert!(matches!(&error, StoreError::Refused(why) if why.to_string().contains("COMMIT or ROLLBACK")), "{error}");
    let dead = Finished { fate: Fate::Dead(crate::store::Reason::Permanent), ..bed.message.clone() };
    assert_eq!(bed.commit(&dead).await, Verdict::Stored, "its fate is not lost");
    assert_eq!(bed.fate().await.as_deref(), Some("dead"));
    bed.end().await;
}

#[tokio::test]
async fn a_raw_commit_and_begin_or_a_rollback_is_refused_too() {
    let Some(bed) = Bed::make().await else { return };
    for text in ["rollback", "rollback; begin", "commit; begin"] {
        let mut open = bed.written().await;
        bed.execute(&mut open, text).await;
        let error = bed.finish(open).await.expect_err("is refused");
        assert!(matches!(error, StoreError::Refused(_)), "{text}: {error}");
    }
    bed.end().await;
}

#[tokio::test]
async fn a_swallowed_sql_error_is_refused() {
    let Some(bed) = Bed::make().await else { return };
    let mut open = bed.written().await;
    let broken = sqlx::raw_sql("select 1 / 0").execute(open.connection()).await;
    assert!(broken.is_err());
    let error = bed.finish(open).await.expect_err("is refused");
    assert!(matches!(&error, StoreError::Refused(why) if why.to_string().contains("with `?`")), "{error}");
    assert_eq!((bed.own_rows().await, bed.fate().await), (0, None));
    bed.end().await;
}

#[tokio::test]
async fn a_statement_ends_with_the_deadline() {
    let Some(bed) = Bed::make().await else { return };
    let Begun::Open(mut open) = bed.begin_within(Duration::from_millis(300)).await.expect("begins") else {
        panic!("is fresh")
    };
    let slow = sqlx::raw_sql("select pg_sleep(20)").execute(open.connection()).await.map_err(Trouble::from);
    assert_eq!(slow.err().and_then(|trouble| trouble.sqlstate()).as_deref(), Some("57014"));
    bed.end().await;
}

#[tokio::test]
async fn a_group_commit_does_not_wait_long_for_an_open_transaction() {
    let Some(bed) = Bed::make().await else { return };
    let open = bed.written().await;
    let batch = Batch { worker: Uuid::nil(), messages: std::slice::from_ref(&bed.message), confirmed: &[] };
    let error = bed.store.commit(&batch).await.expect_err("is busy");
    assert!(matches!(error, StoreError::Busy(_)), "{error:?}");
    assert_eq!(bed.finish(open).await.expect("commits"), Verdict::Stored);
    bed.end().await;
}

#[tokio::test]
async fn a_guarded_document_that_changed_rolls_everything_back() {
    let Some(bed) = Bed::make().await else { return };
    let mut message = bed.message.clone();
    message.effects.documents.push(crate::store::DocumentWrite {
        collection: "c",
        id: "d".into(),
        schema: 1,
        body: "{}".into(),
        expect: Expect::Version(7),
    });
    let open = bed.written().await;
    let verdict = bed.store.commit_open(open, Uuid::nil(), &message).await.expect("is judged");
    assert_eq!(verdict, Verdict::Conflict);
    assert_eq!((bed.own_rows().await, bed.fate().await), (0, None));
    bed.end().await;
}

#[tokio::test]
async fn another_payload_under_a_known_id_is_no_duplicate() {
    let Some(mut bed) = Bed::make().await else { return };
    assert_eq!(bed.commit(&bed.message).await, Verdict::Stored);
    bed.message.payload_hash = [7; 32];
    let error = bed.begin_within(Duration::from_secs(5)).await.expect_err("is refused");
    assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
    bed.end().await;
}
