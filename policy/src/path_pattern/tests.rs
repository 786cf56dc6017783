use super::*;

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
fn pattern_is_shown_as_it_was_written() {
    let text = "/a/{id}/{*rest}";
    assert_eq!(text.parse::<PathPattern>().unwrap().to_string(), text);
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
fn what_belongs_to_two_patterns_is_a_pattern() {
    for (one, other, meeting) in [
        ("/files/{*rest}", "/{tenant}/admin", Some("/files/admin")),
        ("/{a}/x/{*all}", "/y/{b}/{c}/z", Some("/y/x/{p2}/z")),
        ("/{a}/{*all}", "/{b}/x/{*all}", Some("/{p0}/x/{*rest}")),
        ("/{a}/y", "/x/{b}", Some("/x/y")),
        ("/{*all}", "/", Some("/")),
        ("/x/{*all}", "/x", Some("/x")),
        ("/x/{a}", "/y/{a}", None),
        ("/Orders/{*all}", "/orders/{id}", None),
    ] {
        let parse = |text: &str| text.parse::<PathPattern>().unwrap();
        let (one, other, meeting) = (parse(one), parse(other), meeting.map(parse));
        assert_eq!(one.meeting(&other), meeting, "{one} {other}");
        assert_eq!(other.meeting(&one), meeting, "{other} {one}");
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
