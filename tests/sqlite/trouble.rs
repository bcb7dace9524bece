//! Trouble: a file that is locked, full, read-only or damaged, and callers that go away in the middle.

use super::*;
use pitcrew::{
    fault::{self, Plan, Point},
    store::StoreError,
};

#[tokio::test]
async fn a_locked_database_is_busy_and_works_afterwards() {
    let on = Subject::with(Options { busy_timeout: Duration::from_millis(20), ..Options::default() }).await;
    let mut other = on.raw().await;
    other.execute("begin immediate").await.unwrap();
    let sold = sale();
    let answer = on.commit(std::slice::from_ref(&sold)).await;
    assert!(matches!(&answer, Err(StoreError::Busy(why)) if why.to_string().contains("shop.db")), "{answer:?}");
    assert!(!on.is_stored(&sold).await, "reading goes on");
    other.execute("rollback").await.unwrap();
    assert_eq!(on.commit(std::slice::from_ref(&sold)).await.unwrap(), [Verdict::Stored]);
}

#[tokio::test]
async fn a_full_disk_holds_what_does_not_fit_and_loses_nothing() {
    let pages = vec![("max_page_count", "120".to_owned())];
    let on = Subject::with(Options { pragmas: pages, ..Options::default() }).await;
    let mut stored = Vec::new();
    let (held, why) = loop {
        let sold = sized(20_000);
        match on.commit(std::slice::from_ref(&sold)).await {
            Ok(verdicts) => assert_eq!(verdicts, [Verdict::Stored]),
            Err(StoreError::Away(why)) => break (sold, why.to_string()),
            Err(other) => panic!("{other:?}"),
        }
        stored.push(sold);
        assert!(stored.len() < 1_000, "the disk is never full");
    };
    assert!(why.contains("shop.db") && why.contains("free space"), "{why}");
    assert!(!on.is_stored(&held).await);
    // It still takes what makes room, on the connection that failed or on a new one.
    let sent: Vec<_> = stored.iter().map(|message| message.effects.outbox[0].seq).collect();
    on.store.confirm(&sent).await.unwrap();
    assert_eq!(on.store.counts().await.unwrap().outbox, 0);
    assert!(matches!(on.commit(std::slice::from_ref(&held)).await, Err(StoreError::Away(_))), "it is full as before");
    // The operator has freed some space.
    let roomy = on.other(Options::default()).await;
    let batch = Batch { worker: on.worker, messages: std::slice::from_ref(&held), confirmed: &[] };
    assert_eq!(roomy.commit(&batch).await.unwrap(), [Verdict::Stored]);
    assert_eq!(roomy.counts().await.unwrap().done, stored.len() as u64 + 1);
}

#[tokio::test]
async fn a_database_that_became_read_only_is_held() {
    let on = Subject::new().await;
    let frozen = on.other(Options { pragmas: vec![("query_only", "on".into())], ..Options::default() }).await;
    let sold = sale();
    let batch = Batch { worker: on.worker, messages: std::slice::from_ref(&sold), confirmed: &[] };
    let answer = frozen.commit(&batch).await;
    assert!(matches!(&answer, Err(StoreError::Away(why)) if why.to_string().contains("writable")), "{answer:?}");
    assert_eq!(on.store.commit(&batch).await.unwrap(), [Verdict::Stored], "it was not lost");
}

/// Overwrites the page (from 1) at which something begins.
async fn damage(on: &Subject, page: usize) {
    on.store.close().await;
    let mut bytes = std::fs::read(path(&on.directory)).unwrap();
    let size = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
    let start = if page == 1 { 100 } else { (page - 1) * size };
    bytes[start..page * size].fill(0xA5);
    std::fs::write(path(&on.directory), bytes).unwrap();
}

