use super::*;

fn issuer() -> AuthorizationServer {
    AuthorizationServer::new("http://127.0.0.1:1".to_owned()).expect("an issuer")
}

async fn json_of(response: Response<Full<Bytes>>) -> (u16, Value) {
    let status = response.status().as_u16();
    let Ok(body) = response.into_body().collect().await;
    (
        status,
        serde_json::from_slice(&body.to_bytes()).expect("JSON"),
    )
}

/// Asks for a token with a form; `SECRET` stands for the one of `dashboard`.
async fn ask(issuer: &AuthorizationServer, form: &str, basic: Option<&str>) -> (u16, Value) {
    let secret = &issuer.registration("dashboard").expect("known").secret;
    let mut headers = HeaderMap::new();
    let media_type = HeaderValue::from_static("application/x-www-form-urlencoded");
    headers.insert(CONTENT_TYPE, media_type);
    if let Some(basic) = basic {
        let basic = STANDARD.encode(basic.replace("SECRET", secret));
        let basic = HeaderValue::try_from(format!("Basic {basic}")).expect("a header value");
        headers.insert(AUTHORIZATION, basic);
    }
    json_of(issuer.token(&headers, form.replace("SECRET", secret).as_bytes())).await
}

#[tokio::test]
async fn a_token_is_for_a_client_that_shows_its_secret_once_and_asks_for_what_it_may() {
    const GRANT: &str = "grant_type=client_credentials";
    const BASIC: Option<&str> = Some("dashboard:SECRET");
    const IN_BODY: &str = "client_id=dashboard&client_secret=SECRET";
    let issuer = issuer();
    for (form, basic, expected) in [
        (GRANT.to_owned(), BASIC, Ok("orders:read profile:read")),
        (
            format!("{GRANT}&{IN_BODY}"),
            None,
            Ok("orders:read profile:read"),
        ),
        (
            format!("{GRANT}&scope=profile:read"),
            BASIC,
            Ok("profile:read"),
        ),
        (
            format!("{GRANT}&scope="),
            BASIC,
            Ok("orders:read profile:read"),
        ),
        (
            format!("{GRANT}&scope=orders:write"),
            BASIC,
            Err("invalid_scope"),
        ),
        (GRANT.to_owned(), None, Err("invalid_client")),
        (
            GRANT.to_owned(),
            Some("dashboard:wrong"),
            Err("invalid_client"),
        ),
        (GRANT.to_owned(), Some("shop:SECRET"), Err("invalid_client")),
        (
            GRANT.to_owned(),
            Some("nobody:SECRET"),
            Err("invalid_client"),
        ),
        (format!("{GRANT}&{IN_BODY}"), BASIC, Err("invalid_request")),
        (format!("{GRANT}&{GRANT}"), BASIC, Err("invalid_request")),
        (String::new(), BASIC, Err("invalid_request")),
        (
            "grant_type=password".to_owned(),
            BASIC,
            Err("unsupported_grant_type"),
        ),
    ] {
        let (status, answer) = ask(&issuer, &form, basic).await;
        match expected {
            Ok(scope) => {
                assert_eq!(
                    (status, answer["scope"].as_str()),
                    (200, Some(scope)),
                    "{form}"
                );
                assert!(answer["access_token"].is_string(), "{form}");
            }
            Err(error) => {
                assert!(status == 400 || status == 401, "{form}: {status}");
                assert_eq!(answer["error"], error, "{form}");
                assert!(answer.get("access_token").is_none(), "{form}");
            }
        }
    }
}

#[tokio::test]
async fn older_keys_stay_in_the_key_set_which_does_not_grow_for_ever() {
    let issuer = issuer();
    let (_, first) = json_of(issuer.key_set()).await;
    let first = first["keys"][0]["kid"].clone();
    for rotations in 1..=MAX_KEYS {
        let (_, rotated) = json_of(issuer.rotate()).await;
        let (_, key_set) = json_of(issuer.key_set()).await;
        let key_set = key_set["keys"].as_array().expect("keys").clone();
        assert_eq!(key_set[0]["kid"], rotated["signs_with"]);
        assert_eq!(key_set.len(), (rotations + 1).min(MAX_KEYS));
        let still_has_first = key_set.iter().any(|key| key["kid"] == first);
        assert_eq!(still_has_first, rotations < MAX_KEYS);
    }
}

#[tokio::test]
async fn no_key_set_has_a_private_key() {
    let (_, key_set) = json_of(issuer().key_set()).await;
    assert!(key_set["keys"][0].get("x").is_some(), "{key_set}");
    assert!(key_set["keys"][0].get("d").is_none(), "{key_set}");
}
