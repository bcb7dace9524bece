//! Cases: a publish answers for each row, and what cannot go does not take others with it.

use super::{
    Subject,
    ear::{Heard, assert_each_once},
    samples::*,
    subject::sending,
};
use crate::{Envelope, store::Destination, transport::*};
use futures::future::join_all;

pub(super) async fn a_large_batch_is_confirmed_whole(on: Subject) {
    let queue = on.queue("batch").await;
    let mut ear = on.listen(&queue).await;
    let sent = messages(1_000);
    on.send(&queue, &sent).await;
    let heard = ear.take(sent.len()).await;
    assert_each_once(&sent, &heard);
    heard.into_iter().for_each(Heard::ack);
    on.send(&queue, &[]).await;
}

pub(super) async fn destinations_are_published_to_side_by_side(on: Subject) {
    let queues: Vec<_> = (0..5).map(|n| on.commands(&format!("side{n}"))).collect();
    on.declare(&queues.iter().collect::<Vec<_>>()).await;
    let sent: Vec<_> = queues.iter().map(|_| messages(50)).collect();
    join_all(queues.iter().zip(&sent).map(|(queue, sent)| on.send(queue, sent))).await;
    for (queue, sent) in queues.iter().zip(&sent) {
        assert_each_once(sent, &on.listen(queue).await.take(sent.len()).await);
    }
}

pub(super) async fn a_subscription_is_reached_by_its_name(on: Subject) {
    let (shop, mail) = (on.events("named", "shop"), on.events("named", "mail"));
    on.declare(&[&shop, &mail]).await;
    let (mut here, mut there) = (on.listen(&shop).await, on.listen(&mail).await);
    let again = Envelope { hop: full().hop, ..message() };
    on.publish_all(&Destination::Subscription(shop.name.clone()), std::slice::from_ref(&again)).await;
    let heard = here.take(1).await.remove(0);
    assert_eq!(heard.envelope, again, "a retry goes to the one that failed");
    heard.ack();
    there.hears_nothing().await;
}

pub(super) async fn where_nobody_listens_is_unroutable(on: Subject) {
    let queue = on.queue("known").await;
    let nobody = Destination::Subscription(on.commands("nobody").name);
    let unroutable = |answers: &[Result<Published, PublishError>]| {
        answers.iter().all(|answer| matches!(answer, Err(PublishError::Unroutable(_))))
    };
    let answers = on.publish(&nobody, &messages(3)).await;
    assert!(unroutable(&answers), "{answers:?}");
    // An event that no subscription wants.
    let facts = Channel {
        name: on.commands("unheard").channel,
        intent: crate::message::Intent::Event,
        types: vec![TYPE.into()],
    };
    let endpoints = Endpoints { subscriptions: vec![], channels: vec![facts.clone()] };
    on.transport.declare(&endpoints).await.expect("a channel without subscribers can be declared");
    let answers = on.publish(&Destination::Channel(facts.name), &messages(3)).await;
    if on.promises().keeps_unheard {
        assert!(answers.iter().all(|answer| *answer == Ok(Published::Confirmed)), "{answers:?}");
    } else {
        assert!(unroutable(&answers), "{answers:?}");
    }
    // It went wrong there, not here.
    let sent = messages(3);
    on.send(&queue, &sent).await;
    assert_each_once(&sent, &on.listen(&queue).await.take(3).await);
}

