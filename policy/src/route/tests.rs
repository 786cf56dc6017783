use super::*;
use crate::{Method, RequestPath, RequiredScopes, Requirement, ScopeRegistry};

fn route(index: usize, host: Option<&str>, path: &str, methods: &[Method]) -> Arc<Route> {
    Arc::new(Route {
        id: RouteId::from_index(index),
        name: format!("r{index}").into(),
        owner: "team".into(),
        host: host.map(|host| host.parse().unwrap()),
        path: path.parse().unwrap(),
        methods: methods.iter().copied().collect(),
        access: Access::Public,
    })
}

fn find(table: &RouteTable, host: &str, method: Method, path: &str) -> Result<usize, Denial> {
    let host = host.parse().unwrap();
    let request = Request {
        method: Some(method),
        host: Some(&host),
        path: RequestPath::parse(path).unwrap(),
    };
    table.find(&request).map(|route| route.id.index())
}

#[test]
fn the_most_specific_route_wins() {
    let get = &[Method::Get][..];
    let table = RouteTable::new([
        route(0, None, "/{*rest}", get),
        route(1, None, "/admin", get),
        route(2, None, "/users/{id}", get),
        route(3, None, "/users/me", get),
        route(4, Some("a.example"), "/users/{id}", get),
        route(5, None, "/files/{*rest}", get),
    ])
    .unwrap();
    for (host, path, expected) in [
        ("b.example", "/", 0),
        ("b.example", "/admin", 1),
        ("b.example", "/admin/", 1),
        ("b.example", "/administrator", 0),
        ("b.example", "/users/5", 2),
        ("b.example", "/users/me", 3),
        ("a.example", "/users/me", 4),
        ("a.example", "/admin", 1),
        ("b.example", "/users/5/x", 0),
        ("b.example", "/files", 5),
        ("b.example", "/files/", 5),
        ("b.example", "/files/a/b", 5),
    ] {
        assert_eq!(
            find(&table, host, Method::Get, path),
            Ok(expected),
            "{host}{path}"
        );
    }
}

#[test]
fn path_that_a_service_may_take_for_one_of_another_route_is_refused() {
    let get = &[Method::Get][..];
    let table = RouteTable::new([
        route(0, None, "/public/{*rest}", get),
        route(1, None, "/public/internal/{*rest}", get),
        route(2, None, "/orders/{id}", get),
        route(3, None, "/orders/health", get),
        route(4, None, "/{tenant}/Reports", get),
        route(5, None, "/x/{id}", get),
        route(6, None, "/users/@me", get),
        route(7, None, "/users/{id}", get),
        route(8, None, "/docs/café", get),
        route(9, None, "/docs/{name}", get),
        route(10, Some("a.example"), "/admin", get),
        route(11, None, "/{*any}", get),
        route(12, None, "/kits/skk", get),
        route(13, None, "/kits/{name}", get),
    ])
    .unwrap();
    let judge = |host: &str, path: &str| find(&table, host, Method::Get, path);
    for path in [
        "/public/iNterNal/x",
        "/PUBLIC/internal/x",
        "/public/%69nternal/x",
        "/orders/HEALTH",
        "/orders/Health/",
        "/orders/he%61lth",
        "/orders/he%61LTH",
        "/%78/REPORTS",
        "/users/%40me",
        "/docs/CAF%C3%89",
        "/docs/caf%C3%89",
        // A route that is compared undecoded is written in capitals, if at all.
        "/docs/caf%c3%a9",
        // An escape more does not hide the other one.
        "/%75sers/%40me",
        "/kits/%C5%BFkk",
        "/kits/sk%E2%84%AA",
        "/publ%C4%B0c/internal/x",
    ] {
        assert_eq!(
            judge("b.example", path),
            Err(Denial::PathAmbiguous),
            "{path}"
        );
    }
    for (host, path) in [("a.example", "/ADMIN"), ("a.example", "/adm%69n")] {
        assert_eq!(judge(host, path), Err(Denial::PathAmbiguous), "{path}");
    }
    for (path, expected) in [
        ("/public/x", 0),
        ("/public/X/internal", 0),
        ("/public/internal/X", 1),
        ("/public/%41", 0),
        ("/orders/7", 2),
        ("/orders/A%42c", 2),
        ("/orders/healthy", 2),
        ("/orders/health", 3),
        ("/acme/Reports", 4),
        ("/x/7", 5),
        ("/x/reports", 5),
        ("/users/@me", 6),
        ("/users/@ME2", 7),
        ("/docs/caf%C3%A9", 8),
        ("/docs/the", 9),
        ("/ADMIN", 11),
        ("/kits/skk", 12),
        ("/kits/%C5%BF", 13),
    ] {
        assert_eq!(judge("b.example", path), Ok(expected), "{path}");
    }
}

