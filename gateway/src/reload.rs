//! Watching the files of the configuration, and loading them anew: on a change, or when told to.
//!
//! Files are looked at every half second rather than watched through the kernel: a link that is
//! swapped, a rename and an overwrite all look the same that way, on every file system.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use portcullis_config::{Config, Diagnostic, Diagnostics};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::downstream::connections::Connections;
use crate::gateway::{Gateway, diagnostic_status};
use crate::process;
use crate::snapshot::{self, BuildError, Snapshot};

/// Between two looks at the files.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Files that change are given time to change completely: this long without a change, ...
const CALM: Duration = Duration::from_millis(50);
/// ... but not for ever.
const MAX_LOOKS_FOR_CALM: usize = 20;
/// How long a reload waits for issuers and name servers that are new.
const WARM_UP: Duration = Duration::from_secs(2);

/// Asks for a reload, whether anything has changed or not; answered when it is done.
pub(crate) type Request = oneshot::Sender<()>;

/// How the files of `config` look, to be asked for before anything takes its time.
pub(crate) fn look_at(config: &Config) -> Fingerprint {
    Watched::of_config(config).fingerprint()
}

/// Reloads for as long as the gateway runs: whatever does not look as it was `seen`.
pub(crate) async fn run(
    gateway: Arc<Gateway>,
    connections: Arc<Connections>,
    mut seen: Fingerprint,
    mut requests: mpsc::Receiver<Request>,
) {
    let mut watched = Watched::of_config(gateway.snapshot().config());
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let mut answer_to = Vec::new();
        tokio::select! {
            request = requests.recv() => match request {
                Some(request) => answer_to.push(request),
                None => return,
            },
            _ = looks.tick() => {
                let now = watched.look().await;
                if now == seen {
                    continue;
                }
                watched.until_calm(now).await;
            }
        }
        // Whoever asks while this one runs gets the next one: it may not see their change.
        while let Ok(request) = requests.try_recv() {
            answer_to.push(request);
        }
        let before = watched.look().await;
        let (found, looked) = reload(&gateway, &connections).await;
        // Of a change meanwhile nobody knows whether it was read: then nothing counts as seen.
        seen = match watched.look().await == before {
            true => looked,
            false => Fingerprint::new(),
        };
        watched = found;
        for request in answer_to {
            // Whoever asked need not wait.
            let _ = request.send(());
        }
    }
}

/// Loads the configuration, and puts it in force if it is good. Says what to watch from now on, and how
/// that looked right after it was read.
async fn reload(gateway: &Arc<Gateway>, connections: &Connections) -> (Watched, Fingerprint) {
    let previous = gateway.snapshot();
    let (outcome, watched, seen) = load(&previous).await;
    match outcome {
        Ok(next) => {
            next.warm_up(WARM_UP).await;
            let config = Arc::clone(next.config());
            let generation = next.generation();
            connections.resize(process::possible_connections(&config));
            gateway.install(next);
            gateway.reloaded(true, Vec::new());
            if config.admin != previous.config().admin {
                tracing::warn!("the address of the admin listener changes with a restart only");
            }
            report_unbound(gateway, &config);
            report_config(&config);
            tracing::info!(
                portcullis.config.generation = generation,
                "configuration reloaded"
            );
        }
        Err(rejected) => {
            gateway.metrics().configuration_rejected(SystemTime::now());
            let diagnostics = match &rejected {
                Rejected::Diagnostics(diagnostics) => diagnostics
                    .iter()
                    .filter(|found| found.is_error())
                    .collect(),
                Rejected::Build(_) | Rejected::Thread(_) | Rejected::Defect => Vec::new(),
            };
            for diagnostic in &diagnostics {
                log_rejection(diagnostic);
            }
            if diagnostics.is_empty() {
                tracing::error!(
                    error.message = %rejected,
                    "configuration rejected; the one before stays in force"
                );
            }
            gateway.reloaded(
                false,
                diagnostics
                    .iter()
                    .map(|found| diagnostic_status(found))
                    .collect(),
            );
        }
    }
    // Ten thousand routes take a while to forget. Without a thread for it, this one does.
    let _ = process::in_background("retire", move || drop(previous)).await;
    (watched, seen)
}

/// Reads the files and makes a generation of them, with what [`reload`] says about them. Whoever serves requests
/// goes first.
async fn load(previous: &Arc<Snapshot>) -> (Result<Snapshot, Rejected>, Watched, Fingerprint) {
    let before = Arc::clone(previous);
    let read = process::in_background("reload", move || {
        let loaded = portcullis_config::reload(&before.config().path, before.config());
        let watched = match &loaded {
            Ok(config) => Watched::of_config(config),
            Err(refused) => Watched::of_config(before.config()).and(refused),
        };
        let seen = watched.fingerprint();
        (loaded, watched, seen)
    });
    match read.await {
        Ok(Some((Ok(config), watched, seen))) => match build(config, previous).await {
            // Of no thread nobody knows how long that lasts, so it is tried again.
            Err(rejected @ Rejected::Thread(_)) => (Err(rejected), watched, Fingerprint::new()),
            built => (built, watched, seen),
        },
        Ok(Some((Err(diagnostics), watched, seen))) => (Err(diagnostics.into()), watched, seen),
        Ok(None) => {
            let watched = Watched::of_config(previous.config());
            let seen = watched.look().await;
            (Err(Rejected::Defect), watched, seen)
        }
        Err(error) => {
            let watched = Watched::of_config(previous.config());
            (Err(Rejected::Thread(error)), watched, Fingerprint::new())
        }
    }
}

