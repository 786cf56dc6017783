//! Which requests the owner of a held file wants to be answered otherwise.

use portcullis_policy::{Access, Host, MethodSet, PathPattern, Route, RouteId};

use super::{Candidate, Content, New};
use crate::document;
use crate::node::Node;

/// More cuts in one line than this are not tried.
const MAX_CUTS: usize = 64;
/// Longer lines than this are not looked through.
const MAX_LINE_BYTES: usize = 8 * 1024;

/// The touched routes of a held file.
#[derive(Debug)]
pub(super) enum Footprint {
    Routes(Vec<Route>),
    /// Nothing of the new content is known.
    Everything,
}

impl Footprint {
    /// What `candidate`, which is held, would have changed.
    pub(super) fn of(candidate: &Candidate) -> Self {
        let old = candidate
            .old
            .as_ref()
            .map(written_routes)
            .unwrap_or_default();
        match &candidate.new {
            New::Removed => Self::Routes(resolved(&old)),
            New::Unreadable(_) => Self::Everything,
            New::Content(content) => match legible_routes(content) {
                Legible::All(new) => {
                    let dropped = old.iter().filter(|route| !new.contains(route)).copied();
                    let added = new.iter().filter(|route| !old.contains(route)).copied();
                    Self::Routes(resolved(&dropped.chain(added).collect::<Vec<_>>()))
                }
                Legible::Matches(routes) => {
                    Self::Routes(resolved(&old).into_iter().chain(routes).collect())
                }
                Legible::Text => match written_paths(&content.text) {
                    Some(paths) => {
                        let anywhere = paths.into_iter().map(|path| route("?", None, path));
                        Self::Routes(resolved(&old).into_iter().chain(anywhere).collect())
                    }
                    None => Self::Everything,
                },
            },
        }
    }

    /// The touched route that overlaps `moving`, in the words of a message.
    pub(super) fn touched_by(&self, moving: &Route) -> Option<String> {
        match self {
            Self::Everything => Some("any route".to_owned()),
            Self::Routes(routes) => routes
                .iter()
                .find(|route| route.can_be_mistaken_for(moving))
                .map(|route| match &*route.name {
                    "?" => format!("a route on `{}`", route.path),
                    name => format!("route `{name}`"),
                }),
        }
    }
}

/// How much of a content can be read.
enum Legible<'a> {
    /// All of it.
    All(Vec<&'a document::Route>),
    /// Of each route, which requests it is for.
    Matches(Vec<Route>),
    /// Not enough to know where its routes are.
    Text,
}

fn written_routes(content: &Content) -> Vec<&document::Route> {
    let document = content
        .source
        .read
        .as_ref()
        .and_then(|read| read.document.as_ref());
    document
        .map(|document| document.routes.iter().collect())
        .unwrap_or_default()
}

fn legible_routes(content: &Content) -> Legible<'_> {
    let Some(read) = content
        .source
        .read
        .as_ref()
        .filter(|read| !read.source.is_partial)
    else {
        return Legible::Text;
    };
    let is_whole = read.document.is_some() && read.left_out.is_empty();
    let routes = written_routes(content);
    if is_whole && routes.iter().all(|route| resolve(route).is_some()) {
        return Legible::All(routes);
    }
    // A key at the top that is not known may be `routes`, misspelt.
    let Node::Mapping(entries) = &read.source.node else {
        return Legible::Text;
    };
    if entries
        .iter()
        .any(|(key, _)| !matches!(key.as_str(), "owner" | "scopes" | "routes"))
    {
        return Legible::Text;
    }
    let elements = match read.source.node.get("routes") {
        None => &[],
        Some(Node::List(elements)) => elements.as_slice(),
        Some(_) => return Legible::Text,
    };
    elements
        .iter()
        .map(legible_match)
        .collect::<Option<Vec<_>>>()
        .map_or(Legible::Text, Legible::Matches)
}

/// Which requests a route is for, where no more of it may be readable.
fn legible_match(element: &Node) -> Option<Route> {
    let Node::Mapping(entries) = element.get("match")? else {
        return None;
    };
    let (mut host, mut path) = (None, None);
    for (key, value) in entries {
        match key.as_str() {
            "host" => host = Some(value.as_str()?.parse::<Host>().ok()?),
            "path" => path = Some(value.as_str()?.parse::<PathPattern>().ok()?),
            "methods" => {}
            // It may be `host`, misspelt; but also `path`.
            _ => return None,
        }
    }
    let name = element.get("name").and_then(Node::as_str).unwrap_or("?");
    Some(route(name, host, path?))
}

