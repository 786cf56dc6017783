use std::collections::HashMap;

use crate::IdentityHeaders;
use crate::identity_headers::{fold, fold_into};

/// What becomes of a header field of a caller on its way to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderFate {
    /// The service gets it as it came.
    Forward,
    /// It ends here: it speaks about the connection, or to the gateway alone.
    Remove,
    /// It ends here, and was an attempt to speak in the gateway's name.
    RemoveForgery,
}

/// Decides which header fields of a caller a service may see: the identity headers, whatever speaks
/// about the caller's identity or address to some service, and whatever would make a service see
/// another request than the one that was judged are the gateway's to write, in every spelling that
/// a service may fold to the same name.
#[derive(Debug)]
pub struct ServiceHeaders {
    fates: HashMap<Box<[u8]>, Listed>,
}

#[derive(Debug, Clone, Copy)]
struct Listed {
    /// Of the registered spelling, letters in any case.
    as_registered: HeaderFate,
    /// Of any other spelling that folds to it.
    as_variant: HeaderFate,
}

/// Written by proxies about callers, and believed by services that expect to be behind one.
const IDENTITY_OF_OTHERS: [&str; 57] = [
    "remote-user",
    "remote-groups",
    "remote-email",
    "remote-name",
    "remote-addr",
    "x-remote-user",
    "x-remote-group",
    "x-remote-groups",
    "x-remote-email",
    "x-user",
    "x-user-name",
    "x-user-email",
    "x-user-groups",
    "x-user-roles",
    "x-username",
    "x-userinfo",
    "x-email",
    "x-groups",
    "x-roles",
    "x-proxy-user",
    "x-authenticated-user",
    "x-authenticated-userid",
    "x-authenticated-scope",
    "x-token-subject",
    "x-id-token",
    "x-access-token",
    "x-userid",
    "x-endpoint-api-userinfo",
    "x-apigateway-api-userinfo",
    "iv-user",
    "iv-groups",
    "iv-creds",
    "sm-user",
    "sm-userdn",
    "x-ssl-cert",
    "ssl-cert",
    "x-arr-clientcert",
    "x-azure-clientip",
    "x-azure-socketip",
    "cf-pseudo-ipv4",
    "forwarded-for",
    "x-forwarded",
    "proxy-client-ip",
    "wl-proxy-client-ip",
    "http-client-ip",
    "x-jwt-assertion",
    "x-jwt-payload",
    "x-anonymous-consumer",
    "x-client-dn",
    "x-client-verify",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "true-client-ip",
    "fastly-client-ip",
    "client-ip",
];

/// Would change the method, the target or the origin that a service sees.
const OVERRIDES: [&str; 24] = [
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-original-uri",
    "x-original-host",
    "x-original-method",
    "x-rewrite-url",
    "x-host",
    "x-scheme",
    "x-original-path",
    "x-middleware-subrequest",
    "x-real-host",
    "x-http-host-override",
    "forwarded-host",
    "x-script-name",
    "script-name",
    "path-info",
    "x-path-info",
    "x-rewrite-uri",
    "x-override-url",
    "x-http-path-override",
    // To CGI and its heirs, the address of a proxy that they should use.
    "proxy",
    "front-end-https",
];

/// About one connection only (RFC 9110 §7.6.1), or for the gateway only.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "http2-settings",
    "upgrade",
    "trailer",
];

/// Have a meaning that a service may not take from a variant of the name.
const EXACT_ONLY: [&str; 9] = [
    "authorization",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "te",
    "traceparent",
    "transfer-encoding",
];

/// Written by the gateway itself under one name.
const WRITTEN_BY_THE_GATEWAY: [&str; 3] = ["forwarded", "x-request-id", "tracestate"];

/// Families of names that speak about callers: of proxies, of clouds, of certificates.
const FAMILIES: [&[u8]; 32] = [
    b"x-forwarded-",
    b"x-auth-",
    b"x-ssl-client-",
    b"ssl-client-",
    b"client-cert",
    b"x-client-cert",
    b"x-envoy-",
    b"x-portcullis-",
    b"x-consumer-",
    b"x-credential-",
    b"x-webauth-",
    b"x-pomerium-",
    b"x-amzn-oidc-",
    b"x-goog-authenticated-",
    b"x-goog-iap-",
    b"x-ms-client-principal",
    b"x-ms-token-",
    b"cf-access-",
    b"cf-connecting-",
    b"tailscale-user-",
    b"x-appengine-",
    b"x-remote-",
    b"impersonate-",
    b"oidc-",
    b"x-oidc-",
    b"x-authenticated-",
    b"x-authentik-",
    b"x-vouch-",
    b"x-jwt-",
    b"x-amzn-mtls-",
    b"cf-client-cert-",
    b"cf-tls-",
];

/// Names up to this length are folded without allocating.
const USUAL_LENGTH: usize = 64;