pub(super) async fn what_nobody_wants_spares_its_neighbours(on: Subject) {
    let promises = on.promises();
    if promises.row_per_subscription || promises.keeps_unheard {
        return; // no batch of one destination can be half unroutable
    }
    let facts = on.events("mixed", "shop");
    let unwanted = "conformance.Unwanted";
    let channel =
        Channel { name: facts.channel.clone(), intent: facts.intent, types: vec![TYPE.into(), unwanted.into()] };
    let endpoints = Endpoints { subscriptions: vec![facts.clone()], channels: vec![channel] };
    on.transport.declare(&endpoints).await.expect("what a case needs can be declared");
    let mut sent = messages(9);
    for n in [0, 4, 5, 8] {
        sent[n].ty = unwanted.into();
    }
    let answers = on.publish(&Destination::Channel(facts.channel.clone()), &sent).await;
    for (sent, answer) in sent.iter().zip(&answers) {
        match answer {
            Ok(Published::Confirmed) => assert_eq!(sent.ty, TYPE),
            Err(PublishError::Unroutable(_)) => assert_eq!(sent.ty, unwanted),
            other => panic!("{}: {other:?}", sent.ty),
        }
    }
    sent.retain(|e| e.ty == TYPE);
    let mut ear = on.listen(&facts).await;
    let heard = ear.take(sent.len()).await;
    assert_each_once(&sent, &heard);
    heard.into_iter().for_each(Heard::ack);
    ear.hears_nothing().await;
}

pub(super) async fn what_is_too_large_is_refused_for_good_and_spares_its_neighbours(on: Subject) {
    let max = on.promises().max_bytes;
    if max > 64 << 20 {
        return; // no test can tell
    }
    let queue = on.queue("oversize").await;
    let mut sent = messages(5);
    sent[2] = of_size(max + 1);
    let to = match on.promises().row_per_subscription {
        true => Destination::Subscription(queue.name.clone()),
        false => Destination::Channel(queue.channel.clone()),
    };
    let answers = on.publish(&to, &sent).await;
    let good: Vec<_> = answers.iter().map(|answer| answer.is_ok()).collect();
    assert_eq!(good, [true, true, false, true, true], "{answers:?}");
    assert!(matches!(answers[2], Err(PublishError::Permanent(_))), "{answers:?}");
    sent.remove(2);
    let mut ear = on.listen(&queue).await;
    let heard = ear.take(4).await;
    assert_each_once(&sent, &heard);
    heard.into_iter().for_each(Heard::ack);
    on.send(&queue, &messages(1)).await;
    ear.take(1).await.into_iter().for_each(Heard::ack);
}

pub(super) async fn a_row_of_a_lost_worker_comes_suspect(on: Subject) {
    let queue = on.queue("taken-over").await;
    let to = Destination::Subscription(queue.name.clone());
    let sent = messages(2);
    let rows = [Sending { begun: true, ..sending(&to, &sent[0]) }, sending(&to, &sent[1])];
    assert!(on.transport.publish(&to, &rows).await.iter().all(Result::is_ok));
    let heard = on.listen(&queue).await.take(2).await;
    assert_each_once(&sent, &heard);
    for Heard { envelope, delivery } in &heard {
        assert_eq!(delivery.suspect, envelope.id == sent[0].id);
        let row = rows.iter().find(|sending| sending.row.envelope.id == envelope.id);
        let row = row.filter(|_| on.promises().keeps_rows);
        assert_eq!(delivery.row, row.map(|sending| sending.row.seq), "the commit that handles it deletes this row");
    }
}

pub(super) async fn the_dead_letter_channel_takes_copies_apart_from_the_queue(on: Subject) {
    let queue = on.queue("deadly").await;
    let dead = Destination::Dead(queue.name.clone());
    let copies = [full(), message()];
    if !on.promises().dead_letter_channel {
        let answers = on.publish(&dead, &copies).await;
        assert!(answers.iter().all(Result::is_err), "there is no such place: {answers:?}");
        return;
    }
    let mut ear = on.listen(&queue).await;
    on.publish_all(&dead, &copies).await;
    if let Some(letters) = on.bench.dead_letters(&queue).await {
        let read = |raw| crate::message::wire::parse(raw, &queue.channel).expect("a copy can be read");
        let letters: Vec<_> = letters.iter().map(read).collect();
        assert_eq!(letters.len(), copies.len());
        assert!(copies.iter().all(|copy| letters.contains(copy)), "{letters:?}");
    }
    ear.hears_nothing().await;
}
