//! Series are bounded, whatever comes.

use super::*;

fn series(tallies: &Tallies) -> usize {
    let mut count = 0;
    let mut show = |_: u64, _: &[KeyValue]| count += 1;
    tallies.show_consumed(&mut show);
    tallies.show_sent(&mut show);
    tallies.show_fates(&mut show);
    tallies.show_attempts(&mut show);
    tallies.show_duplicates(&mut show);
    count
}

#[test]
fn strangers_make_no_series() {
    let types = ["a.One".to_owned(), "a.Two".to_owned()];
    let listens = [Listens { system: "embedded", subscription: "a.commands", channel: "a.commands", types: &types }];
    let tallies = Tallies::new(&["embedded"], &listens, &[Sends { system: "embedded", destination: "a.events" }]);
    let before = series(&tallies);
    for n in 0..10_000 {
        let name = format!("stranger.{n}");
        tallies.of("a.commands", &name).fate("dead", Some("unknown_type"));
        tallies.of(&name, "a.One").fate("done", None);
        tallies.published(Sends { system: "embedded", destination: &name }, 1, &["refused"]);
        tallies.consumed(&name, 1);
    }
    assert_eq!(series(&tallies), before);
    assert_eq!(tallies.overflow(), 10_000);
    assert_eq!(tallies.label("a.commands", "stranger"), ("a.commands".into(), OTHER.into()));
    assert_eq!(tallies.label("stranger", "a.One"), (OTHER.into(), OTHER.into()));
    let mut found = 0;
    tallies.show_fates(&mut |count, labels| {
        if labels.contains(&KeyValue::new("channel", "a.commands")) && labels.contains(&KeyValue::new("type", OTHER)) {
            found += count;
        }
    });
    assert_eq!(found, 10_000, "under the channel's `other`");
}

#[test]
fn a_worker_of_very_many_types_shows_a_bounded_number_of_series() {
    let types: Vec<String> = (0..5_000).map(|n| format!("a.Type{n}")).collect();
    let listens = [Listens { system: "embedded", subscription: "a", channel: "a", types: &types }];
    let tallies = Tallies::new(&["embedded"], &listens, &[]);
    assert_eq!(tallies.tallies.len(), MOST);
    tallies.of("a", "a.Type4999").fate("done", None);
    assert_eq!(tallies.overflow(), 1, "counted under `other`, and said so");
}

#[test]
fn what_goes_to_a_stranger_counts_for_the_broker_that_carries_it() {
    let tallies = Tallies::new(&["rabbitmq", "kafka"], &[], &[]);
    tallies.published(Sends { system: "kafka", destination: "stranger" }, 3, &[]);
    let mut found = Vec::new();
    tallies.show_sent(&mut |count, labels| {
        if count > 0 {
            found.push((count, labels[0].value.to_string(), labels[2].value.to_string()));
        }
    });
    assert_eq!(found, [(3, "kafka".to_owned(), OTHER.to_owned())]);
}

#[test]
fn subscriptions_of_one_channel_share_their_counters() {
    let types = ["a.Happened".to_owned()];
    let one = Listens { system: "embedded", subscription: "a.events.one", channel: "a.events", types: &types };
    let two = Listens { subscription: "a.events.two", ..one };
    let tallies = Tallies::new(&["embedded"], &[one, two], &[]);
    tallies.of("a.events.one", "a.Happened").fate("done", None);
    tallies.of("a.events.two", "a.Happened").fate("done", None);
    let mut found = Vec::new();
    tallies.show_fates(&mut |count, labels| {
        if labels.contains(&KeyValue::new("type", "a.Happened")) && labels.contains(&KeyValue::new("fate", "done")) {
            found.push(count);
        }
    });
    assert_eq!(found, [2], "one series, not two of the same labels");
}
