use std::fs;
use std::path::PathBuf;

use portcullis_policy::{Access, Host, Method, Request, RequestPath};
use proptest::prelude::{any, prop, proptest};
use proptest::strategy::Strategy;
use tempfile::TempDir;

use crate::{Config, Diagnostics, load, reload};

/// A configuration in a directory of its own.
struct Gateway {
    directory: TempDir,
}

impl Gateway {
    fn new(files: &[(&str, &str)]) -> Self {
        let gateway = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        gateway.write(
            "portcullis.yaml",
            &platform("127.0.0.1:9000", "https://login.acme.example"),
        );
        for (name, content) in files {
            gateway.write(name, content);
        }
        gateway
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }

    fn load(&self) -> Config {
        load(&self.path("portcullis.yaml")).unwrap()
    }

    /// An empty content removes the file.
    fn reload(&self, previous: &Config, changes: &[(&str, &str)]) -> Result<Config, Diagnostics> {
        for (name, content) in changes {
            match *content {
                "" => fs::remove_file(self.path(name)).unwrap(),
                content => self.write(name, content),
            }
        }
        reload(&self.path("portcullis.yaml"), previous)
    }
}

fn platform(orders: &str, issuer: &str) -> String {
    format!(
        "listeners: [{{ name: public, address: \"127.0.0.1:0\" }}]
issuers:
  - {{ name: acme, issuer: \"{issuer}\", audiences: [a], keys: {{ discovery: true }} }}
  - {{ name: other, issuer: \"https://login.other.example\", audiences: [a], keys: {{ discovery: true }} }}
upstreams:
  - {{ name: orders, addresses: [\"{orders}\"] }}
  - {{ name: invoices, addresses: [\"127.0.0.1:9001\"] }}
policy: {{ files: [\"*.yml\"] }}
"
    )
}

/// A policy file; each route is `(name, path, access)`. Teams let each other take requests here: what
/// is tried is what holding files back does to them.
fn policy(owner: &str, routes: &[(&str, &str, &str)]) -> String {
    let mut text = format!("owner: {owner}\nscopes: {{ \"{owner}:use\": text }}\nroutes:\n");
    for (name, path, access) in routes {
        let access = match *access {
            "public" => "public: true".to_owned(),
            "token" => "require: { authenticated_only: true }".to_owned(),
            scope => format!("require: {{ scopes: [\"{scope}\"] }}"),
        };
        text.push_str(&format!(
            "  - {{ name: {name}, match: {{ path: \"{path}\" }}, upstream: orders, {access}, \
             yields_to: [a, b, c] }}\n"
        ));
    }
    text
}

fn held(config: &Config) -> Vec<String> {
    let held = config
        .policy_files
        .iter()
        .filter(|file| file.pinned.is_some());
    held.map(|file| file.path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect()
}

fn reasons(config: &Config) -> Vec<&'static str> {
    config
        .policy_files
        .iter()
        .filter_map(|file| file.pinned.as_ref())
        .flatten()
        .map(|it| it.code)
        .collect()
}

fn names(config: &Config) -> Vec<&str> {
    let mut names: Vec<_> = config
        .routes
        .iter()
        .map(|route| &*route.policy.name)
        .collect();
    names.sort_unstable();
    names
}

const BROKEN: &str = "owner: a\nroutes: [\n";

struct Scenario {
    name: &'static str,
    before: Vec<(&'static str, String)>,
    change: Vec<(&'static str, String)>,
    held: &'static [&'static str],
    routes: &'static [&'static str],
}

fn scenarios() -> Vec<Scenario> {
    let a = |routes: &[(&str, &str, &str)]| ("a.yml", policy("a", routes));
    let b = |routes: &[(&str, &str, &str)]| ("b.yml", policy("b", routes));
    let text = |file: &'static str, text: &str| (file, text.to_owned());
    vec![
        Scenario {
            name: "nothing is wrong",
            before: vec![a(&[("a1", "/a", "a:use")]), b(&[("b1", "/b", "b:use")])],
            change: vec![a(&[("a2", "/a", "a:use")]), b(&[("b2", "/b", "b:use")])],
            held: &[],
            routes: &["a2", "b2"],
        },
        Scenario {
            name: "a broken file is held and the others move on",
            before: vec![a(&[("a1", "/a", "a:use")]), b(&[("b1", "/b", "b:use")])],
            change: vec![
                text("a.yml", BROKEN),
                b(&[("b2", "/b", "public"), ("b3", "/b/c", "token")]),
            ],
            held: &["a.yml"],
            routes: &["a1", "b2", "b3"],
        },
        Scenario {
            name: "a file that breaks a rule of its own is held",
            before: vec![a(&[("a1", "/a", "a:use")]), b(&[("b1", "/b", "b:use")])],
            change: vec![a(&[("a2", "a", "a:use")]), b(&[("b2", "/b", "b:use")])],
            held: &["a.yml"],
            routes: &["a1", "b2"],
        },
        Scenario {
            name: "a new file that is bad is left out",
            before: vec![b(&[("b1", "/b", "b:use")])],
            change: vec![text("a.yml", BROKEN), b(&[("b2", "/b", "b:use")])],
            held: &["a.yml"],
            routes: &["b2"],
        },
        Scenario {
            name: "a file that takes another team's route name is held, the other moves on",
            before: vec![a(&[("a1", "/a", "a:use")]), b(&[("b1", "/b", "b:use")])],
            change: vec![
                a(&[("b1", "/a", "a:use")]),
                b(&[("b1", "/b", "b:use"), ("b2", "/b/2", "b:use")]),
            ],
            held: &["a.yml"],
            routes: &["a1", "b1", "b2"],
        },
        Scenario {
            name: "two files that take the same new name are both held",
            before: vec![a(&[("a1", "/a", "a:use")]), b(&[("b1", "/b", "b:use")])],
            change: vec![a(&[("new", "/a", "a:use")]), b(&[("new", "/b", "b:use")])],
            held: &["a.yml", "b.yml"],
            routes: &["a1", "b1"],
        },
        Scenario {
            name: "a name may move from one file to another",
            before: vec![a(&[("one", "/a", "a:use")]), b(&[("two", "/b", "b:use")])],
            change: vec![a(&[("two", "/a", "a:use")]), b(&[("one", "/b", "b:use")])],
            held: &[],
            routes: &["one", "two"],
        },
        Scenario {
            name: "a file that drops a scope that another one uses is held",
            before: vec![a(&[("a1", "/a", "a:use")]), b(&[("b1", "/b", "a:use")])],
            change: vec![("a.yml", policy("x", &[("a1", "/a", "token")]))],
            held: &["a.yml"],
            routes: &["a1", "b1"],
        },
        Scenario {
            name: "exposure: the broken file narrows, the other one drops its stricter route",
            before: vec![
                a(&[("everything", "/{*rest}", "public")]),
                b(&[("admin", "/admin", "b:use"), ("b1", "/b", "b:use")]),
            ],
            change: vec![
                a(&[("everything", "/{*rest}", "nobody:knows")]),
                b(&[("b1", "/b", "b:use")]),
            ],
            held: &["a.yml", "b.yml"],
            routes: &["admin", "b1", "everything"],
        },
        Scenario {
            name: "exposure: the same with a file that cannot be parsed",
            before: vec![
                a(&[("everything", "/{*rest}", "public")]),
                b(&[("admin", "/admin", "b:use"), ("b1", "/b", "b:use")]),
            ],
            change: vec![
                (
                    "a.yml",
                    format!(
                        "{}  - [\n",
                        policy("a", &[("everything", "/{*rest}", "token")])
                    ),
                ),
                b(&[("b1", "/b", "b:use")]),
            ],
            held: &["a.yml", "b.yml"],
            routes: &["admin", "b1", "everything"],
        },
        Scenario {
            name: "exposure: a route moves into a new file that cannot be parsed",
            before: vec![
                (
                    "c.yml",
                    policy("c", &[("everything", "/{*rest}", "public")]),
                ),
                b(&[("admin", "/admin", "b:use"), ("b1", "/b", "b:use")]),
            ],
            change: vec![
                (
                    "a.yml",
                    format!("{}  - [\n", policy("a", &[("admin", "/admin", "token")])),
                ),
                b(&[("b1", "/b", "b:use")]),
            ],
            held: &["a.yml", "b.yml"],
            routes: &["admin", "b1", "everything"],
        },
        Scenario {
            name: "exposure: a route is removed with its file",
            before: vec![
                a(&[("everything", "/{*rest}", "public")]),
                b(&[("admin", "/admin", "b:use")]),
            ],
            change: vec![
                a(&[("everything", "/{*rest}", "nobody:knows")]),
                text("b.yml", ""),
            ],
            held: &["a.yml", "b.yml"],
            routes: &["admin", "everything"],
        },
        Scenario {
            name: "a file may be removed while another one is held that it does not touch",
            before: vec![a(&[("a1", "/a", "public")]), b(&[("b1", "/b", "b:use")])],
            change: vec![text("a.yml", BROKEN), text("b.yml", "")],
            held: &["a.yml"],
            routes: &["a1"],
        },
        Scenario {
            name: "what the broken file leaves as it is touches nobody",
            before: vec![
                a(&[("everything", "/{*rest}", "public"), ("a1", "/a", "a:use")]),
                b(&[("b1", "/b", "b:use")]),
            ],
            change: vec![
                a(&[
                    ("everything", "/{*rest}", "public"),
                    ("a1", "/a", "nobody:knows"),
                ]),
                b(&[("b1", "/b", "public")]),
            ],
            held: &["a.yml"],
            routes: &["a1", "b1", "everything"],
        },
        Scenario {
            name: "holding one file may hold the next",
            before: vec![
                a(&[("a1", "/x/{id}", "a:use")]),
                b(&[("b1", "/{area}/1", "b:use")]),
                ("c.yml", policy("c", &[("c1", "/y/{*rest}", "c:use")])),
            ],
            change: vec![
                a(&[("a1", "/x/{id}", "nobody:knows")]),
                b(&[("b1", "/{area}/1", "token")]),
                ("c.yml", policy("c", &[("c1", "/y/{*rest}", "token")])),
            ],
            held: &["a.yml", "b.yml", "c.yml"],
            routes: &["a1", "b1", "c1"],
        },
    ]
}

#[test]
fn one_file_at_fault_holds_what_it_touches_and_no_more() {
    for scenario in scenarios() {
        let before: Vec<_> = scenario
            .before
            .iter()
            .map(|(file, text)| (*file, text.as_str()))
            .collect();
        let change: Vec<_> = scenario
            .change
            .iter()
            .map(|(file, text)| (*file, text.as_str()))
            .collect();
        let gateway = Gateway::new(&before);
        let config = gateway.reload(&gateway.load(), &change);
        let config =
            config.unwrap_or_else(|diagnostics| panic!("{}: {diagnostics}", scenario.name));
        assert_eq!(
            held(&config),
            scenario.held,
            "{}: {:?}",
            scenario.name,
            reasons(&config)
        );
        assert_eq!(names(&config), scenario.routes, "{}", scenario.name);
        for (index, route) in config.routes.iter().enumerate() {
            assert_eq!(route.policy.id.index(), index, "{}", scenario.name);
            assert!(
                config.policy_files[route.file]
                    .text
                    .contains(&*route.policy.name),
                "{}",
                scenario.name
            );
        }
    }
}

#[test]
fn a_held_file_moves_on_when_it_is_good_again() {
    let gateway = Gateway::new(&[("a.yml", &policy("a", &[("a1", "/a", "a:use")]))]);
    let first = gateway.load();
    let second = gateway.reload(&first, &[("a.yml", BROKEN)]).unwrap();
    let third = gateway.reload(&second, &[]).unwrap();
    assert_eq!(
        (held(&third), names(&third)),
        (vec!["a.yml".to_owned()], vec!["a1"])
    );
    let fourth = gateway
        .reload(&third, &[("a.yml", &policy("a", &[("a2", "/a", "a:use")]))])
        .unwrap();
    assert_eq!((held(&fourth), names(&fourth)), (vec![], vec!["a2"]));
}

#[test]
fn a_new_bad_file_is_reported_with_empty_text_until_it_is_good() {
    let gateway = Gateway::new(&[("a.yml", &policy("a", &[("a1", "/a", "a:use")]))]);
    let bad = policy("b", &[("b1", "b", "b:use")]);
    let second = gateway.reload(&gateway.load(), &[("b.yml", &bad)]).unwrap();
    let file = second
        .policy_files
        .iter()
        .find(|file| file.pinned.is_some())
        .unwrap();
    assert_eq!(
        (&*file.text, file.owner.as_str(), reasons(&second)),
        ("", "b", vec!["invalid_path_pattern"])
    );
    let third = gateway
        .reload(
            &second,
            &[("b.yml", &policy("b", &[("b1", "/b", "b:use")]))],
        )
        .unwrap();
    assert_eq!((held(&third), names(&third)), (vec![], vec!["a1", "b1"]));
}

#[test]
fn the_first_start_accepts_no_bad_file() {
    let gateway = Gateway::new(&[
        ("a.yml", &policy("a", &[("a1", "/a", "a:use")])),
        ("b.yml", BROKEN),
    ]);
    assert!(load(&gateway.path("portcullis.yaml")).is_err());
}

#[test]
fn a_bad_portcullis_yaml_changes_nothing() {
    let gateway = Gateway::new(&[("a.yml", &policy("a", &[("a1", "/a", "a:use")]))]);
    let config = gateway.load();
    for bad in ["listeners: [", "listeners: []", "", "unknown: 1"] {
        gateway.write("portcullis.yaml", bad);
        assert!(
            reload(&gateway.path("portcullis.yaml"), &config).is_err(),
            "{bad}"
        );
    }
}

#[test]
fn a_service_that_moves_under_a_held_route_refuses_the_generation() {
    let gateway = Gateway::new(&[("a.yml", &policy("a", &[("a1", "/a", "public")]))]);
    let moved = platform("127.0.0.1:9009", "https://login.acme.example");
    let narrowed = policy("a", &[("a1", "/a", "nobody:knows")]);
    let config = gateway.load();
    let error = gateway
        .reload(
            &config,
            &[("a.yml", &narrowed), ("portcullis.yaml", &moved)],
        )
        .unwrap_err();
    let held_back: Vec<_> = error.iter().filter(|it| it.code == "held_back").collect();
    assert_eq!(held_back.len(), 1, "{error}");
    assert!(held_back[0].file.ends_with("portcullis.yaml"), "{error}");
}

#[test]
fn a_service_may_move_where_a_held_file_does_not_want_a_change() {
    let gateway = Gateway::new(&[("a.yml", &policy("a", &[("a1", "/a", "public")]))]);
    let moved = platform("127.0.0.1:9009", "https://login.acme.example");
    let unrelated = policy(
        "a",
        &[("a1", "/a", "public"), ("a2", "/a/2", "nobody:knows")],
    );
    let config = gateway.load();
    let config = gateway
        .reload(
            &config,
            &[("a.yml", &unrelated), ("portcullis.yaml", &moved)],
        )
        .unwrap();
    assert_eq!(
        (held(&config), config.upstreams[0].addresses[0].port),
        (vec!["a.yml".to_owned()], 9009)
    );
}

#[test]
fn a_path_in_any_spelling_of_yaml_holds_what_it_touches() {
    let spellings = [
        ("/it's/{*rest}", "{ path: '/it''s/{id}' }"),
        ("/it s/{*rest}", "{ path: \"/it\n        s/{id}\" }"),
        ("/it s/{*rest}", "{ path: /it\n        s/{id} }"),
        ("/it s/{*rest}", "\n      path: /it\n        s/{id}"),
        (
            "/it s/{*rest}",
            "\n      path: >-\n        /it\n        s/{id}",
        ),
        (
            "/it s/{*rest}",
            "\n      path: '\n        /it\n        s/{id}'",
        ),
        (
            "/it s/{*rest}",
            "\n      path:\n        /it\n        s/{id}",
        ),
        ("/it/{*rest}", "{ path: \"\\x2fit/{id}\" }"),
    ];
    for (other, matches) in spellings {
        // Nothing of it can be used, and of the one all that is known is its text.
        for fault in ["rutes: []\n", "routes: [\n", "owner: twice\n"] {
            let before = [
                ("a.yml", &*policy("a", &[("a1", "/a", "a:use")])),
                ("b.yml", &*policy("b", &[("b1", other, "b:use")])),
            ];
            let gateway = Gateway::new(&before);
            let config = gateway.load();
            let next = format!(
                "{}  - name: it\n    match: {matches}\n    upstream: orders\n    require: {{ scopes: [\"a:use\"] }}\n{fault}",
                policy("a", &[("a1", "/a", "a:use")])
            );
            let public = policy("b", &[("b1", other, "public")]);
            let config = gateway
                .reload(&config, &[("a.yml", &next), ("b.yml", &public)])
                .unwrap();
            assert_eq!(held(&config), ["a.yml", "b.yml"], "{matches} {fault}");
        }
    }
}

#[test]
fn an_issuer_can_be_removed_while_a_file_is_held() {
    let gateway = Gateway::new(&[("a.yml", &policy("a", &[("a1", "/a", "a:use")]))]);
    let config = gateway.load();
    let all = platform("127.0.0.1:9000", "https://login.acme.example");
    let less: String = all
        .lines()
        .filter(|line| !line.contains("name: other"))
        .map(|line| format!("{line}\n"))
        .collect();
    let config = gateway
        .reload(&config, &[("a.yml", BROKEN), ("portcullis.yaml", &less)])
        .unwrap();
    assert_eq!(
        (held(&config), config.issuers.len()),
        (vec!["a.yml".to_owned()], 1)
    );
}

#[test]
fn an_upstream_that_a_held_route_needs_cannot_be_dropped() {
    let gateway = Gateway::new(&[("a.yml", &policy("a", &[("a1", "/a", "a:use")]))]);
    let config = gateway.load();
    let all = platform("127.0.0.1:9000", "https://login.acme.example");
    let renamed = all.replace("name: orders", "name: purchases");
    let error = gateway
        .reload(&config, &[("a.yml", BROKEN), ("portcullis.yaml", &renamed)])
        .unwrap_err();
    let codes: Vec<_> = error.iter().map(|it| it.code).collect();
    assert!(
        codes.contains(&"unknown_name") && codes.contains(&"syntax"),
        "{error}"
    );
}

/// One version of one file: its routes, and whether something makes it unusable.
#[derive(Debug, Clone)]
struct Version {
    routes: Vec<RouteText>,
    fault: Fault,
}

#[derive(Debug, Clone)]
struct RouteText {
    path: usize,
    host: bool,
    access: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    Rule,
    Key,
    Syntax,
}

const PATHS: [&str; 7] = [
    "/{*rest}",
    "/a",
    "/a/{*rest}",
    "/{x}",
    "/a/b",
    "/{x}/b",
    "/b",
];
const ACCESSES: [&str; 3] = ["public", "token", "0:use"];

impl Version {
    fn text(&self, file: usize, fault: Fault) -> String {
        let mut text = format!("owner: owner{file}\nscopes: {{ \"{file}:use\": text }}\nroutes:\n");
        let mut seen = Vec::new();
        for route in &self.routes {
            // Within a file, and between files, nothing may match with equal weight.
            if seen.contains(&(route.path, route.host)) || route.path % 3 != file {
                continue;
            }
            seen.push((route.path, route.host));
            let host = if route.host { "host: x, " } else { "" };
            let access = match ACCESSES[route.access] {
                "public" => "public: true",
                "token" => "require: { authenticated_only: true }",
                _ => "require: { scopes: [\"0:use\"] }",
            };
            text.push_str(&format!(
                "  - {{ name: r{file}-{}-{}, match: {{ {host}path: \"{}\" }}, upstream: orders, {access}, yields_to: [owner0, owner1, owner2] }}\n",
                route.path, route.host, PATHS[route.path]
            ));
        }
        if seen.is_empty() {
            text = format!("owner: owner{file}\nscopes: {{ \"{file}:use\": text }}\n");
        }
        text + match fault {
            Fault::None | Fault::Rule => "",
            Fault::Key => "unknown: 1\n",
            Fault::Syntax => "\"\n",
        }
    }

    fn broken_text(&self, file: usize) -> String {
        match self.fault {
            Fault::Rule => self
                .text(file, Fault::None)
                .replace("owner: owner", "owner: an owner "),
            fault => self.text(file, fault),
        }
    }
}

fn versions() -> impl Strategy<Value = Vec<Version>> {
    let route = (0..PATHS.len(), any::<bool>(), 0..ACCESSES.len())
        .prop_map(|(path, host, access)| RouteText { path, host, access });
    let fault = (0..8_u8).prop_map(|number| match number {
        0 => Fault::Rule,
        1 => Fault::Key,
        2 => Fault::Syntax,
        _ => Fault::None,
    });
    let version = (prop::collection::vec(route, 0..5), fault)
        .prop_map(|(routes, fault)| Version { routes, fault });
    prop::collection::vec(version, 3)
}

/// Who is let in where: for each host and path, nobody, or whom and to which address.
fn authority(config: &Config) -> Vec<Option<String>> {
    let host: Host = "x".parse().unwrap();
    let mut authority = Vec::new();
    for host in [None, Some(&host)] {
        for path in [
            "/", "/a", "/a/b", "/a/c", "/b", "/b/b", "/c", "/c/b", "/a/b/c",
        ] {
            let path = RequestPath::parse(path).unwrap();
            let request = Request {
                method: Some(Method::Get),
                host,
                path,
            };
            authority.push(config.route_table.find(&request).ok().map(|route| {
                let access = match &route.access {
                    Access::Public => "public".to_owned(),
                    Access::Protected(requirement) => {
                        format!("token {}", requirement.scopes.names())
                    }
                };
                let upstream = config.routes[route.id.index()].upstream;
                format!("{access} to {:?}", config.upstreams[upstream].addresses)
            }));
        }
    }
    authority
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(300))]
    #[test]
    fn no_mix_admits_what_neither_version_admits(old in versions(), new in versions(), moves in any::<bool>()) {
        let gateway = Gateway::new(&[]);
        let write_all = |versions: &[Version], is_broken: bool| {
            for (file, version) in versions.iter().enumerate() {
                let text = if is_broken { version.broken_text(file) } else { version.text(file, Fault::None) };
                gateway.write(&format!("{file}.yml"), &text);
            }
        };
        write_all(&old, false);
        let before = gateway.load();
        write_all(&new, false);
        if moves {
            gateway.write("portcullis.yaml", &platform("127.0.0.1:9009", "https://login.acme.example"));
        }
        let intended = gateway.load();
        write_all(&new, true);
        let Ok(mixed) = gateway.reload(&before, &[]) else {
            assert!(new.iter().any(|version| version.fault != Fault::None), "a good configuration was refused");
            return Ok(());
        };
        let all_good = new.iter().all(|version| version.fault == Fault::None);
        assert_eq!(held(&mixed).is_empty(), all_good);
        for ((before, intended), mixed) in authority(&before).iter().zip(authority(&intended)).zip(authority(&mixed)) {
            assert!(mixed.is_none() || mixed == *before || mixed == intended, "{before:?} {intended:?} {mixed:?}");
        }
    }
}
