//! Networks that are cut, and names that cannot be looked up. These need network namespaces: where the
//! runner may make none, they say so and pass.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use portcullis_e2e::{
    Caller, Gateway, NameAnswer, NameServer, Namespace, Response, Service, eventually,
    eventually_within,
};
use tokio::time::Instant;

const POLICY: &str = "owner: team\nroutes:\n  \
    - { name: orders, match: { path: /orders }, upstream: orders, public: true }\n  \
    - { name: near, match: { path: /near }, upstream: near, public: true }\n";

/// A gateway in `namespace`, with `orders` at these addresses and `near` at that one.
async fn gateway(namespace: &Namespace, orders: &str, near: SocketAddr) -> Gateway {
    let inside = namespace.inside();
    let yaml = format!(
        "listeners: [{{ name: public, address: \"{inside}:0\", dangerously_plaintext: true }}]\n\
         admin: {{ address: \"{inside}:0\", dangerously_plaintext: true }}\n\
         policy: {{ files: [\"policy/*.yaml\"] }}\n\
         upstreams:\n  \
         - {{ name: orders, addresses: [\"{orders}\"], dangerously_plaintext: true, retries: 0, \
             timeouts: {{ connect: 1s, response: 2s }} }}\n  \
         - {{ name: near, addresses: [\"{near}\"], dangerously_plaintext: true }}\n"
    );
    Gateway::builder()
        .file("portcullis.yaml", &yaml)
        .file("policy/team.yaml", POLICY)
        .inside(namespace)
        .start()
        .await
        .until_ready()
        .await
}

async fn service(address: IpAddr, port: u16, body: &str) -> Service {
    let builder = Service::builder().address(SocketAddr::new(address, port));
    let service = builder.start().await;
    service.always(Response::new(200).body(body));
    service
}

#[tokio::test(flavor = "multi_thread")]
async fn service_behind_a_cut_network_is_given_up_in_time_and_found_again() {
    let Some(namespace) = Namespace::create() else {
        return;
    };
    let far = service(namespace.back(), 0, "far").await;
    let near = service(namespace.front(), 0, "near").await;
    let gateway = gateway(&namespace, &far.address().to_string(), near.address()).await;
    let caller = Caller::new();
    let (orders, beside) = (gateway.url("/orders"), gateway.url("/near"));
    assert_eq!(caller.get(&orders).await.text(), "far");

    // One that is under way, and others that begin later.
    far.next(
        Response::new(200)
            .body("late")
            .after(Duration::from_secs(1)),
    );
    let under_way = {
        let orders = orders.clone();
        tokio::spawn(async move { Caller::new().get(&orders).await.status })
    };
    far.wait_for_requests(2).await;
    namespace.cut();
    for _ in 0..3 {
        let started = Instant::now();
        let status = caller.get(&orders).await.status;
        assert!(matches!(status, 502 | 504), "{status}");
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "{:?}",
            started.elapsed()
        );
        assert_eq!(
            caller.get(&beside).await.text(),
            "near",
            "others are served"
        );
    }
    assert_eq!(under_way.await.unwrap(), 504);
    namespace.mend();
    eventually("the service", || async {
        (caller.get(&orders).await.status == 200).then_some(())
    })
    .await;
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.value("portcullis_requests_in_flight", &[]), 0.0);
    gateway.assert_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_cannot_be_looked_up_stay_what_they_were_and_changes_are_followed() {
    let Some(namespace) = Namespace::create() else {
        return;
    };
    let (IpAddr::V4(front), IpAddr::V4(back)) = (namespace.front(), namespace.back()) else {
        unreachable!("they are IPv4");
    };
    let names = NameServer::start(&namespace, NameAnswer::Failure).await;
    let old = service(back.into(), 0, "old").await;
    let new = service(front.into(), old.address().port(), "new").await;
    let orders = format!("orders.test:{}", old.address().port());
    let gateway = gateway(&namespace, &orders, new.address()).await;
    let caller = Caller::new();
    let url = gateway.url("/orders");
    caller
        .get(&url)
        .await
        .assert_refused(502, "upstream_unreachable");
    for trouble in [NameAnswer::NoSuchName, NameAnswer::Silence] {
        let before = names.questions();
        names.say(trouble);
        eventually("a question", || async {
            (names.questions() > before).then_some(())
        })
        .await;
        assert_eq!(
            caller.get(&gateway.url("/near")).await.text(),
            "new",
            "others are served"
        );
    }
    names.say(NameAnswer::Address(back));
    let is_served = async |body: &str| {
        eventually_within(Duration::from_secs(20), body, || async {
            let answer = caller.get(&url).await;
            (answer.status == 200 && answer.text() == body).then_some(())
        })
        .await;
    };
    is_served("old").await;

    names.say(NameAnswer::Failure);
    let before = names.questions();
    eventually_within(Duration::from_secs(40), "the next look-up", || async {
        assert_eq!(caller.get(&url).await.text(), "old");
        (names.questions() > before + 1).then_some(())
    })
    .await;
    assert_eq!(
        caller.get(&url).await.text(),
        "old",
        "what was found goes on serving"
    );
    names.say(NameAnswer::Address(front));
    is_served("new").await;
}
