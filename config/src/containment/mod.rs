//! Reloading: one team's broken policy file holds back its own team only.
//!
//! A bad `portcullis.yaml` changes nothing. A policy file whose new content is bad, by itself or
//! because it clashes with others, is *held* at its last good content while the other files move
//! on. Files are written to fit each other, though, and a mix of old and new ones is something that
//! nobody wrote. The promise is that **no mix admits what neither version admits**, and this is the
//! argument for it.
//!
//! Which route answers a request depends on the routes that match its host and path, and on nothing
//! else. Of a held file, call *touched* every route that differs between the content it keeps and
//! the content that its owner wants. Of the whole configuration, call *moving* every route that
//! differs between the generation that serves and the one that would: in what it matches, in who
//! may call, in the upstream or the issuers that its names mean; and every route, where a listener
//! demands less of its callers' certificates than it did. The rule is that no moving route
//! overlaps a touched one, that is, no host and path matches both. Take any request, then:
//!
//! - No moving route matches its host and path. All routes that match are as they were, so the
//!   answer is that of the old version.
//! - A moving route matches. Then no touched route does, in neither content: the routes of held
//!   files that match are the same in both versions, and all others are new. The answer is that of
//!   the new version.
//!
//! A file with a moving route that overlaps a touched one is therefore held too, which may touch
//! further routes, until nothing changes any more. Where the route moves though its own file does
//! not, `portcullis.yaml` moves it, and the whole generation is refused.
//!
//! New content that cannot be read in full still says something: it is taken to touch all routes of
//! its old content and every path that is written anywhere in it, on any host (see `footprint`).
//! Content of which nothing can be read touches everything. That errs on the safe side: it holds
//! back more, and admits nobody.
//!
//! One difference does not count as moving: an issuer that a route no longer accepts. The answer is
//! then that of the old version, or a refusal; and an issuer that was broken into can be removed at
//! any time.

mod footprint;
mod movement;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{Config, PolicyFile};
use crate::diagnostic::{Conflict, Diagnostic, Diagnostics, Place, codes};
use crate::generation::{Base, assemble, read_text};
use crate::node::{Node, node_path};
use crate::resolve::policies::{Policies, PolicySource, policies};
use footprint::Footprint;
use movement::Movement;

/// Loads `portcullis.yaml` at `path` again, for a gateway that serves `previous`.
///
/// Policy files that are held at their content in `previous` have the reason in
/// [`PolicyFile::pinned`]. A new file that is bad has no such content; it is left out, with an empty
/// text.
///
/// # Errors
/// When `previous` has to go on as it is: `portcullis.yaml` is bad, or it does not fit policy files
/// that have to be held.
pub fn reload(path: &Path, previous: &Config) -> Result<Config, Diagnostics> {
    let base = Base::load(path)?;
    if base.diagnostics.iter().any(Diagnostic::is_error) {
        return Err(base.platform.refuse(base.diagnostics));
    }
    let mut reload = Reload {
        candidates: candidates(&base.platform.policy_paths, previous),
        base,
        previous,
    };
    reload.hold_bad_content();
    let (policies, warnings) = reload.settle()?;
    let Reload {
        candidates, base, ..
    } = reload;
    let mut diagnostics = base.diagnostics;
    diagnostics.extend(warnings);
    let (policies, files) = finish(policies, candidates);
    assemble(base.platform, policies, files, diagnostics)
}

/// A policy file on its way from one generation to the next.
#[derive(Debug)]
struct Candidate {
    path: PathBuf,
    /// The content that serves.
    old: Option<Content>,
    new: New,
    /// Why the old content has to stay.
    held: Option<Vec<Diagnostic>>,
}

#[derive(Debug)]
struct Content {
    text: Arc<str>,
    source: PolicySource,
}

#[derive(Debug)]
enum New {
    Content(Box<Content>),
    Removed,
    Unreadable(Box<Diagnostic>),
}

impl Content {
    fn parse(path: &Path, text: Arc<str>) -> Self {
        Self {
            source: PolicySource::parse(path, Arc::clone(&text)),
            text,
        }
    }
}

impl Candidate {
    /// The content of the next generation.
    fn chosen(&self) -> Option<&Content> {
        match (&self.held, &self.new) {
            (None, New::Content(content)) => Some(content),
            (None, New::Removed | New::Unreadable(_)) => None,
            (Some(_), _) => self.old.as_ref(),
        }
    }

    /// Whether the next generation has a content that the previous one had not.
    fn moves(&self) -> bool {
        self.held.is_none() && self.differs()
    }

    fn differs(&self) -> bool {
        match (&self.old, &self.new) {
            (Some(old), New::Content(new)) => old.text != new.text,
            (None, New::Removed) => false,
            (_, New::Removed | New::Unreadable(_)) | (None, New::Content(_)) => true,
        }
    }

    fn hold(&mut self, why: impl IntoIterator<Item = Diagnostic>) {
        self.held.get_or_insert_default().extend(why);
    }