#[test]
fn escape_of_one_segment_does_not_hide_that_of_another() {
    let get = &[Method::Get][..];
    let table = RouteTable::new([
        route(0, None, "/admin/@me", get),
        route(1, None, "/admin/{user}", get),
    ])
    .unwrap();
    for (path, expected) in [
        ("/admin/@me", Ok(0)),
        ("/admin/%40me", Err(Denial::PathAmbiguous)),
        // To `decodeURI`, which find-my-way begins with, this is the same.
        ("/%61dmin/%40me", Err(Denial::PathAmbiguous)),
        ("/%61dmin/7", Ok(1)),
        ("/admin/a%40b", Ok(1)),
    ] {
        let found = find(&table, "a.example", Method::Get, path);
        assert_eq!(found, expected, "{path}");
    }
}

#[test]
fn end_that_a_service_may_take_for_one_of_a_stricter_route_is_refused() {
    let scopes = ScopeRegistry::new(["a".parse().unwrap(), "b".parse().unwrap()]);
    let protected = |index, host, path, scope: &str, methods: &[Method]| {
        let mut route = Arc::into_inner(route(index, host, path, methods)).unwrap();
        let scopes = RequiredScopes::all(&scopes, &[scope.parse().unwrap()]).unwrap();
        route.access = Access::Protected(Requirement {
            scopes,
            issuers: None,
        });
        Arc::new(route)
    };
    let get = &[Method::Get][..];
    let table = RouteTable::new([
        route(0, None, "/files/{*rest}", get),
        protected(1, None, "/{tenant}", "a", get),
        protected(2, None, "/orders/{*rest}", "a", get),
        route(3, None, "/orders/health", get),
        protected(4, None, "/orders/same", "a", get),
        protected(5, None, "/orders/other", "b", get),
        route(6, None, "/docs/Guide/{*page}", get),
        protected(7, None, "/docs/{page}", "a", &[Method::Post]),
        protected(8, None, "/docs/{page}/{*rest}", "a", &[Method::Put]),
        route(9, None, "/", get),
        protected(10, None, "/{*all}", "b", &[Method::Delete]),
        protected(11, Some("a.example"), "/in/{*rest}", "a", get),
        route(12, Some("a.example"), "/{page}", get),
    ])
    .unwrap();
    for (host, path, expected) in [
        // To Express, `/files` and `/files/` have nothing for `/files/*` to be.
        ("b.example", "/files", Err(Denial::PathAmbiguous)),
        ("b.example", "/files/", Err(Denial::PathAmbiguous)),
        ("b.example", "/files/a", Ok(0)),
        ("b.example", "/FILES", Err(Denial::PathAmbiguous)),
        ("b.example", "/orders/health", Ok(3)),
        // To Spring, a slash is left for `/orders/**` to take.
        ("b.example", "/orders/health/", Err(Denial::PathAmbiguous)),
        ("b.example", "/orders/same/", Ok(4)),
        ("b.example", "/orders/other/", Err(Denial::PathAmbiguous)),
        ("b.example", "/orders/7/", Ok(2)),
        ("b.example", "/orders/", Ok(2)),
        ("b.example", "/orders", Ok(2)),
        ("b.example", "/", Ok(9)),
        // Nobody has it with this method.
        ("b.example", "/docs/Guide", Ok(6)),
        // It is judged as what needs most.
        ("a.example", "/in", Ok(11)),
        ("a.example", "/in/", Ok(11)),
    ] {
        assert_eq!(find(&table, host, Method::Get, path), expected, "{path}");
    }
}

#[test]
fn literals_that_differ_in_case_are_two_to_whoever_wrote_them() {
    let get = &[Method::Get][..];
    let table = RouteTable::new([
        route(0, None, "/Orders", get),
        route(1, None, "/orders", get),
        route(2, None, "/{other}", get),
        route(3, None, "/orders/list", get),
        route(4, None, "/Orders/{id}", get),
        route(5, None, "/{a}/{b}", get),
    ])
    .unwrap();
    for (path, expected) in [
        ("/Orders", Ok(0)),
        ("/orders", Ok(1)),
        ("/ORDERS", Err(Denial::PathAmbiguous)),
        ("/7", Ok(2)),
        ("/orders/list", Ok(3)),
        ("/orders/7", Err(Denial::PathAmbiguous)),
    ] {
        assert_eq!(
            find(&table, "a.example", Method::Get, path),
            expected,
            "{path}"
        );
    }
}

