//! An access token → the principal that it speaks for.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use portcullis_policy::{Denial, IssuerId, PresentedToken, Principal, UnixTime};
use tokio::time::sleep;

use super::failures::Failures;
use super::token_cache::{Remembered, TokenHash};
use crate::issuer::KeySetCache;
use crate::issuer::key_set_cache::{LoadedKeySet, UnknownKey};
use crate::refusal::{Fault, Refusal};
use crate::snapshot::Snapshot;
use crate::telemetry::metrics::labels::TokenVerification;
use crate::turns::{Turns, Waiting};

/// Tokens that wait for their turn on one worker: that many signatures, half a second of RSA's, are before the
/// last of them, and whatever else the worker does.
const MAX_WAITING: usize = 4096;

/// Refusals that wait on one worker: each holds a request, some 36 KiB.
const MAX_DELAYED: usize = 512;

/// What one worker has to do for tokens that nobody remembers.
#[derive(Debug, Default)]
pub(crate) struct Verifications {
    turns: Turns,
    delayed: AtomicUsize,
}

/// Whom a verification is done for, and what it has cost so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller<'f> {
    /// `None`: a proxy that speaks for many, and does not say for whom.
    pub(crate) address: Option<IpAddr>,
    pub(crate) failures: &'f Failures,
    /// Of the worker that it is connected to.
    pub(crate) verifications: &'f Verifications,
}

impl Caller<'_> {
    /// Whether something is left of its address's share. Who has used it up is told so a second later, when there
    /// is another one: until then the connection, or the stream, asks for nothing else. So many wait that
    /// they hold little; further ones are told at once.
    async fn may_try(&self, snapshot: &Snapshot) -> Result<(), Denial> {
        let limit = snapshot.config().limits.failed_verifications_per_second;
        let is_exceeded = |address| self.failures.are_exceeded(address, limit, Instant::now());
        if self.address.is_some_and(is_exceeded) {
            let delayed = &self.verifications.delayed;
            if delayed.load(Ordering::Relaxed) < MAX_DELAYED {
                let _delayed = Waiting::begin(delayed);
                sleep(Duration::from_secs(1)).await;
            }
            return Err(Denial::TokenAttemptsExceeded);
        }
        Ok(())
    }

    /// Does what costs a signature when it is its turn.
    async fn in_turn<T>(
        &self,
        work: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        if self.verifications.turns.waiting() >= MAX_WAITING {
            return Err(Fault::Overloaded.into());
        }
        self.verifications.turns.begin(work).await
    }

    fn has_failed(&self) {
        if let Some(address) = self.address {
            self.failures.add(address, Instant::now());
        }
    }
}

/// Who presents `token`, in the terms of `snapshot`. Signatures are verified in turns, and callers whose token is
/// remembered wait for none.
///
/// # Errors
/// What is wrong with the token; [`Fault::KeysUnavailable`] when nobody can say, [`Fault::Overloaded`] when too
/// many wait to be told.
pub(crate) async fn authenticate(
    snapshot: &Snapshot,
    token: &str,
    now: UnixTime,
    caller: Caller<'_>,
) -> Result<Arc<Principal>, Refusal> {
    let hash = TokenHash::of(token);
    if let Some(principal) = remembered(snapshot, &hash, now)? {
        return Ok(principal);
    }
    caller.may_try(snapshot).await?;
    let presented = PresentedToken::parse(token)?;
    let (issuer, _) = presented.issuer(snapshot.issuers())?;
    let key_sets = snapshot.key_set_cache(issuer)?;
    let has_to_wait = caller.verifications.turns.waiting() > 0;
    let judging = async {
        // Meanwhile others may have used up the address's share, or have shown this very token.
        if has_to_wait {
            caller.may_try(snapshot).await?;
            if let Some(principal) = remembered(snapshot, &hash, now)? {
                return Ok(principal);
            }
        }
        let verdict = verify(snapshot, key_sets, issuer, presented, token, now, caller).await;
        match verdict {
            Ok(remembered) => {
                key_sets.metrics().token_judged(TokenVerification::Verified);
                let principal = Arc::clone(&remembered.principal);
                snapshot.tokens().insert(hash, remembered);
                Ok(principal)
            }
            Err(refusal) => {
                if let Refusal::Denied(_) = refusal {
                    key_sets.metrics().token_judged(TokenVerification::Refused);
                    caller.has_failed();
                }
                Err(refusal)
            }
        }
    };
    caller.in_turn(judging).await
}

/// Whom a token speaks for that was verified before, and still is good.
fn remembered(
    snapshot: &Snapshot,
    hash: &TokenHash,
    now: UnixTime,
) -> Result<Option<Arc<Principal>>, Refusal> {
    let Some(remembered) = snapshot.tokens().get(hash) else {
        return Ok(None);
    };
    let key_sets = snapshot.key_set_cache(remembered.principal.issuer())?;
    // A key that was withdrawn, or a set that grew too old, takes its tokens along.
    if key_sets.is_current(&remembered.key_set) && !remembered.principal.is_expired(now) {
        key_sets.metrics().token_judged(TokenVerification::Cached);
        return Ok(Some(remembered.principal));
    }
    snapshot.tokens().remove(hash);
    Ok(None)
}

async fn verify(
    snapshot: &Snapshot,
    key_sets: &KeySetCache,
    issuer: IssuerId,
    presented: PresentedToken<'_>,
    token: &str,
    now: UnixTime,
    caller: Caller<'_>,
) -> Result<Remembered, Refusal> {
    let key_set = key_sets.current().ok_or(Fault::KeysUnavailable)?;
    let key_id = presented.key_id().map(Box::<str>::from);
    let verdict = verify_with(snapshot, issuer, presented, key_set, now);
    let (Err((Denial::TokenKeyUnknown, key_set)), Some(key_id)) = (&verdict, key_id) else {
        return verdict.map_err(|(denial, _)| denial.into());
    };
    match key_sets.ask_for(&key_id, key_set).await {
        UnknownKey::NotPublished => Err(Denial::TokenKeyUnknown.into()),
        UnknownKey::NoVerdict => Err(Fault::KeysUnavailable.into()),
        // Everybody who has waited for the keys comes at once.
        UnknownKey::LookAgain => {
            let again = async {
                caller.may_try(snapshot).await?;
                let key_set = key_sets.current().ok_or(Fault::KeysUnavailable)?;
                let presented = PresentedToken::parse(token)?;
                verify_with(snapshot, issuer, presented, key_set, now)
                    .map_err(|(denial, _)| denial.into())
            };
            caller.in_turn(again).await
        }
    }
}

fn verify_with(
    snapshot: &Snapshot,
    id: IssuerId,
    presented: PresentedToken<'_>,
    key_set: Arc<LoadedKeySet>,
    now: UnixTime,
) -> Result<Remembered, (Denial, Arc<LoadedKeySet>)> {
    let Some(issuer) = snapshot.issuers().get(id) else {
        return Err((Denial::IssuerUnknown, key_set));
    };
    let config = snapshot.config();
    let principal = presented
        .verify((id, issuer), key_set.keys(), now)
        .and_then(|token| Principal::new(&token, &config.identity_headers, &config.scopes));
    match principal {
        Ok(principal) => Ok(Remembered {
            principal: Arc::new(principal),
            key_set,
        }),
        Err(denial) => Err((denial, key_set)),
    }
}
