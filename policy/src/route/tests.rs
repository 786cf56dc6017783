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
        ("b.example", "/%61dmin", 1),
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
