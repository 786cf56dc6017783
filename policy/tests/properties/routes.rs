//! The route table against a list of routes that is searched from end to end.

use std::sync::Arc;

use portcullis_policy::*;
use proptest::prelude::*;
use proptest::sample::select;

use crate::cases;

#[derive(Debug, Clone)]
struct NaiveRoute {
    host: Option<&'static str>,
    pattern: String,
    methods: MethodSet,
    /// The scope that is needed; `None` is public.
    scope: Option<&'static str>,
}

#[derive(Debug, Clone)]
struct NaiveRequest {
    host: Option<&'static str>,
    segments: Vec<&'static str>,
    has_trailing_slash: bool,
    method: Option<Method>,
}

proptest! {
    #![proptest_config(cases(1024))]

    #[test]
    fn the_table_finds_what_a_search_of_all_routes_finds_in_whatever_order_they_stand(
        routes in prop::collection::vec(route(), 0..12),
        requests in prop::collection::vec(request(), 1..12),
    ) {
        let conflicts: Vec<(usize, usize)> = (0..routes.len())
            .flat_map(|later| (0..later).map(move |earlier| (earlier, later)))
            .filter(|(earlier, later)| conflict(&routes[*earlier], &routes[*later]))
            .collect();
        let found = match RouteTable::new(built(&routes)) {
            Ok(_) => Vec::new(),
            Err(conflicts) => conflicts
                .iter()
                .map(|conflict| (conflict.first.index(), conflict.second.index()))
                .collect(),
        };
        prop_assert_eq!(found, conflicts);

        let mut kept: Vec<NaiveRoute> = Vec::new();
        for route in routes {
            if !kept.iter().any(|earlier| conflict(earlier, &route)) {
                kept.push(route);
            }
        }
        let table = RouteTable::new(built(&kept)).unwrap();
        let reversed = RouteTable::new(built(&kept).into_iter().rev()).unwrap();
        for request in requests {
            let expected = search(&kept, &request);
            prop_assert_eq!(find(&table, &request), expected.clone(), "{:?}", request);
            prop_assert_eq!(find(&reversed, &request), expected, "{:?} reversed", request);
        }
    }

    #[test]
    fn the_index_of_paths_finds_what_a_look_at_all_of_them_finds(
        routes in prop::collection::vec(route(), 1..12),
    ) {
        let routes: Vec<Arc<Route>> = routes
            .into_iter()
            .map(|route| NaiveRoute { host: None, ..route })
            .enumerate()
            .map(|(index, route)| build(index, &route))
            .collect();
        let index = PathIndex::new(routes.iter().map(|route| (&route.path, route.id.index())));
        for route in &routes {
            let near: Vec<usize> = index.near(&route.path).into_iter().copied().collect();
            let expected: Vec<usize> = routes
                .iter()
                .filter(|other| route.can_be_mistaken_for(other))
                .map(|other| other.id.index())
                .collect();
            prop_assert_eq!(near, expected, "{}", route.path);
        }
    }
}

fn built(routes: &[NaiveRoute]) -> Vec<Arc<Route>> {
    let numbered = routes.iter().enumerate();
    numbered.map(|(index, route)| build(index, route)).collect()
}

fn build(index: usize, route: &NaiveRoute) -> Arc<Route> {
    let registry = ScopeRegistry::new(["read", "write"].map(|scope| scope.parse().unwrap()));
    let access = match route.scope {
        None => Access::Public,
        Some(scope) => Access::Protected(Requirement {
            scopes: RequiredScopes::all(&registry, &[scope.parse().unwrap()]).unwrap(),
            issuers: None,
        }),
    };
    Arc::new(Route {
        id: RouteId::from_index(index),
        name: format!("r{index}").into(),
        owner: "team".into(),
        host: route.host.map(|host| host.parse().unwrap()),
        path: route.pattern.parse().unwrap(),
        methods: route.methods,
        access,
    })
}

fn find(table: &RouteTable, request: &NaiveRequest) -> Result<usize, Denial> {
    let host = request.host.map(|host| Host::from_authority(host).unwrap());
    let mut path = format!("/{}", request.segments.join("/"));
    if request.has_trailing_slash && !request.segments.is_empty() {
        path.push('/');
    }
    let request = Request {
        method: request.method,
        host: host.as_ref(),
        path: RequestPath::parse(&path).unwrap(),
    };
    table.find(&request).map(|route| route.id.index())
}

