use crate::Denial;

/// The `WWW-Authenticate` value for a denial (RFC 6750 §3); `None` where no credential would help.
/// `realm` was checked to have no quote and no backslash.
#[must_use]
pub fn challenge(denial: &Denial, realm: &str) -> Option<String> {
    let Some(error) = denial.challenge_error() else {
        return (*denial == Denial::CredentialMissing).then(|| format!("Bearer realm=\"{realm}\""));
    };
    let error = error.as_str();
    Some(match denial {
        Denial::ScopeInsufficient { required } => {
            format!("Bearer realm=\"{realm}\", error=\"{error}\", scope=\"{required}\"")
        }
        _ => format!("Bearer realm=\"{realm}\", error=\"{error}\""),
    })
}