    /// Where the route `name` is in the new content.
    fn place_of_route(&self, name: &str) -> Place {
        let New::Content(content) = &self.new else {
            return Place::START;
        };
        let Some(read) = &content.source.read else {
            return Place::START;
        };
        let routes = read
            .source
            .node
            .get("routes")
            .map(Node::elements)
            .unwrap_or_default();
        let index = routes
            .iter()
            .position(|route| route.get("name").and_then(Node::as_str) == Some(name));
        index.map_or(Place::START, |index| {
            read.source.place_of(&node_path!["routes", index, "name"])
        })
    }

    fn owner(&self) -> &str {
        let new = match &self.new {
            New::Content(content) => Some(content.source.owner()),
            New::Removed | New::Unreadable(_) => None,
        };
        let old = self.old.as_ref().map(|content| content.source.owner());
        new.filter(|owner| !owner.is_empty())
            .or(old)
            .unwrap_or_default()
    }
}

/// Every file that is in the previous or in the next generation.
fn candidates(paths: &[PathBuf], previous: &Config) -> Vec<Candidate> {
    let mut old: BTreeMap<&Path, &PolicyFile> = previous
        .policy_files
        .iter()
        .map(|file| (file.path.as_path(), file))
        .collect();
    let old_content = |file: Option<&PolicyFile>| {
        // A file that was bad when it was new was left out, and has no content yet.
        let file = file.filter(|file| !file.text.is_empty())?;
        Some(Content::parse(&file.path, Arc::clone(&file.text)))
    };
    let mut candidates: Vec<Candidate> = Vec::new();
    for path in paths {
        let new = match read_text(path) {
            Ok(text) => New::Content(Box::new(Content::parse(path, text))),
            Err(error) => New::Unreadable(error),
        };
        let old = old_content(old.remove(path.as_path()));
        candidates.push(Candidate {
            path: path.clone(),
            old,
            new,
            held: None,
        });
    }
    for file in old.into_values() {
        let old = old_content(Some(file));
        candidates.push(Candidate {
            path: file.path.clone(),
            old,
            new: New::Removed,
            held: None,
        });
    }
    candidates
}

#[derive(Debug)]
struct Reload<'a> {
    candidates: Vec<Candidate>,
    base: Base,
    previous: &'a Config,
}