/// The documented order: an exact host before any host; then, segment by segment, a literal before
/// `{name}` before `{*rest}`; then the method.
fn search(routes: &[NaiveRoute], request: &NaiveRequest) -> Result<usize, Denial> {
    let owners = owners(routes, request, decoded, End::Either);
    let Some(owner) = owners.first() else {
        return Err(Denial::RouteNotFound);
    };
    let mut others: Vec<Comparison> = vec![decoded, folded];
    if request.segments.iter().any(|segment| segment.contains('%')) {
        others.extend([reserved, reserved_folded, raw, raw_folded] as [Comparison; 4]);
    }
    for compare in &others {
        let theirs = self::owners(routes, request, *compare, End::Either);
        if !theirs.is_empty() && theirs != owners {
            return Err(Denial::PathAmbiguous);
        }
    }
    // A slash at the end, or the lack of it.
    let length = request.segments.len();
    let has_slash = request.has_trailing_slash && length > 0;
    let has_no_rest = length > 0 && segments(&routes[*owner].pattern).count() > length;
    let access = |owners: &[usize]| {
        let mut owners = owners.iter().map(|index| &routes[*index]);
        let is_for =
            |route: &&NaiveRoute| request.method.is_some_and(|it| route.methods.contains(it));
        owners.find(is_for).map(|route| route.scope)
    };
    for (end, may_be) in [
        (End::Slash, has_slash),
        (End::Nothing, has_slash || has_no_rest),
    ] {
        for compare in others.iter().filter(|_| may_be) {
            let theirs = access(&self::owners(routes, request, *compare, end));
            if let (Some(Some(needed)), Some(judged)) = (theirs, access(&owners))
                && judged != Some(needed)
            {
                return Err(Denial::PathAmbiguous);
            }
        }
    }
    // What follows a dot may be a format, unless the route has it in writing.
    let is_written = segments(&routes[*owner].pattern)
        .nth(length.wrapping_sub(1))
        .is_some_and(|segment| !segment.starts_with('{'));
    let last = request.segments.last().copied().unwrap_or_default();
    for (dot, _) in last.match_indices('.').filter(|_| !is_written) {
        // Whatever else is decoded, this may have been.
        let stem = match &last[..dot] {
            "%61" => "a",
            stem => stem,
        };
        let mut segments = request.segments.clone();
        segments[length - 1] = stem;
        let shorter = NaiveRequest {
            segments,
            ..request.clone()
        };
        for compare in &others {
            let theirs = access(&self::owners(routes, &shorter, *compare, End::Either));
            if let (Some(Some(needed)), Some(judged)) = (theirs, access(&owners))
                && judged != Some(needed)
            {
                return Err(Denial::PathAmbiguous);
            }
        }
    }
    let mut owners = owners.into_iter().map(|index| (index, &routes[index]));
    let allow = owners
        .clone()
        .flat_map(|(_, route)| route.methods.iter())
        .collect();
    owners
        .find(|(_, route)| {
            request
                .method
                .is_some_and(|method| route.methods.contains(method))
        })
        .map(|(index, _)| index)
        .ok_or(Denial::MethodNotAllowed { allow })
}

/// How well a literal is what was presented, to a kind of service.
type Comparison = fn(&str, &str) -> Option<u8>;

fn exact(literal: &str, presented: &str) -> Option<u8> {
    (literal == presented).then_some(3)
}

fn in_any_case(literal: &str, presented: &str) -> Option<u8> {
    let is_same = literal.eq_ignore_ascii_case(presented).then_some(2);
    exact(literal, presented).or(is_same)
}

fn decode(presented: &str) -> String {
    presented.replace("%61", "a").replace("%40", "@")
}

fn decoded(literal: &str, presented: &str) -> Option<u8> {
    exact(literal, &decode(presented))
}

fn folded(literal: &str, presented: &str) -> Option<u8> {
    in_any_case(literal, &decode(presented))
}

fn reserved(literal: &str, presented: &str) -> Option<u8> {
    exact(literal, &presented.replace("%61", "a"))
}

fn reserved_folded(literal: &str, presented: &str) -> Option<u8> {
    in_any_case(literal, &presented.replace("%61", "a"))
}

fn raw(literal: &str, presented: &str) -> Option<u8> {
    exact(literal, presented)
}

fn raw_folded(literal: &str, presented: &str) -> Option<u8> {
    in_any_case(literal, presented)
}

