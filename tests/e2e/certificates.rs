//! Certificates of listeners that change while callers connect.

use std::fs;
use std::sync::Arc;

use portcullis_e2e::{
    Authority, Connection, Gateway, GatewayYaml, Http2Connection, Leaf, Load, Service, TlsOptions,
    eventually,
};
use tokio::process::Command;

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

    for _ in 0..20 {
        let renewed = authority.issue_for(NAME);
        // Two files cannot change at once: in between they do not belong together.
        gateway.write("tls/edge.key", &renewed.private_key_pem);
        gateway.write("tls/edge.pem", &renewed.certificate_pem);
        eventually("the renewed certificate", || async {
            (presented(&gateway, &options).await == renewed.der).then_some(())
        })
        .await;
    }

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
    let is_served = |options: TlsOptions| {
        let address = gateway.address("public");
        async move {
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
                    .is_some_and(|r| r.status == 200)
        }
    };
    assert!(is_served(with_old.clone()).await);
    assert!(!is_served(with_new.clone()).await);
    gateway.write("tls/callers.pem", &new.certificate_pem());
    gateway.reload().await;
    assert!(is_served(with_new).await);
    assert!(!is_served(with_old).await);
    assert_eq!(service.request_count(), 2);
}
