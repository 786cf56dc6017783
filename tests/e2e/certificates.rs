//! Certificates of listeners that change while callers connect.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use portcullis_e2e::{
    Authority, Caller, Connection, Gateway, GatewayYaml, Http2Connection, Leaf, Load, Service,
    TlsOptions, eventually,
};
use tokio::process::Command;
use tokio::time::Instant;

use crate::steps::request;

const NAME: &str = "api.acme.example";
const POLICY: &str = "owner: orders-team\nroutes:\n\
    - { name: any, match: { path: \"/any/{*rest}\" }, upstream: orders, public: true }\n";

async fn start(authority: &Authority, tls: &str, files: &[(&str, &str)]) -> (Gateway, Service) {
    let service = Service::start().await;
    let yaml = GatewayYaml::new()
        .listener(&format!(
            "{{ name: public, address: \"127.0.0.1:0\", tls: {{ certificates: \
             [{{ certificate: tls/edge.pem, private_key: tls/edge.key }}]{tls} }} }}"
        ))
        .upstream("orders", service.address());
    let edge = authority.issue_for(NAME);
    let mut builder = Gateway::builder()
        .file("portcullis.yaml", &yaml.render())
        .file("policy/orders.yaml", POLICY)
        .file("tls/edge.pem", &edge.certificate_pem)
        .file("tls/edge.key", &edge.private_key_pem);
    for (path, content) in files {
        builder = builder.file(path, content);
    }
    (builder.start().await, service)
}