impl Reload<'_> {
    /// Content that is wrong whatever the other files say.
    fn hold_bad_content(&mut self) {
        for candidate in &mut self.candidates {
            let errors: Vec<_> = match &candidate.new {
                New::Content(content) => content
                    .source
                    .diagnostics
                    .iter()
                    .filter(|error| error.is_error())
                    .cloned()
                    .collect(),
                New::Unreadable(error) => vec![Diagnostic::clone(error)],
                New::Removed => continue,
            };
            if !errors.is_empty() {
                candidate.hold(errors);
            }
        }
    }

    /// Holds files until what is left fits together and exposes nothing.
    fn settle(&mut self) -> Result<(Policies, Vec<Diagnostic>), Diagnostics> {
        // Each turn holds at least one more file.
        loop {
            let (policies, diagnostics) = self.resolve(&[]);
            let (errors, warnings): (Vec<_>, Vec<_>) =
                diagnostics.into_iter().partition(Diagnostic::is_error);
            if !errors.is_empty() {
                self.blame(errors)?;
                continue;
            }
            let collisions = self.collisions(&policies);
            if collisions.is_empty() {
                return Ok((policies, warnings));
            }
            self.hold_back(collisions)?;
        }
    }

    /// Resolves the chosen content of all files, with `also_held` held too.
    fn resolve(&self, also_held: &[usize]) -> (Policies, Vec<Diagnostic>) {
        let contents = self
            .candidates
            .iter()
            .enumerate()
            .filter_map(|(index, candidate)| {
                let content = if also_held.contains(&index) {
                    candidate.old.as_ref()
                } else {
                    candidate.chosen()
                };
                Some((index, &content?.source))
            });
        policies(&self.base.surroundings, &contents.collect::<Vec<_>>())
    }

    /// Holds the files whose change is the reason of `errors`.
    fn blame(&mut self, errors: Vec<Diagnostic>) -> Result<(), Diagnostics> {
        let mut is_blamed = false;
        for error in errors.iter().filter(|error| error.conflict.is_none()) {
            if let Some(candidate) = self
                .candidates
                .iter_mut()
                .find(|it| it.path == error.file && it.differs())
            {
                is_blamed |= candidate.held.is_none();
                candidate.hold([error.clone()]);
            }
        }
        if is_blamed {
            return Ok(());
        }
        for error in &errors {
            let Some(conflict) = &error.conflict else {
                continue;
            };
            let guilty = self.guilty(error, conflict);
            if guilty.is_empty() {
                continue;
            }
            for index in guilty {
                if let Some(candidate) = self.candidates.get_mut(index) {
                    candidate.hold([error.clone()]);
                }
            }
            return Ok(());
        }
        Err(self.refuse(errors))
    }

    /// The files whose change makes a conflict: without it, the conflict is gone. Where each of two
    /// files could end it alone, both are held, so that none of them gets its way by haste.
    fn guilty(&self, error: &Diagnostic, conflict: &Conflict) -> Vec<usize> {
        let moving: Vec<usize> = self
            .candidates
            .iter()
            .enumerate()
            .filter(|(_, it)| it.moves())
            .map(|(index, _)| index)
            .collect();
        let ends_it = |index: &usize| {
            let (_, diagnostics) = self.resolve(&[*index]);
            !diagnostics.iter().any(|other| {
                other.code == error.code
                    && other
                        .conflict
                        .as_ref()
                        .is_some_and(|it| it.subject == conflict.subject)
            })
        };
        let is_party = |index: &usize| {
            let path = self.candidates.get(*index).map(|candidate| &candidate.path);
            path == Some(&error.file) || (path.is_some() && path == conflict.other.as_ref())
        };
        let (parties, others): (Vec<usize>, Vec<usize>) =
            moving.iter().copied().partition(is_party);
        for suspects in [&parties, &others] {
            let guilty: Vec<usize> = suspects.iter().copied().filter(ends_it).collect();
            if !guilty.is_empty() {
                return guilty;
            }
        }
        if parties.is_empty() { others } else { parties }
    }

    /// Moving routes that overlap touched ones.
    fn collisions(&self, policies: &Policies) -> Vec<Collision> {
        let footprints: Vec<_> = self
            .candidates
            .iter()
            .enumerate()
            .filter(|(_, candidate)| candidate.held.is_some())
            .map(|(index, candidate)| (index, Footprint::of(candidate)))
            .collect();
        if footprints.is_empty() {
            return Vec::new();
        }
        let movement = Movement::new(self.previous, &self.base.platform);
        let mut collisions = Vec::new();
        for (index, candidate) in self.candidates.iter().enumerate() {
            for moving in movement.of_file(&candidate.path, index, policies) {
                let touching = footprints
                    .iter()
                    .find_map(|(held, footprint)| Some((*held, footprint.touched_by(&moving)?)));
                if let Some((held, touched)) = touching {
                    collisions.push(Collision {
                        index,
                        moving: moving.name.to_string(),
                        held,
                        touched,
                    });
                    break;
                }
            }
        }
        collisions
    }

    fn hold_back(&mut self, collisions: Vec<Collision>) -> Result<(), Diagnostics> {
        let mut immovable = Vec::new();
        for collision in collisions {
            let held = self.candidates.get(collision.held);
            let (held, owner) = held.map_or_else(Default::default, |it| {
                (it.path.display().to_string(), it.owner().to_owned())
            });
            let Collision {
                moving, touched, ..
            } = &collision;
            let help = format!("put `{held}` of `{owner}` right; then both are loaded");
            let Some(candidate) = self.candidates.get_mut(collision.index) else {
                continue;
            };
            if candidate.moves() {
                let message = format!(
                    "this change waits: route `{moving}` matches requests of {touched} in `{held}`, which is held at its last good content"
                );
                let error = Diagnostic::error(
                    codes::HELD_BACK,
                    &candidate.path,
                    candidate.place_of_route(moving),
                    message,
                );
                candidate.hold([error.with_help(help)]);
            } else {
                let message = format!(
                    "this change waits: it changes what route `{moving}` means, which matches requests of {touched} in `{held}`, which is held at its last good content"
                );
                let error = Diagnostic::error(
                    codes::HELD_BACK,
                    &self.base.platform.path,
                    Place::START,
                    message,
                );
                immovable.push(error.with_help(help));
            }
        }
        if immovable.is_empty() {
            Ok(())
        } else {
            Err(self.refuse(immovable))
        }
    }

    /// All that is wrong, when the previous generation has to stay.
    fn refuse(&self, errors: Vec<Diagnostic>) -> Diagnostics {
        let held = self
            .candidates
            .iter()
            .filter_map(|candidate| candidate.held.as_ref())
            .flatten()
            .cloned();
        self.base
            .platform
            .refuse(errors.into_iter().chain(held).collect())
    }
}

/// A route that would move and one that is touched, by the numbers of their files.
#[derive(Debug)]
struct Collision {
    index: usize,
    moving: String,
    held: usize,
    /// In the words of a message.
    touched: String,
}

/// The files of the next generation, and the routes with the numbers that these have there.
fn finish(mut policies: Policies, candidates: Vec<Candidate>) -> (Policies, Vec<PolicyFile>) {
    let mut numbers = BTreeMap::new();
    let mut files = Vec::new();
    for (index, candidate) in candidates.into_iter().enumerate() {
        if candidate.held.is_none() && matches!(candidate.new, New::Removed) {
            continue;
        }
        numbers.insert(index, files.len());
        files.push(PolicyFile {
            owner: candidate.owner().to_owned(),
            text: candidate
                .chosen()
                .map_or_else(|| "".into(), |content| Arc::clone(&content.text)),
            pinned: candidate
                .held
                .map(|held| Diagnostics::from(held).into_iter().collect()),
            path: candidate.path,
        });
    }
    for route in &mut policies.routes {
        route.file = numbers.get(&route.file).copied().unwrap_or(route.file);
    }
    (policies, files)
}
