use super::*;
use crate::{RequestPath, RequiredScopes, Requirement, ScopeRegistry};

pub(crate) fn route(
    index: usize,
    host: Option<&str>,
    path: &str,
    methods: &[Method],
) -> Arc<Route> {
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

pub(crate) fn find(
    table: &RouteTable,
    host: &str,
    method: Method,
    path: &str,
) -> Result<usize, Denial> {
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

/// A route that needs a scope, `a` or `b`.
fn protected(
    index: usize,
    host: Option<&str>,
    path: &str,
    scope: &str,
    methods: &[Method],
) -> Arc<Route> {
    let registry = ScopeRegistry::new(["a", "b"].map(|scope| scope.parse().unwrap()));
    let mut route = Arc::into_inner(route(index, host, path, methods)).unwrap();
    route.access = Access::Protected(Requirement {
        scopes: RequiredScopes::all(&registry, &[scope.parse().unwrap()]).unwrap(),
        issuers: None,
    });
    Arc::new(route)
}

/// Routes that differ by how paths end.
fn routes_by_end() -> RouteTable {
    let get = &[Method::Get][..];
    RouteTable::new([
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
    .unwrap()
}

#[test]
fn end_that_a_service_may_take_for_one_of_a_stricter_route_is_refused() {
    let table = routes_by_end();
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
fn end_that_a_service_may_take_for_a_format_is_no_way_around_a_stricter_route() {
    let get = &[Method::Get][..];
    let table = RouteTable::new([
        route(0, None, "/{page}", get),
        protected(1, None, "/admin", "a", get),
        route(2, None, "/admin.html", get),
        protected(3, None, "/admin/{item}", "a", get),
        route(4, None, "/x/{*rest}", get),
        protected(5, None, "/x/y", "a", &[Method::Post]),
        protected(6, None, "/v1.2", "a", get),
        protected(7, None, "/a.b.c.d.e.f.g.h.i.j", "a", get),
    ])
    .unwrap();
    for (path, expected) in [
        // To Rails, `/admin` in another format; to Spring, one of `/admin.*`.
        ("/admin.json", Err(Denial::PathAmbiguous)),
        ("/admin.json/", Err(Denial::PathAmbiguous)),
        ("/ADMIN.json", Err(Denial::PathAmbiguous)),
        ("/%61dmin.json", Err(Denial::PathAmbiguous)),
        ("/admin.html", Ok(2)),
        ("/admin.tar.gz", Err(Denial::PathAmbiguous)),
        ("/admin.%6Ason", Err(Denial::PathAmbiguous)),
        ("/admin.", Err(Denial::PathAmbiguous)),
        ("/v1.2.tar.gz", Err(Denial::PathAmbiguous)),
        ("/a.b.c.d.e.f.g.h.i.j.k", Err(Denial::PathAmbiguous)),
        ("/.admin", Ok(0)),
        ("/admins.json", Ok(0)),
        ("/page.json", Ok(0)),
        ("/admin/7.json", Ok(3)),
        ("/x/y.json", Ok(4)),
    ] {
        assert_eq!(
            find(&table, "a.example", Method::Get, path),
            expected,
            "{path}"
        );
    }
}

#[test]
fn ambiguous_path_is_contested_between_two_routes() {
    let table = routes_by_end();
    for (method, path, contest) in [
        (Method::Get, "/files/", Some([0, 1])),
        (Method::Get, "/FILES", Some([1, 0])),
        (Method::Get, "/orders/health/", Some([3, 2])),
        // The routes of the path, where none of them has the method.
        (Method::Put, "/FILES", Some([1, 0])),
        (Method::Get, "/orders/7", None),
        (Method::Get, "/a/b/c", None),
    ] {
        let request = Request {
            method: Some(method),
            host: None,
            path: RequestPath::parse(path).unwrap(),
        };
        let found = table.contest(&request);
        let found = found.map(|routes| routes.map(|route| route.id.index()));
        assert_eq!(found, contest, "{method:?} {path}");
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
