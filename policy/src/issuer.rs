use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Place of an issuer in its [`IssuerSet`]; an index for whatever else is kept for each issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IssuerId(u32);

impl IssuerId {
    /// The issuer at `index`.
    #[must_use]
    pub fn from_index(index: usize) -> Self {
        Self(u32::try_from(index).unwrap_or(u32::MAX))
    }

    /// Index of the issuer.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// An authorization server, as far as its tokens are judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// Name in the configuration.
    pub name: Box<str>,
    /// Value of `iss`, compared byte for byte.
    pub issuer: Box<str>,
    /// Accepted values of `aud`; never empty.
    pub audiences: Vec<Box<str>>,
    /// Accepted algorithms; never empty.
    pub algorithms: Vec<Algorithm>,
    /// What kind of JWT its access tokens are.
    pub profile: TokenProfile,
    /// Claim that carries the scopes.
    pub scope_claim: ScopeClaim,
    /// Tolerated difference between its clock and ours.
    pub leeway: Duration,
}

/// What kind of JWT an access token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenProfile {
    /// RFC 9068: `typ` is `at+jwt`.
    Rfc9068,
    /// A JWT whose `typ` is `at+jwt`, `JWT` or absent, and that has no mark of another kind of token.
    Jwt,
}

/// Claim that carries the scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScopeClaim {
    /// `scope`, a string of words.
    Scope,
    /// `scp`, a string of words or a list of them.
    Scp,
}

impl ScopeClaim {
    /// Name of the claim.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scope => "scope",
            Self::Scp => "scp",
        }
    }
}

/// A signature algorithm that an access token may have (RFC 7518 §3.1, RFC 8037). There is no
/// variant for `none` or HMAC, so nothing can be configured or verified with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the registered ones")]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 9] = [
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::ES256,
        Self::ES384,
        Self::EdDSA,
    ];

    /// Name in the registry of JOSE algorithms.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::EdDSA => "EdDSA",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name of no algorithm that an access token may have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA")]
pub struct UnsupportedAlgorithm;

impl FromStr for Algorithm {
    type Err = UnsupportedAlgorithm;

    /// Names are case-sensitive (RFC 7515 §4.1.1).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.as_str() == text)
            .ok_or(UnsupportedAlgorithm)
    }
}

/// Every issuer whose tokens are accepted.
#[derive(Debug, Default)]
pub struct IssuerSet(Vec<Issuer>);

impl IssuerSet {
    /// These issuers, in the order of their ids.
    #[must_use]
    pub const fn new(issuers: Vec<Issuer>) -> Self {
        Self(issuers)
    }

    /// The issuer that a token names, compared byte for byte (RFC 8725 §3.8).
    #[must_use]
    pub fn find(&self, iss: &str) -> Option<(IssuerId, &Issuer)> {
        let index = self.0.iter().position(|issuer| &*issuer.issuer == iss)?;
        Some((IssuerId::from_index(index), self.0.get(index)?))
    }

    /// The issuer with this id.
    #[must_use]
    pub fn get(&self, id: IssuerId) -> Option<&Issuer> {
        self.0.get(id.index())
    }

    /// All of them, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Issuer> {
        self.0.iter()
    }
}