#[test]
fn routes_overlap_on_the_hosts_that_they_share() {
    let get = &[Method::Get][..];
    let one = route(0, Some("a.example"), "/x/{id}", get);
    for (host, path, expected) in [
        (Some("a.example"), "/x/1", true),
        (None, "/x/1", true),
        (Some("b.example"), "/x/1", false),
        (Some("a.example"), "/y/1", false),
        (None, "/y/1", false),
    ] {
        let other = route(1, host, path, get);
        for (mine, theirs) in [(&one, &other), (&other, &one)] {
            assert_eq!(mine.overlaps(theirs), expected, "{host:?} {path}");
            assert_eq!(
                mine.can_be_mistaken_for(theirs),
                expected,
                "{host:?} {path}"
            );
        }
    }
}

#[test]
fn routes_whose_literals_differ_in_case_can_be_mistaken_for_each_other() {
    let get = &[Method::Get][..];
    let one = route(0, None, "/{x}/Admin", get);
    let other = route(1, None, "/ab/admin", get);
    assert!(!one.overlaps(&other));
    assert!(one.can_be_mistaken_for(&other) && other.can_be_mistaken_for(&one));
    assert!(!one.can_be_mistaken_for(&route(2, None, "/ab/b", get)));
}

#[test]
fn a_method_that_the_most_specific_path_leaves_out_never_falls_through() {
    let table = RouteTable::new([
        route(0, None, "/{*rest}", &Method::ALL),
        route(1, None, "/admin", &[Method::Get]),
    ])
    .unwrap();
    let allow = [Method::Get].into_iter().collect();
    assert_eq!(
        find(&table, "a.example", Method::Post, "/admin"),
        Err(Denial::MethodNotAllowed { allow })
    );
}

#[test]
fn routes_of_equal_weight_conflict() {
    let conflict = RouteTable::new([
        route(0, None, "/a/{x}", &[Method::Get]),
        route(1, None, "/a/{y}", &[Method::Get]),
    ])
    .unwrap_err();
    assert_eq!(
        conflict,
        [RouteConflict {
            first: RouteId::from_index(0),
            second: RouteId::from_index(1)
        }]
    );
    assert!(
        RouteTable::new([
            route(0, None, "/a/{x}", &[Method::Get]),
            route(1, None, "/a/{y}", &[Method::Post])
        ])
        .is_ok()
    );
}

#[test]
fn patterns_overlap_where_one_path_belongs_to_both() {
    for (one, other, expected) in [
        ("/a", "/a", true),
        ("/a", "/b", false),
        ("/{x}", "/b", true),
        ("/a/{*rest}", "/a", true),
        ("/a/{*rest}", "/b/{*rest}", false),
        ("/{x}/b", "/a/{y}", true),
        ("/a/b", "/a", false),
    ] {
        let (one, other): (PathPattern, PathPattern) =
            (one.parse().unwrap(), other.parse().unwrap());
        assert_eq!(one.overlaps(&other), expected, "{one} {other}");
        assert_eq!(other.overlaps(&one), expected, "{other} {one}");
    }
}

#[test]
fn pattern_is_within_one_that_has_all_of_its_paths() {
    for (one, wider, expected) in [
        ("/a", "/a", true),
        ("/a", "/b", false),
        ("/a", "/{x}", true),
        ("/{x}", "/a", false),
        ("/{x}", "/{y}", true),
        ("/a/b", "/a", false),
        ("/a", "/a/b", false),
        ("/a", "/a/{*rest}", true),
        ("/a/b", "/{*rest}", true),
        ("/a/{*rest}", "/a/{*others}", true),
        ("/a/{*rest}", "/a/{x}", false),
        ("/a/{*rest}", "/a", false),
        ("/b/{*rest}", "/a/{*rest}", false),
    ] {
        let (one, wider): (PathPattern, PathPattern) =
            (one.parse().unwrap(), wider.parse().unwrap());
        assert_eq!(one.is_within(&wider), expected, "{one} {wider}");
    }
}

