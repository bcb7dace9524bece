//! What only the management API shows, on nodes of these tests' own: the shared ones have it off.

use super::{
    bench::{Broker, client, unique},
    node::Node,
    set_up::endpoints,
};
use futures::StreamExt;
use lapin::{
    BasicProperties, Channel,
    options::{BasicPublishOptions, BasicRejectOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use pitcrew::{
    testing::poll_pause,
    transport::{
        Depth, Inspection, Standing, Transport,
        rabbitmq::{Options, RabbitMq},
    },
};
use std::time::{Duration, Instant};

const WITH_MANAGEMENT: [(&str, &str); 2] = [
    (
        "extra.conf",
        "management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = @MANAGEMENT\ncollect_statistics_interval = 500\n",
    ),
    ("plugins", "[rabbitmq_management].\n"),
];

/// Statistics are seconds old, on a machine that does other things too. Queues that are made from here on have newer ones.
fn hasten(node: &Node) {
    node.ctl(&["eval", "application:set_env(rabbit, quorum_tick_interval, 500)."]);
}

const PATIENCE: Duration = Duration::from_secs(40);

/// `user` is `user:password`, of AMQP; `management` is what stands before the API's address, or nothing: it is not asked.
fn transport(node: &Node, user: &str, management: Option<&str>) -> RabbitMq {
    let management = management.map(|own| format!("http://{own}127.0.0.1:{}", node.management_port()));
    let management = management.map(|url| url.parse().expect("a URL"));
    let url = format!("amqp://{user}@127.0.0.1:{}", node.port);
    RabbitMq::new(&url, Options { management, ..Options::default() }).expect("a URL")
}

async fn inspect(transport: &RabbitMq, name: &str) -> Inspection {
    let seen = transport.inspect(&endpoints(name)).await.expect("it looks");
    assert!(!format!("{seen:?}").contains("s3cret"), "{seen:?}");
    seen
}

/// What is not as it should be.
fn told(seen: &Inspection) -> Vec<(&str, &Standing)> {
    let findings = seen.findings.iter().map(|finding| (finding.thing.as_str(), &finding.standing));
    findings.filter(|(_, standing)| **standing != Standing::Fits).collect()
}

/// An operator's hand, much faster than `rabbitmqctl`.
fn set(node: &Node, path: &str, body: &str) {
    let url = format!("http://guest:guest@127.0.0.1:{}/api/{path}", node.management_port());
    let answer = ureq::put(&url).header("content-type", "application/json").send(body);
    assert!(answer.expect("it is answered").status().is_success());
}

fn set_policy(node: &Node, policy: &str, queue: &str, definition: &str) {
    let body = format!(r#"{{"pattern":"^{queue}$","definition":{definition},"apply-to":"queues"}}"#);
    set(node, &format!("policies/%2F/{policy}"), &body);
}

async fn until<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(began.elapsed() < PATIENCE, "{what} is not seen");
        poll_pause().await;
    }
}

async fn put(channel: &Channel, queue: &str, count: usize) {
    for _ in 0..count {
        let properties = BasicProperties::default().with_delivery_mode(2);
        let put = channel.basic_publish("".into(), queue.into(), BasicPublishOptions::default(), b"{}", properties);
        put.await.expect("it is sent").await.expect("it is taken");
    }
}

async fn what_only_the_management_api_shows(broker: Broker) {
    let Some(node) = Node::with(broker, &WITH_MANAGEMENT).await else { return };
    hasten(&node);
    let (name, api) = (unique(), transport(&node, "guest:guest", Some("")));
    let (connection, channel) = client(&node.url()).await;
    channel.confirm_select(Default::default()).await.expect("confirms");
    let binding = format!("binding of `{name}` to `{name}` by `demo.Do`");

    let seen = inspect(&api, &name).await;
    assert_eq!(told(&seen).len(), 7, "{seen:?}");
    assert!(told(&seen).iter().all(|(_, standing)| **standing == Standing::Missing), "{seen:?}");
    api.declare(&endpoints(&name)).await.expect("it is made");
    let seen = inspect(&api, &name).await;
    assert!(told(&seen).is_empty() && seen.reach.is_empty(), "{seen:?}");
    assert!(seen.findings.iter().any(|finding| finding.thing.contains("stream_queue")), "{seen:?}");

    // Somebody's hand in it: a binding gone, one too many, a queue of a delay that was once configured, a policy.
    let unbind = channel.queue_unbind((*name).into(), (*name).into(), "demo.Do".into(), FieldTable::default());
    unbind.await.expect("unbinds");
    let bind =
        channel.queue_bind((*name).into(), (*name).into(), "demo.Old".into(), Default::default(), Default::default());
    bind.await.expect("binds");
    let old = format!("{name}.retry.7s");
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare((*old).into(), durable, arguments).await.expect("declares");
    put(&channel, &old, 1).await;
    set_policy(&node, "short", &name, r#"{"delivery-limit":3,"message-ttl":86400000}"#);
    let seen = until("all of that", async || {
        let seen = inspect(&api, &name).await;
        (told(&seen).len() == 4 && format!("{seen:?}").contains("7s`, 1 message")).then_some(seen)
    })
    .await;
    let mut told = told(&seen);
    told.sort_by_key(|(thing, _)| (thing.contains("7s"), thing.contains("Old"), thing.contains("binding")));
    let [(queue, Standing::Endangered(how)), missing, stray_binding, stray_queue] = told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(queue, format!("queue `{name}`"));
    assert!(["policy `short`", "3 returns", "longer than 24h"].iter().all(|word| how.contains(word)), "{how}");
    assert_eq!(missing, (&*binding, &Standing::Missing));
    assert_eq!(stray_binding, (&*binding.replace("demo.Do", "demo.Old"), &Standing::Stray));
    assert_eq!(stray_queue, (&*format!("queue `{old}`, 1 message"), &Standing::Stray));

    // What `apply` does: it makes what is missing, and leaves alone what it does not want, above all what holds messages.
    api.declare(&endpoints(&name)).await.expect("it is made");
    let seen = inspect(&api, &name).await;
    assert!(!told_things(&seen).contains(&binding), "{seen:?}");
    let left =
        channel.queue_declare((*old).into(), QueueDeclareOptions { passive: true, ..durable }, FieldTable::default());
    assert_eq!(left.await.expect("it is there").message_count(), 1);

    who_may_see_what(broker, &node, &name).await;
    depth_by_both_ways(&node, &name, &api, &channel).await;
    api.close().await;
    connection.close(200, "done".into()).await.expect("closes");
}

fn told_things(seen: &Inspection) -> Vec<String> {
    told(seen).into_iter().map(|(thing, _)| thing.to_owned()).collect()
}

/// A user that may not look, or an API that does not answer, takes nothing from what AMQP shows, and says what to do.
async fn who_may_see_what(broker: Broker, node: &Node, name: &str) {
    for (user, tag) in [("looker", "management"), ("worker", "")] {
        set(node, &format!("users/{user}"), &format!(r#"{{"password":"s3cret","tags":"{tag}"}}"#));
        let rights = r#"{"configure":"^$","write":".*","read":".*"}"#;
        set(node, &format!("permissions/%2F/{user}"), rights);
    }
    let seen_by = async |user: &str, management: Option<&str>| {
        let transport = transport(node, user, management);
        let seen = inspect(&transport, name).await;
        transport.close().await;
        let missing = seen.findings.iter().any(|finding| finding.standing == Standing::Missing);
        assert!(!missing && seen.findings.len() >= 7, "AMQP shows what is there: {seen:?}");
        seen
    };
    let main = |seen: &Inspection| {
        let queue = format!("queue `{name}.dead`");
        seen.findings.iter().find(|finding| finding.thing == queue).map(|finding| finding.standing.clone())
    };
    // Over AMQP alone it may not see arguments; the API shows them to whoever may look.
    let seen = seen_by("looker:s3cret", None).await;
    assert_eq!(main(&seen), Some(Standing::Unseen));
    assert!(seen.reach.contains("`management`"), "{}", seen.reach);
    let seen = seen_by("looker:s3cret", Some("")).await;
    assert_eq!(main(&seen), Some(Standing::Fits));
    match broker {
        Broker::V3 => {
            assert!(seen.reach.contains("feature flags") && seen.reach.contains("administrator"), "{}", seen.reach)
        }
        Broker::V4 => assert_eq!(seen.reach, ""),
    }
    // The API may have a login of its own.
    assert_eq!(seen_by("worker:s3cret", Some("guest:guest@")).await.reach, "");
    for (management, words) in [("", "set_user_tags worker management"), ("guest:s3cret@", "refuses user `guest`")] {
        let reach = seen_by("worker:s3cret", Some(management)).await.reach;
        assert!(reach.contains("AMQP only") && reach.contains(words), "{reach}");
    }
    for (port, words) in [(node.port + 3, "rabbitmq_management"), (node.port, "`management`")] {
        let url = format!("http://guest:s3cret@127.0.0.1:{port}").parse().expect("a URL");
        let transport =
            RabbitMq::new(&node.url(), Options { management: Some(url), ..Options::default() }).expect("a URL");
        let reach = inspect(&transport, name).await.reach;
        assert!(reach.contains("AMQP only") && reach.contains(words), "{reach}");
        // A worker does not miss it.
        transport.declare(&endpoints(name)).await.expect("it declares");
        let depth = transport.depth(name).await.expect("it counts");
        assert_eq!((depth.ready, depth.unacked), (Some(0), None));
        transport.close().await;
    }
}

async fn depth_by_both_ways(node: &Node, name: &str, api: &RabbitMq, channel: &Channel) {
    put(channel, name, 3).await;
    put(channel, &format!("{name}.dead"), 2).await;
    channel.basic_qos(1, Default::default()).await.expect("one at a time");
    let consume = channel.basic_consume(name.into(), "one".into(), Default::default(), FieldTable::default());
    let mut consumer = consume.await.expect("consumes");
    let held = consumer.next().await.expect("one comes").expect("it is whole");
    let alone = transport(node, "guest:guest", None);
    let depth = alone.depth(name).await.expect("it counts");
    assert_eq!(
        depth,
        Depth { ready: Some(2), dead: Some(2), consumers: Some(1), ..Depth::default() },
        "no delays are known"
    );
    alone.declare(&endpoints(name)).await.expect("it is there");
    assert_eq!(alone.depth(name).await.expect("it counts").delayed, Some(0));
    let unacked = async || {
        let depth = api.depth(name).await.expect("it counts");
        (depth.unacked == Some(1)).then_some(depth)
    };
    let depth = until("the one that is held", unacked).await;
    assert_eq!((depth.ready, depth.delayed, depth.dead, depth.stuck), (Some(2), Some(0), Some(2), Some(0)));

    // The dead letter exchange leads nowhere, and a retry is due whose queue is full: it is neither ready nor lost.
    let (exchange, dead) = (format!("{name}.dead"), format!("{name}.dead"));
    let unbind = channel.queue_unbind((*dead).into(), (*exchange).into(), name.into(), FieldTable::default());
    unbind.await.expect("unbinds");
    channel.basic_cancel("one".into(), Default::default()).await.expect("no more of them");
    held.reject(BasicRejectOptions { requeue: false }).await.expect("it is rejected");
    set_policy(node, "short", name, r#"{"max-length":1}"#);
    put(channel, &format!("{name}.retry.1s"), 1).await;
    let stuck = async || {
        let depth = api.depth(name).await.expect("it counts");
        ((depth.stuck, depth.delayed) == (Some(1), Some(1)) && depth.unacked == Some(0)).then_some(depth)
    };
    let depth = until("what is stuck", stuck).await;
    assert_eq!((depth.ready, depth.oldest), (Some(2), None), "quorum queues do not say how old they are");
    let dangers = async || {
        let seen = format!("{:?}", inspect(api, name).await);
        let words =
            ["1 messages do not get", "1 due retries do not get back", "policy `short`: max-length refuses messages"];
        words.iter().all(|word| seen.contains(word)).then_some(())
    };
    until("why", dangers).await;
    alone.close().await;
}

/// As a broker that was upgraded from 3.8.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_feature_flag_retries_are_in_danger() {
    let flags = ("flags", "quorum_queue,implicit_default_bindings,virtual_host_metadata");
    let Some(node) = Node::with(Broker::V3, &[&WITH_MANAGEMENT[..], &[flags]].concat()).await else { return };
    let (name, api) = (unique(), transport(&node, "guest:guest", Some("")));
    api.declare(&endpoints(&name)).await.expect("it is made all the same");
    let seen = inspect(&api, &name).await;
    let [(thing, Standing::Endangered(how))] = told(&seen)[..] else { panic!("{seen:?}") };
    assert!(thing.contains("`stream_queue`") && how.contains("rabbitmqctl enable_feature_flag stream_queue"), "{how}");
    node.ctl(&["enable_feature_flag", "stream_queue"]);
    assert_eq!(told(&inspect(&api, &name).await), []);
    api.close().await;
}

super::on_each_version! {
    what_only_the_management_api_shows
}
