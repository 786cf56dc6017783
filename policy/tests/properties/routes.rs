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
}

fn built(routes: &[NaiveRoute]) -> Vec<Arc<Route>> {
    let build = |(index, route): (usize, &NaiveRoute)| {
        Arc::new(Route {
            id: RouteId::from_index(index),
            name: format!("r{index}").into(),
            owner: "team".into(),
            host: route.host.map(|host| host.parse().unwrap()),
            path: route.pattern.parse().unwrap(),
            methods: route.methods,
            access: Access::Public,
        })
    };
    routes.iter().enumerate().map(build).collect()
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
    let owners = owners(routes, request, |segment, presented| {
        segment == presented.replace("%61", "a")
    });
    if owners.is_empty() {
        return Err(Denial::RouteNotFound);
    }
    // Services that do not decode, that do not regard case, or neither.
    let others: [Comparison; 3] = [
        |segment, presented| segment == presented,
        |segment, presented| segment.eq_ignore_ascii_case(&presented.replace("%61", "a")),
        |segment, presented| segment.eq_ignore_ascii_case(presented),
    ];
    for compare in others {
        let theirs = self::owners(routes, request, compare);
        if !theirs.is_empty() && theirs != owners {
            return Err(Denial::PathAmbiguous);
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

/// Whether a literal is what was presented.
type Comparison = fn(&str, &str) -> bool;

/// Routes of the most specific pattern that a request belongs to.
fn owners(routes: &[NaiveRoute], request: &NaiveRequest, is_same: Comparison) -> Vec<usize> {
    let specificities: Vec<_> = routes
        .iter()
        .map(|route| specificity(route, request, is_same))
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
    is_same: Comparison,
) -> Option<(bool, Vec<u8>)> {
    if route.host.is_some() && route.host != request.host {
        return None;
    }
    let mut ranks = Vec::new();
    let mut remaining = request.segments.iter();
    for segment in segments(&route.pattern) {
        if segment.starts_with("{*") {
            ranks.push(0);
            return Some((route.host.is_some(), ranks));
        }
        let presented = remaining.next()?;
        if segment.starts_with('{') {
            ranks.push(1);
        } else if is_same(segment, presented) {
            ranks.push(2);
        } else {
            return None;
        }
    }
    // That the path ends here is as exact as a literal.
    ranks.push(2);
    remaining
        .next()
        .is_none()
        .then_some((route.host.is_some(), ranks))
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
    let segment = select(vec!["a", "b", "{x", "{y"]);
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
    (host(), pattern, methods).prop_map(|(host, pattern, methods)| NaiveRoute {
        host,
        pattern,
        methods: methods.into_iter().collect(),
    })
}

fn request() -> impl Strategy<Value = NaiveRequest> {
    let segments = prop::collection::vec(select(vec!["a", "b", "c", "%61", "B"]), 0..5);
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
