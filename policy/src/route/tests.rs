use super::*;
use crate::{Method, RequestPath};

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
        ("/docs/caf%c3%a9", 8),
        ("/docs/the", 9),
        ("/ADMIN", 11),
        ("/kits/skk", 12),
        ("/kits/%C5%BF", 13),
    ] {
        assert_eq!(judge("b.example", path), Ok(expected), "{path}");
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
fn text_that_no_request_could_match_is_no_pattern() {
    for text in [
        "a", "/a/", "//", "/a//b", "/.", "/a/..", "/a%20", "/a;b", "/{*r}/x", "/{}", "/{a",
        "/x{a}", "/{a}/{a}",
    ] {
        assert!(text.parse::<PathPattern>().is_err(), "{text}");
    }
}
