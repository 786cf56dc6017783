//! Which routes differ between the generation that serves and the one that would.

use std::path::Path;
use std::sync::Arc;

use portcullis_policy::{self as policy, Access};

use crate::config::{
    ClientCertificates, Config, Issuer, KeySource, Listener, ListenerTls, Route, ServerCertificate,
    Upstream,
};
use crate::resolve::Platform;
use crate::resolve::policies::Policies;

/// The two generations.
#[derive(Debug)]
pub(super) struct Movement<'a> {
    previous: &'a Config,
    platform: &'a Platform,
    /// No listener asks less of its callers than it did.
    client_certificates_stay: bool,
}

impl<'a> Movement<'a> {
    pub(super) fn new(previous: &'a Config, platform: &'a Platform) -> Self {
        Self {
            previous,
            platform,
            client_certificates_stay: client_certificates_stay(
                &previous.listeners,
                &platform.listeners,
            ),
        }
    }

    /// The moving routes of one file, in their old and in their new form.
    pub(super) fn of_file(
        &self,
        path: &Path,
        number: usize,
        policies: &Policies,
    ) -> Vec<Arc<policy::Route>> {
        let old_number = self
            .previous
            .policy_files
            .iter()
            .position(|file| file.path == path);
        let old: Vec<&Route> = self
            .previous
            .routes
            .iter()
            .filter(|route| Some(route.file) == old_number)
            .collect();
        let new: Vec<&Route> = policies
            .routes
            .iter()
            .filter(|route| route.file == number)
            .collect();
        let dropped = old
            .iter()
            .filter(|old| !new.iter().any(|new| self.stays(old, new)));
        let added = new
            .iter()
            .filter(|new| !old.iter().any(|old| self.stays(old, new)));
        dropped
            .chain(added)
            .map(|route| Arc::clone(&route.policy))
            .collect()
    }

    /// Whether `new` takes the requests that `old` took, from nobody whom `old` refused, to where
    /// `old` took them.
    fn stays(&self, old: &Route, new: &Route) -> bool {
        self.client_certificates_stay
            && old.policy.host == new.policy.host
            && old.policy.path == new.policy.path
            && old.policy.methods == new.policy.methods
            && old.forward_authorization == new.forward_authorization
            && self.access_stays(&old.policy.access, &new.policy.access)
            && match (
                self.previous.upstreams.get(old.upstream),
                self.platform.upstreams.get(new.upstream),
            ) {
                (Some(old), Some(new)) => is_same_service(old, new),
                _ => false,
            }
    }

    fn access_stays(&self, old: &Access, new: &Access) -> bool {
        let (old, new) = match (old, new) {
            (Access::Public, Access::Public) => return true,
            (Access::Protected(old), Access::Protected(new)) => (old, new),
            (Access::Public, Access::Protected(_)) | (Access::Protected(_), Access::Public) => {
                return false;
            }
        };
        let (before, after) = (
            accepted(&self.previous.issuers, old),
            accepted(&self.platform.issuers, new),
        );
        old.scopes.names() == new.scopes.names()
            && old.scopes.is_any() == new.scopes.is_any()
            && after
                .iter()
                .all(|new| before.iter().any(|old| is_same_issuer(old, new)))
    }
}

/// Whether every listener demands of its callers what it has demanded, or more. One that is new is
/// bound at the next start only.
fn client_certificates_stay(old: &[Listener], new: &[Listener]) -> bool {
    new.iter().all(|new| {
        let old = old.iter().find(|old| old.name == new.name);
        let Some(old) = old.and_then(|old| old.tls.as_ref()) else {
            return true;
        };
        let Some(new) = &new.tls else {
            // It refuses all connections until the next start.
            return true;
        };
        let names = |tls: &ListenerTls| -> Vec<Vec<String>> {
            let certificates = tls.certificates.iter();
            certificates
                .map(|certificate| certificate.names.clone())
                .collect()
        };
        if names(old) == names(new) {
            let pairs = old.certificates.iter().zip(&new.certificates);
            return pairs
                .into_iter()
                .all(|(old, new)| demands_no_less(old, new));
        }
        // Which rule is for which name has changed: each has to do for all.
        new.certificates
            .iter()
            .all(|new| old.certificates.iter().all(|old| demands_no_less(old, new)))
    })
}

/// A certificate that is asked for and need not be shown admits nobody.
fn demands_no_less(old: &ServerCertificate, new: &ServerCertificate) -> bool {
    match (&old.client_certificates, &new.client_certificates) {
        (ClientCertificates::Off | ClientCertificates::Optional(_), _) => true,
        (ClientCertificates::Required(old), ClientCertificates::Required(new)) => {
            new.iter().all(|authority| old.contains(authority))
        }
        (
            ClientCertificates::Required(_),
            ClientCertificates::Off | ClientCertificates::Optional(_),
        ) => false,
    }
}

fn accepted<'a>(issuers: &'a [Issuer], requirement: &policy::Requirement) -> Vec<&'a Issuer> {
    match &requirement.issuers {
        None => issuers.iter().collect(),
        Some(ids) => ids
            .iter()
            .filter_map(|id| issuers.get(id.index()))
            .collect(),
    }
}

/// Keys in a file may change, as they may behind an address: that is rotation.
fn is_same_issuer(old: &Issuer, new: &Issuer) -> bool {
    let keys_stay = match (&old.keys, &new.keys) {
        (KeySource::File(old, _), KeySource::File(new, _)) => old == new,
        (old, new) => old == new,
    };
    keys_stay && old.policy == new.policy && old.trust == new.trust
}

/// Certificates may change: that is rotation. Where a request goes may not.
fn is_same_service(old: &Upstream, new: &Upstream) -> bool {
    let server_name =
        |upstream: &Upstream| upstream.tls.as_ref().map(|tls| tls.server_name.clone());
    old.addresses == new.addresses && server_name(old) == server_name(new)
}