/// What a pattern may make of a path that is used up.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Either,
    /// Something is left for `{*rest}`.
    Slash,
    /// Nothing is left for `{*rest}`, which wants something.
    Nothing,
}

/// Routes of the most specific pattern that a request belongs to.
fn owners(
    routes: &[NaiveRoute],
    request: &NaiveRequest,
    compare: Comparison,
    end: End,
) -> Vec<usize> {
    let specificities: Vec<_> = routes
        .iter()
        .map(|route| specificity(route, request, compare, end))
        .collect();
    let best = specificities.iter().flatten().max();
    (0..routes.len())
        .filter(|index| best.is_some() && specificities[*index].as_ref() == best)
        .collect()
}

/// `None` where the request is not the route's. Greater is more specific.
fn specificity(
    route: &NaiveRoute,
    request: &NaiveRequest,
    compare: Comparison,
    end: End,
) -> Option<(bool, Vec<u8>)> {
    if route.host.is_some() && route.host != request.host {
        return None;
    }
    let mut ranks = Vec::new();
    let mut remaining = request.segments.iter();
    for segment in segments(&route.pattern) {
        if segment.starts_with("{*") {
            ranks.push(0);
            let is_nothing = remaining.next().is_none();
            return (!is_nothing || end != End::Nothing).then_some((route.host.is_some(), ranks));
        }
        let presented = remaining.next()?;
        if segment.starts_with('{') {
            ranks.push(1);
        } else {
            ranks.push(compare(segment, presented)?);
        }
    }
    // That the path ends here is as exact as a literal.
    ranks.push(3);
    let is_end = remaining.next().is_none() && end != End::Slash;
    is_end.then_some((route.host.is_some(), ranks))
}

fn conflict(one: &NaiveRoute, other: &NaiveRoute) -> bool {
    let shape = |pattern: &str| -> Vec<String> {
        let kind = |segment: &str| match segment.get(..2) {
            Some("{*") => "{*".to_owned(),
            Some(start) if start.starts_with('{') => "{".to_owned(),
            _ => segment.to_owned(),
        };
        segments(pattern).map(kind).collect()
    };
    one.host == other.host
        && shape(&one.pattern) == shape(&other.pattern)
        && one
            .methods
            .iter()
            .any(|method| other.methods.contains(method))
}

fn segments(pattern: &str) -> impl Iterator<Item = &str> {
    pattern.split('/').filter(|segment| !segment.is_empty())
}

fn host() -> impl Strategy<Value = Option<&'static str>> {
    select(vec![None, Some("a.example"), Some("b.example")])
}

fn method() -> impl Strategy<Value = Method> {
    select(vec![Method::Get, Method::Post, Method::Delete])
}

fn route() -> impl Strategy<Value = NaiveRoute> {
    let segment = select(vec!["a", "b", "A", "@", "a.x", "{x", "{y"]);
    let pattern =
        (prop::collection::vec(segment, 0..4), any::<bool>()).prop_map(|(segments, rest)| {
            let mut segments: Vec<String> = segments
                .into_iter()
                .enumerate()
                .map(|(position, segment)| match segment.strip_prefix('{') {
                    Some(name) => format!("{{{name}{position}}}"),
                    None => segment.to_owned(),
                })
                .collect();
            if rest {
                segments.push("{*rest}".to_owned());
            }
            format!("/{}", segments.join("/"))
        });
    let methods = prop::collection::vec(method(), 1..3);
    let scope = select(vec![None, Some("read"), Some("write")]);
    (host(), pattern, methods, scope).prop_map(|(host, pattern, methods, scope)| NaiveRoute {
        host,
        pattern,
        methods: methods.into_iter().collect(),
        scope,
    })
}

fn request() -> impl Strategy<Value = NaiveRequest> {
    let segments = prop::collection::vec(
        select(vec![
            "a", "b", "c", "%61", "B", "A", "@", "%40", "a.x", "%61.x", "A.x", "a.x.y",
        ]),
        0..5,
    );
    let host = prop_oneof![4 => host(), 1 => Just(Some("c.example"))];
    let method = prop_oneof![4 => method().prop_map(Some), 1 => Just(None)];
    (host, segments, any::<bool>(), method).prop_map(
        |(host, segments, has_trailing_slash, method)| NaiveRequest {
            host,
            segments,
            has_trailing_slash,
            method,
        },
    )
}