#[test]
fn one_route_takes_from_another_what_it_says_more_exactly() {
    let get = &[Method::Get][..];
    for (mine, theirs, expected) in [
        ((None, "/a"), (None, "/{x}"), true),
        ((None, "/{x}"), (None, "/a"), false),
        ((None, "/{x}"), (None, "/{*rest}"), true),
        ((None, "/a/{x}"), (None, "/{x}/b"), true),
        ((None, "/{x}/b"), (None, "/a/{x}"), false),
        ((None, "/a"), (None, "/a/{*rest}"), true),
        ((None, "/a/{*rest}"), (None, "/a"), false),
        ((None, "/a"), (None, "/b"), false),
        ((None, "/a"), (None, "/a"), false),
        ((Some("a.example"), "/{*rest}"), (None, "/a"), true),
        ((None, "/a"), (Some("a.example"), "/{*rest}"), false),
        (
            (Some("a.example"), "/a"),
            (Some("b.example"), "/{*rest}"),
            false,
        ),
        ((Some("a.example"), "/a"), (Some("a.example"), "/{x}"), true),
    ] {
        let one = route(0, mine.0, mine.1, get);
        let other = route(1, theirs.0, theirs.1, get);
        assert_eq!(one.takes_from(&other), expected, "{mine:?} {theirs:?}");
        // And that is what becomes of a request that belongs to both.
        let (Ok(table), true) = (
            RouteTable::new([Arc::clone(&one), Arc::clone(&other)]),
            one.overlaps(&other),
        ) else {
            continue;
        };
        let found = find(&table, "a.example", Method::Get, "/a")
            .or_else(|_| find(&table, "a.example", Method::Get, "/a/b"));
        assert_eq!(found, Ok(usize::from(!expected)), "{mine:?} {theirs:?}");
    }
}

#[test]
fn route_of_one_host_shadows_a_wider_one_whose_paths_are_not_all_of_its_own() {
    let get = &[Method::Get][..];
    for (mine, theirs, expected) in [
        ((Some("a.example"), "/{x}"), (None, "/health"), true),
        ((Some("a.example"), "/health"), (None, "/{x}"), false),
        ((Some("a.example"), "/{x}"), (None, "/{y}"), false),
        ((Some("a.example"), "/a/{x}"), (None, "/b/health"), false),
        ((None, "/{x}"), (None, "/health"), false),
        (
            (Some("a.example"), "/{x}"),
            (Some("a.example"), "/health"),
            false,
        ),
    ] {
        let one = route(0, mine.0, mine.1, get);
        let wider = route(1, theirs.0, theirs.1, get);
        assert_eq!(one.shadows_by_host(&wider), expected, "{mine:?} {theirs:?}");
    }
}

#[test]
fn routes_share_a_path_where_only_the_names_of_parameters_differ() {
    let get = &[Method::Get][..];
    for (mine, theirs, expected) in [
        ((None, "/a/{x}"), (None, "/a/{y}"), true),
        ((None, "/a/{x}"), (None, "/a/b"), false),
        ((None, "/a/{x}"), (None, "/a/{*x}"), false),
        ((None, "/a"), (None, "/a/b"), false),
        ((Some("a.example"), "/a"), (None, "/a"), false),
    ] {
        let one = route(0, mine.0, mine.1, get);
        for methods in [&[Method::Get][..], &[Method::Post]] {
            let other = route(1, theirs.0, theirs.1, methods);
            assert_eq!(
                one.shares_path_with(&other),
                expected,
                "{mine:?} {theirs:?}"
            );
            assert_eq!(
                one.conflicts_with(&other),
                expected && methods == get,
                "{mine:?} {theirs:?} {methods:?}"
            );
        }
    }
}

#[test]
fn first_literal_is_the_first_segment_if_that_is_one() {
    for (pattern, expected) in [
        ("/", None),
        ("/{x}/a", None),
        ("/{*rest}", None),
        ("/orders", Some("orders")),
        ("/orders/{id}", Some("orders")),
    ] {
        let parsed: PathPattern = pattern.parse().unwrap();
        assert_eq!(parsed.first_literal(), expected, "{pattern}");
        assert_eq!(parsed.to_string(), pattern);
    }
}

#[test]
fn text_that_no_request_could_match_is_no_pattern() {
    use InvalidPathPattern::*;
    for (text, reason) in [
        ("a", NotAbsolute),
        ("/a/", TrailingSlash),
        ("//", TrailingSlash),
        ("/a//", EmptySegment),
        ("/a//b", EmptySegment),
        ("/.", DotSegment),
        ("/a/..", DotSegment),
        ("/a%20", ForbiddenCharacter('%')),
        ("/a;b", ForbiddenCharacter(';')),
        ("/{*r}/x", RestNotLast("r".into())),
        ("/{}", InvalidParameter),
        ("/{a", InvalidParameter),
        ("/x{a}", InvalidParameter),
        ("/{a-b}", InvalidParameter),
        ("/{a}/{a}", RepeatedParameter("a".into())),
    ] {
        assert_eq!(text.parse::<PathPattern>(), Err(reason), "{text}");
    }
    assert!("/{a_b}/{c2}".parse::<PathPattern>().is_ok());
}