#[tokio::test]
async fn a_damaged_file_is_refused_at_the_start_with_a_way_out() {
    let on = Subject::new().await;
    damage(&on, 1).await;
    let answer = SqliteStore::open(&path(&on.directory), Options::default()).await;
    assert!(
        matches!(&answer, Err(StoreError::Unfit(why)) if why.contains("damaged") && why.contains(".recover")),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_page_that_turns_out_damaged_is_told_and_the_messages_are_held() {
    let on = Subject::new().await;
    on.commit(&[sale()]).await.unwrap();
    let root = "select rootpage from sqlite_schema where name = 'inbox'";
    let root: i64 = sqlx::query_scalar(root).fetch_one(&mut on.raw().await).await.unwrap();
    damage(&on, usize::try_from(root).unwrap()).await;
    let damaged = on.other(Options::default()).await;
    let sold = sale();
    let batch = Batch { worker: on.worker, messages: std::slice::from_ref(&sold), confirmed: &[] };
    let answer = damaged.commit(&batch).await;
    assert!(matches!(&answer, Err(StoreError::Away(why)) if why.to_string().contains("damaged")), "{answer:?}");
}

/// JSON deeper than SQLite reads can never be stored: the committer must be told to look for the guilty message.
#[tokio::test]
async fn what_can_never_be_stored_is_refused() {
    let on = Subject::new().await;
    on.execute("create table brief (id text primary key, body text) strict").await;
    let spec = pitcrew::store::RowSpec { table: "brief", key: &["id"], columns: &["id", "body"] };
    let mut deep = sale();
    let body = format!("{{\"id\":\"a\",\"body\":{}{}}}", "[".repeat(5_000), "]".repeat(5_000));
    deep.effects.rows.push(pitcrew::store::RowWrite { spec, key: "[\"a\"]".into(), body: Some(body) });
    let answer = on.commit(&[sale(), deep]).await;
    assert!(matches!(answer, Err(StoreError::Refused(_))), "{answer:?}");
    assert_eq!(on.store.counts().await.unwrap().done, 0);
}

/// A caller may go away at any await: what it began is there as a whole or not at all, and the next one finds a free connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_commit_leaves_nothing_or_all_of_it() {
    let on = Subject::new().await;
    let mut dropped = 0;
    for patience in 0..60 {
        let messages = [sale(), sale()];
        let gone = async {
            for _ in 0..patience * 20 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            answer = on.commit(&messages) => assert_eq!(answer.unwrap(), [Verdict::Stored; 2]),
            () = gone => dropped += 1,
        }
        let next = sale();
        assert_eq!(on.commit(std::slice::from_ref(&next)).await.unwrap(), [Verdict::Stored]);
        assert!(on.is_stored(&next).await);
        let [first, second] = [on.is_stored(&messages[0]).await, on.is_stored(&messages[1]).await];
        assert_eq!(first, second, "one transaction");
    }
    assert!(dropped > 0, "no commit was dropped, so nothing was tested");
}

/// Killed between the last statement and `COMMIT`. The thread stops there with its lock, which a process would take with it; so
/// the next worker has a copy of what was committed.
#[test]
fn a_worker_killed_inside_its_commit_leaves_nothing() {
    let name = "killed-inside-its-sqlite-commit";
    let build = |name: &str| {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.worker_threads(1).thread_name(name).enable_all().build().unwrap()
    };
    let (victim, witness) = (build(name), build("witness"));
    let on = Arc::new(victim.block_on(Subject::new()));
    let sold = sale();
    fault::arm(name, Plan { point: Point::InsideCommit, nth: 1 });
    victim.spawn({
        let (on, sold) = (on.clone(), sold.clone());
        async move { on.commit(&[sold]).await }
    });
    witness.block_on(async {
        let limit = std::time::Instant::now() + Duration::from_secs(20);
        while !fault::fired(name) {
            assert!(std::time::Instant::now() < limit, "the commit never came to its point");
            tokio::task::yield_now().await;
        }
        let impatient = Options { busy_timeout: Duration::from_millis(1), ..Options::default() };
        let batch = Batch { worker: on.worker, messages: std::slice::from_ref(&sold), confirmed: &[] };
        let meanwhile = on.other(impatient).await;
        assert!(matches!(meanwhile.commit(&batch).await, Err(StoreError::Busy(_))), "its transaction is open");
        let copy = path(&on.directory) + ".copy";
        let sql = sqlx::AssertSqlSafe(format!("vacuum into '{copy}'"));
        on.raw().await.execute(sql).await.unwrap();
        let next = SqliteStore::open(&copy, Options::default()).await.unwrap();
        assert!(next.seen(&[sold.key()]).await.unwrap()[0].is_none(), "nothing is left of it");
        assert_eq!(next.commit(&batch).await.unwrap(), [Verdict::Stored]);
    });
    victim.shutdown_background();
}