fn resolved(routes: &[&document::Route]) -> Vec<Route> {
    routes.iter().filter_map(|route| resolve(route)).collect()
}

fn resolve(written: &document::Route) -> Option<Route> {
    let host = written
        .r#match
        .host
        .as_ref()
        .map(|host| host.parse::<Host>())
        .transpose()
        .ok()?;
    Some(route(
        &written.name,
        host,
        written.r#match.path.parse().ok()?,
    ))
}

/// A route of which only what it matches is asked for.
fn route(name: &str, host: Option<Host>, path: PathPattern) -> Route {
    Route {
        id: RouteId::from_index(0),
        name: name.into(),
        owner: "".into(),
        host,
        path,
        methods: MethodSet::ALL,
        access: Access::Public,
    }
}

/// Every path pattern that is written in `text`, whatever else is wrong with it; `None` when there
/// may be one that cannot be seen. Some that nobody meant are among them.
fn written_paths(text: &str) -> Option<Vec<PathPattern>> {
    // In double quotes, `\x2f` would be a slash.
    if text.contains('\\') {
        return None;
    }
    let mut paths = Vec::new();
    // Brackets that are open where a line begins.
    let mut open: i64 = 0;
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.len() > MAX_LINE_BYTES {
            return None;
        }
        let next = lines.peek().copied();
        for (start, _) in line.match_indices('/') {
            let (before, rest) = line.split_at(start);
            // Within a path, or in an address.
            if before.ends_with(|c: char| {
                !c.is_whitespace()
                    && !matches!(c, '"' | '\'' | '{' | '[' | ',' | ':' | '&' | '*' | '!')
            }) {
                continue;
            }
            if rest.starts_with("//") {
                continue;
            }
            let is_in_brackets = open + brackets(before) > 0;
            // Two single quotes stand for one.
            if rest.contains("''") || goes_on(before, rest, is_in_brackets, next) {
                return None;
            }
            paths.extend(patterns_at(rest)?);
        }
        open += brackets(line);
    }
    Some(paths)
}

/// How many more brackets `text` opens than it closes.
fn brackets(text: &str) -> i64 {
    text.chars()
        .map(|c| match c {
            '{' | '[' => 1,
            '}' | ']' => -1,
            _ => 0,
        })
        .sum()
}

/// Whether the scalar that `rest` begins with, or that it belongs to, may go on in the `next` line: YAML
/// puts a space in between.
fn goes_on(before: &str, rest: &str, is_in_brackets: bool, next: Option<&str>) -> bool {
    let mut bare = String::new();
    let mut is_parameter = false;
    for c in rest.chars() {
        match c {
            '{' => is_parameter = true,
            '}' if is_parameter => is_parameter = false,
            c if !is_parameter => bare.push(c),
            _ => {}
        }
    }
    if bare.contains(['"', '\'', '#']) {
        return false;
    }
    let is_quoted = before.trim_end().ends_with(['"', '\'']);
    // Of a scalar that has begun in an earlier line, or in a block.
    let begins_line = before.trim_start_matches([' ', '-']).is_empty();
    if is_quoted || begins_line {
        return true;
    }
    if is_in_brackets {
        return !bare.contains([',', '}', ']']);
    }
    let depth = |line: &str| line.len() - line.trim_start_matches([' ', '-']).len();
    next.is_some_and(|next| !next.trim().is_empty() && depth(next) > depth(before))
}

/// The patterns that `text` could begin with: where a path ends depends on what is around it.
fn patterns_at(text: &str) -> Option<Vec<PathPattern>> {
    let ends = text.match_indices(|c: char| {
        c.is_whitespace() || matches!(c, '"' | '\'' | ',' | '}' | ']' | '#' | ':')
    });
    let mut ends: Vec<usize> = ends.map(|(end, _)| end).collect();
    ends.push(text.len());
    if ends.len() > MAX_CUTS {
        return None;
    }
    let patterns: Vec<PathPattern> = ends
        .into_iter()
        .filter_map(|end| text.get(..end))
        .filter_map(|path| path.trim_end().parse().ok())
        .collect();
    // It begins as a path and is none: it may be anything below what can be read.
    if patterns.is_empty() {
        None
    } else {
        Some(patterns)
    }
}