async fn build(config: Config, previous: &Arc<Snapshot>) -> Result<Snapshot, Rejected> {
    let before = Arc::clone(previous);
    // On a thread like any other: the one that writes the log would inherit a low priority.
    let opening = tokio::task::spawn_blocking(move || {
        let log = snapshot::access_log(&config, Some(&before), before.metrics());
        (config, log)
    });
    let (config, log) = opening.await.map_err(|_| Rejected::Defect)?;
    let log = log?;
    let before = Arc::clone(previous);
    let building = process::in_background("reload", move || {
        Snapshot::build(config, Some(&before), before.metrics(), log)
    });
    let built = building.await.map_err(Rejected::Thread)?;
    Ok(built.ok_or(Rejected::Defect)??)
}

#[derive(Debug, thiserror::Error)]
enum Rejected {
    #[error("{0}")]
    Diagnostics(Box<Diagnostics>),
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error("no thread to load it on: {0}")]
    Thread(io::Error),
    #[error("loading it panicked, which is a defect of the gateway")]
    Defect,
}

impl From<Diagnostics> for Rejected {
    fn from(diagnostics: Diagnostics) -> Self {
        Self::Diagnostics(Box::new(diagnostics))
    }
}

fn log_rejection(diagnostic: &Diagnostic) {
    tracing::error!(
        file = %diagnostic.file.display(),
        line = diagnostic.line,
        column = diagnostic.column,
        code = diagnostic.code,
        reason = diagnostic.message,
        "configuration rejected; the one before stays in force"
    );
}

/// Tells what is suspicious in a configuration in force, which policy files are held back, and what
/// the system has too little of.
pub(crate) fn report_config(config: &Config) {
    for warning in &config.warnings {
        tracing::warn!(
            file = %warning.file.display(),
            line = warning.line,
            column = warning.column,
            code = warning.code,
            reason = warning.message,
            "suspicious configuration"
        );
    }
    for file in &config.policy_files {
        for diagnostic in file.pinned.iter().flatten() {
            tracing::warn!(
                file = %diagnostic.file.display(),
                line = diagnostic.line,
                column = diagnostic.column,
                code = diagnostic.code,
                reason = diagnostic.message,
                policy_file = %file.path.display(),
                owner = file.owner,
                "policy file held at its last good content"
            );
        }
    }
    process::report_descriptors(config);
}

/// Sockets are bound at the start: what has moved is told, and everything else is in force.
fn report_unbound(gateway: &Gateway, config: &Config) {
    for listener in &config.listeners {
        let bound = gateway
            .listeners()
            .iter()
            .find(|bound| *bound.name == *listener.name);
        let is_same = bound.is_some_and(|bound| {
            bound.configured == listener.address && bound.tls == listener.tls.is_some()
        });
        if !is_same {
            tracing::warn!(
                portcullis.listener = listener.name,
                server.address = %listener.address,
                "a listener's address, and whether it speaks TLS, change with a restart only; one that has lost its TLS refuses connections until then"
            );
        }
    }
    for bound in gateway.listeners() {
        if !config
            .listeners
            .iter()
            .any(|listener| *listener.name == *bound.name)
        {
            tracing::warn!(
                portcullis.listener = &*bound.name,
                server.address = %bound.address,
                "a listener that was removed goes with a restart only; one with TLS refuses connections until then"
            );
        }
    }
}

/// The files whose change makes a new generation.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Watched {
    files: BTreeSet<PathBuf>,
    patterns: BTreeSet<String>,
}

/// What distinguishes one state of the files from another.
pub(crate) type Fingerprint = Vec<(PathBuf, Option<[i64; 7]>)>;

impl Watched {
    fn of_config(config: &Config) -> Self {
        Self {
            files: config.watched_files.iter().cloned().collect(),
            patterns: config.watched_patterns.iter().cloned().collect(),
        }
    }

    /// Also what a configuration that was refused names.
    fn and(mut self, refused: &Diagnostics) -> Self {
        self.files.extend(refused.watched_files().iter().cloned());
        self.patterns
            .extend(refused.watched_patterns().iter().cloned());
        self
    }

    async fn look(&self) -> Fingerprint {
        let watched = self.clone();
        tokio::task::spawn_blocking(move || watched.fingerprint())
            .await
            .unwrap_or_default()
    }

    fn fingerprint(&self) -> Fingerprint {
        let mut files = self.files.clone();
        for pattern in &self.patterns {
            if let Ok(matches) = glob::glob(pattern) {
                files.extend(matches.flatten());
            }
        }
        files
            .into_iter()
            .map(|path| {
                // Links are followed: what they lead to is what counts.
                let stamp = fs::metadata(&path).ok().map(|found| {
                    [
                        found.dev().cast_signed(),
                        found.ino().cast_signed(),
                        found.size().cast_signed(),
                        found.mtime(),
                        found.mtime_nsec(),
                        found.ctime(),
                        found.ctime_nsec(),
                    ]
                });
                (path, stamp)
            })
            .collect()
    }

    /// Waits until nothing has changed for a moment: an editor may be in the middle of writing.
    async fn until_calm(&self, mut last: Fingerprint) {
        for _ in 0..MAX_LOOKS_FOR_CALM {
            sleep(CALM).await;
            let now = self.look().await;
            if now == last {
                return;
            }
            last = now;
        }
    }
}