impl ServiceHeaders {
    /// For services that are told about callers by `identity`.
    #[must_use]
    pub fn new(identity: &IdentityHeaders) -> Self {
        use HeaderFate::{Forward, Remove, RemoveForgery};
        let mut fates = HashMap::new();
        let mut list = |names: &[&str], as_registered, as_variant| {
            for name in names {
                fates.insert(
                    name.as_bytes().into(),
                    Listed {
                        as_registered,
                        as_variant,
                    },
                );
            }
        };
        list(&EXACT_ONLY, Forward, Remove);
        list(&HOP_BY_HOP, Remove, Remove);
        list(&WRITTEN_BY_THE_GATEWAY, Remove, Remove);
        list(&OVERRIDES, Remove, Remove);
        list(&IDENTITY_OF_OTHERS, Remove, Remove);
        for (name, _) in identity.iter() {
            fates.insert(
                fold(name.as_str()).into_bytes().into(),
                Listed {
                    as_registered: RemoveForgery,
                    as_variant: RemoveForgery,
                },
            );
        }
        Self { fates }
    }

    /// What becomes of a field called `name`, a valid field name in any case.
    #[must_use]
    pub fn fate(&self, name: &str) -> HeaderFate {
        let mut buffer = [0; USUAL_LENGTH];
        let unusual;
        let folded: &[u8] = match fold_into(name, &mut buffer) {
            Some(folded) => folded,
            None => {
                unusual = fold(name);
                unusual.as_bytes()
            }
        };
        if let Some(listed) = self.fates.get(folded) {
            // Registered names are their own folded form.
            let is_variant = !name.as_bytes().eq_ignore_ascii_case(folded);
            return if is_variant {
                listed.as_variant
            } else {
                listed.as_registered
            };
        }
        if FAMILIES.iter().any(|family| folded.starts_with(family)) {
            HeaderFate::Remove
        } else {
            HeaderFate::Forward
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fate(name: &str) -> HeaderFate {
        ServiceHeaders::new(&IdentityHeaders::default()).fate(name)
    }

    #[test]
    fn every_spelling_that_a_service_may_fold_is_the_header() {
        for name in [
            "X-User-ID",
            "x_user_id",
            "X-User_ID",
            "x.user.id",
            "X~USER!ID",
            "x-scopes",
            "X_Scopes",
            "X-User--ID",
            "X-User-Id_",
            "_x_user_id",
        ] {
            assert_eq!(fate(name), HeaderFate::RemoveForgery, "{name}");
        }
        for name in ["x-user-ids", "user-id", "x-useride", "accept"] {
            assert_eq!(fate(name), HeaderFate::Forward, "{name}");
        }
    }

    #[test]
    fn ordinary_fields_are_forwarded() {
        for name in [
            "accept",
            "User-Agent",
            "content-type",
            "Content-Length",
            "cookie",
            "X-Custom",
            "authorization",
            "grpc-timeout",
            "x-users",
            "Host",
            "transfer-encoding",
        ] {
            assert_eq!(fate(name), HeaderFate::Forward, "{name}");
        }
        assert_eq!(fate(&"x".repeat(1_000)), HeaderFate::Forward);
    }

    #[test]
    fn what_speaks_in_the_gateways_name_is_a_forgery_in_every_spelling() {
        for name in [
            "x-user-id",
            "X_User_ID",
            "X-User.ID",
            "x~scopes",
            "X-CLIENT-ID",
        ] {
            assert_eq!(fate(name), HeaderFate::RemoveForgery, "{name}");
        }
    }

    #[test]
    fn a_name_of_any_length_is_recognized() {
        let long = format!("x-{}", "tenant-".repeat(30) + "id");
        let identity = IdentityHeaders::new([(long.as_str(), "tenant")]).unwrap();
        let headers = ServiceHeaders::new(&identity);
        assert_eq!(
            headers.fate(&long.replace('-', "_")),
            HeaderFate::RemoveForgery
        );
        assert_eq!(headers.fate(&format!("{long}s")), HeaderFate::Forward);
    }

    #[test]
    fn what_would_change_the_request_or_the_caller_is_removed_in_every_spelling() {
        for name in [
            "x-forwarded-for",
            "X_Forwarded_User",
            "forwarded",
            "Remote-User",
            "remote_user",
            "X-HTTP-Method-Override",
            "x-original-url",
            "X-SSL-Client-Cert",
            "SSL_CLIENT_S_DN",
            "x-auth-request-user",
            "connection",
            "proxy-authorization",
            "upgrade",
            "x-real-ip",
            "x-portcullis-anything",
            "Client-Cert",
            "X-MS-Client-Principal-Name",
            "Cf-Access-Authenticated-User-Email",
            "X-Consumer-Username",
            "x--real__ip",
            "Proxy",
            "X-Remote-Extra-Scopes",
            "Impersonate-User",
            "OIDC_CLAIM_sub",
            "SM_USER",
            "X-Amzn-Mtls-Clientcert",
        ] {
            assert_eq!(fate(name), HeaderFate::Remove, "{name}");
        }
        let long = format!("x-forwarded-{}", "x".repeat(1_000));
        assert_eq!(fate(&long), HeaderFate::Remove);
    }

    #[test]
    fn variants_of_a_name_with_a_meaning_are_removed() {
        for name in [
            "content_length",
            "Transfer_Encoding",
            "transfer.encoding",
            "Content_Type",
            "authorization-",
            "-Authorization",
            "transfer--encoding",
            "content-length-",
        ] {
            assert_eq!(fate(name), HeaderFate::Remove, "{name}");
        }
    }
}