/// The certificate that the gateway presents now, DER.
async fn presented(gateway: &Gateway, options: &TlsOptions) -> Vec<u8> {
    let stream = options.connect(gateway.address("public")).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_rotate_under_load_without_a_failed_handshake_or_request() {
    let authority = Arc::new(Authority::new("edge"));
    let (gateway, _service) = start(&authority, "", &[]).await;
    let address = gateway.address("public");
    let options = TlsOptions::new(&authority, NAME);

    let connecting = {
        let options = options.clone();
        Load::start(2, move || {
            let options = options.clone();
            async move {
                let mut connection = Connection::open_tls(address, &options)
                    .await
                    .map_err(|error| format!("handshake: {error}"))?;
                let text = request("GET", "/any/new", &["Connection: close"]);
                connection
                    .try_send(text)
                    .await
                    .map_err(|error| error.to_string())?;
                match connection.read_response_or_close().await {
                    Some(response) if response.status == 200 => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            }
        })
    };
    let staying = {
        let connection = Http2Connection::open_tls(address, &options).await;
        let connection = Arc::new(tokio::sync::Mutex::new(connection));
        Load::start(2, move || {
            let connection = Arc::clone(&connection);
            async move {
                let mut connection = connection.lock().await;
                let url = format!("https://{NAME}/any/old");
                match connection.request("GET", &url, &[], b"", &[]).await {
                    Ok(response) if response.status == 200 => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            }
        })
    };
    let h2load = Command::new("h2load")
        .args([
            "--requests=20000",
            "--clients=4",
            "--max-concurrent-streams=4",
        ])
        .arg(format!("--connect-to={address}"))
        .arg(format!("https://{NAME}/any/load"))
        .kill_on_drop(true)
        .output();
    let h2load = tokio::spawn(h2load);

    let mut unaided = Vec::new();
    for round in 0..100 {
        let renewed = authority.issue_for(NAME);
        // Two files cannot change at once: in between they do not belong together.
        gateway.write("tls/edge.key", &renewed.private_key_pem);
        gateway.write("tls/edge.pem", &renewed.certificate_pem);
        let written = Instant::now();
        // Looking takes it half a second, so most of the time it is told.
        let is_told = round % 10 != 0;
        if is_told {
            gateway.hang_up();
        }
        eventually("the renewed certificate", || async {
            (presented(&gateway, &options).await == renewed.der).then_some(())
        })
        .await;
        if !is_told {
            unaided.push(written.elapsed());
        }
    }
    // Within a second of the change, where the processors are not kept busy as they are here.
    unaided.sort_unstable();
    let median = unaided[unaided.len() / 2];
    assert!(median < Duration::from_secs(2), "{unaided:?}");

    connecting.finish().await.assert_flawless();
    staying.finish().await.assert_flawless();
    let output = h2load.await.unwrap().unwrap();
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    let wanted = "20000 total, 20000 started, 20000 done, 20000 succeeded, 0 failed, 0 errored";
    assert!(report.contains(wanted), "{report}");
    gateway.assert_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_without_its_key_is_not_taken() {
    let authority = Authority::new("edge");
    let (gateway, _service) = start(&authority, "", &[]).await;
    let options = TlsOptions::new(&authority, NAME);
    let before = presented(&gateway, &options).await;
    let renewed = authority.issue_for(NAME);
    gateway.write("tls/edge.pem", &renewed.certificate_pem);
    gateway.hang_up();
    gateway.wait_for_log("edge").await;
    assert_eq!(
        presented(&gateway, &options).await,
        before,
        "the old pair serves on"
    );
    gateway.write("tls/edge.key", &renewed.private_key_pem);
    eventually("the renewed certificate", || async {
        (presented(&gateway, &options).await == renewed.der).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn private_key_that_everybody_may_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let authority = Authority::new("edge");
    let (gateway, service) = start(&authority, "", &[]).await;
    drop(service);
    let renewed = authority.issue_for(NAME);
    let options = TlsOptions::new(&authority, NAME);
    let before = presented(&gateway, &options).await;
    let key = gateway.directory().join("tls/edge.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    gateway.write("tls/edge.pem", &renewed.certificate_pem);
    gateway.write("tls/edge.key", &renewed.private_key_pem);
    gateway.hang_up();
    gateway.wait_for_log("edge.key").await;
    assert_eq!(presented(&gateway, &options).await, before);
}

/// On a connection of its own.
async fn is_served(address: SocketAddr, options: TlsOptions) -> bool {
    let Ok(mut connection) = Connection::open_tls(address, &options).await else {
        return false;
    };
    connection
        .try_send(request("GET", "/any/x", &[]))
        .await
        .is_ok()
        && connection
            .read_response_or_close()
            .await
            .is_some_and(|response| response.status == 200)
}

#[tokio::test(flavor = "multi_thread")]
async fn authority_of_callers_that_was_replaced_is_believed_no_longer() {
    let authority = Authority::new("edge");
    let old = Authority::new("callers");
    let new = Authority::new("callers");
    let tls = ", client_certificates: { mode: required, trust: tls/callers.pem }";
    let files = [("tls/callers.pem", &*old.certificate_pem())];
    let (gateway, service) = start(&authority, tls, &files).await;
    let options = TlsOptions::new(&authority, NAME);
    let with_old = options
        .clone()
        .with_certificate(&old.issue(Leaf::new("caller")));
    let with_new = options.with_certificate(&new.issue(Leaf::new("caller")));
    let is_served = |options: TlsOptions| is_served(gateway.address("public"), options);
    assert!(is_served(with_old.clone()).await);
    assert!(!is_served(with_new.clone()).await);
    gateway.write("tls/callers.pem", &new.certificate_pem());
    gateway.reload().await;
    assert!(is_served(with_new).await);
    assert!(!is_served(with_old).await);
    assert_eq!(service.request_count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn authorities_of_callers_rotate_under_load_and_the_replaced_one_is_refused_at_once() {
    let authority = Authority::new("edge");
    let steady = Authority::new("steady callers");
    let mut current = Authority::new("callers");
    let bundle = |others: &[&Authority]| {
        others.iter().fold(steady.certificate_pem(), |pem, other| {
            pem + &other.certificate_pem()
        })
    };
    let tls = ", client_certificates: { mode: required, trust: tls/callers.pem }";
    let files = [("tls/callers.pem", &*bundle(&[&current]))];
    let (gateway, _service) = start(&authority, tls, &files).await;
    let address = gateway.address("public");
    let options = TlsOptions::new(&authority, NAME);
    let with = |issuer: &Authority| {
        let certificate = issuer.issue(Leaf::new("caller"));
        options.clone().with_certificate(&certificate)
    };
    let load = {
        let options = with(&steady);
        Load::start(2, move || {
            let options = options.clone();
            async move {
                match is_served(address, options).await {
                    true => Ok(()),
                    false => Err("a caller whose authority has stayed was not served".to_owned()),
                }
            }
        })
    };
    for round in 0..10 {
        let next = Authority::new("callers");
        let (with_current, with_next) = (with(&current), with(&next));
        assert!(is_served(address, with_current.clone()).await, "{round}");
        assert!(!is_served(address, with_next.clone()).await, "{round}");
        // Both for a while, as it is done where callers get their certificates one by one.
        gateway.write("tls/callers.pem", &bundle(&[&current, &next]));
        gateway.reload().await;
        assert!(is_served(address, with_current.clone()).await, "{round}");
        assert!(is_served(address, with_next.clone()).await, "{round}");
        gateway.write("tls/callers.pem", &bundle(&[&next]));
        gateway.reload().await;
        assert!(!is_served(address, with_current).await, "{round}");
        assert!(is_served(address, with_next).await, "{round}");
        current = next;
    }
    load.finish().await.assert_flawless();
    gateway.assert_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_towards_a_service_rotate_under_load_without_a_failed_request() {
    let authority = Authority::new("internal");
    let service = Service::builder()
        .tls(&authority.issue_for("orders.internal"))
        .demand_client_certificate(&authority)
        .start()
        .await;
    let yaml = GatewayYaml::new().upstream_flow(&format!(
        "name: orders, addresses: [\"{}\"], tls: {{ server_name: orders.internal, \
         trust: tls/trust.pem, certificate: tls/gateway.pem, private_key: tls/gateway.key }}",
        service.address()
    ));
    let first = authority.issue(Leaf::new("portcullis"));
    let gateway = Gateway::start(&[
        ("portcullis.yaml", &yaml.render()),
        ("policy/orders.yaml", POLICY),
        ("tls/trust.pem", &authority.certificate_pem()),
        ("tls/gateway.pem", &first.certificate_pem),
        ("tls/gateway.key", &first.private_key_pem),
    ])
    .await;
    let url = gateway.url("/any/x");
    let caller = Caller::new();
    let load = {
        let (caller, url) = (caller.clone(), url.clone());
        Load::start(4, move || {
            let (caller, url) = (caller.clone(), url.clone());
            async move {
                let answer = caller.try_get(&url).await;
                match answer.map_err(|error| format!("{error:?}"))?.status {
                    200 => Ok(()),
                    other => Err(format!("answered {other}")),
                }
            }
        })
    };
    for round in 0..20 {
        let renewed = authority.issue(Leaf::new("portcullis"));
        gateway.write("tls/gateway.key", &renewed.private_key_pem);
        gateway.write("tls/gateway.pem", &renewed.certificate_pem);
        gateway.reload().await;
        eventually(&format!("the new certificate, round {round}"), || async {
            service.forget();
            assert_eq!(caller.get(&url).await.status, 200);
            let presented = service.last_request().client_certificate;
            (presented.as_ref() == Some(&renewed.der)).then_some(())
        })
        .await;
    }
    load.finish().await.assert_flawless();
    gateway.assert_healthy();
}
