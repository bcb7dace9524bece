//! The answer to a commit is lost: it was made, and nobody told the worker, which lives on.

use crate::{bed::Bed, life::Life, wire::Wire, work};

const SENT: u32 = 60;

#[tokio::test]
async fn a_commit_whose_answer_is_lost_loses_no_event_and_repeats_nothing_on_postgres() {
    let Some(mut bed) = Bed::postgres().await else { return };
    let wire = Wire::to(&bed.place).await;
    let direct = std::mem::replace(&mut bed.place, wire.place.clone());
    let worker = Life::begin(&bed, "doubting", work::handlers(), work::config(), None);
    bed.place = direct;
    work::send(&bed, &work::handlers(), work::envelopes(0..1)).await;
    bed.comes_to("inbox", 2).await; // it is at work
    wire.lose_answers(3);
    work::send(&bed, &work::handlers(), work::envelopes(1..SENT)).await;
    bed.comes_to("outbox", 0).await;
    worker.end().await;
    assert_eq!(wire.lost(), 3);
    let wrong = work::wrong(&bed, SENT).await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    bed.drop().await;
}
