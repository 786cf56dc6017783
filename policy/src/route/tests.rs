use std::sync::Arc;

use crate::route_table::tests::{find, route};
use crate::{Access, Method, RequiredScopes, Requirement, Route, RouteTable};

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

/// A route for any host that whoever has a token may call.
fn protected(path: &str, methods: &[Method]) -> Route {
    let mut route = Arc::into_inner(route(1, None, path, methods)).unwrap();
    route.access = Access::Protected(Requirement {
        scopes: RequiredScopes::authenticated_only(),
        issuers: None,
    });
    route
}

#[test]
fn routes_are_contested_where_a_service_may_take_one_for_the_other() {
    let get = &[Method::Get][..];
    for (one, other, expected) in [
        ("/files/{*rest}", "/{tenant}/admin", true),
        ("/files/{*rest}", "/{tenant}/admin/{x}", true),
        ("/{a}/x", "/y/{b}", true),
        ("/Orders/{*rest}", "/orders/{id}", true),
        ("/{a}/X", "/y/x", true),
        // All that one is for, the other is for, so the order is plain.
        ("/files/{*rest}", "/files/admin", false),
        ("/{a}/x", "/{*rest}", false),
        ("/files/{id}", "/{tenant}/admin/x", false),
        ("/x/{a}", "/y/{a}", false),
    ] {
        let (public, protected) = (route(0, None, one, get), protected(other, get));
        assert_eq!(
            public.is_contested_by(&protected),
            expected,
            "{one} {other}"
        );
        assert_eq!(
            protected.is_contested_by(&public),
            expected,
            "{other} {one}"
        );
    }
    let one = route(0, None, "/files/{*rest}", get);
    let crossing = |host| route(1, host, "/{tenant}/admin", get);
    assert!(!one.is_contested_by(&crossing(None)), "the same to callers");
    let of_others = protected("/{tenant}/admin", &[Method::Post]);
    assert!(!one.is_contested_by(&of_others), "no request is for both");
    let mut of_a_host = protected("/{tenant}/admin", get);
    of_a_host.host = Some("a.example".parse().unwrap());
    assert!(!one.is_contested_by(&of_a_host), "`shadows_by_host` tells");
}
