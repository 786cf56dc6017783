//! Every row of the list is met: by cases, by tests, by a recipe, or by a feature that it
//! says it waits for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::{FILES, catalogue};

/// How many rows each section has: none gets lost unnoticed.
const SECTIONS: &[(char, usize)] = &[
    ('A', 7),
    ('B', 22),
    ('C', 22),
    ('D', 12),
    ('F', 20),
    ('H', 19),
    ('I', 13),
    ('J', 37),
    ('K', 10),
    ('L', 8),
    ('M', 7),
    ('N', 9),
    ('P', 15),
    ('Q', 7),
    ('R', 20),
    ('T', 13),
    ('W', 11),
    ('X', 34),
];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rows {
    rows: Vec<Row>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    id: String,
    attack: String,
    #[serde(default)]
    tests: Vec<String>,
    waits_for: Option<String>,
    /// A command of this repository, for what takes too long here.
    recipe: Option<String>,
}

fn rows() -> Vec<Row> {
    let mut files: Vec<_> = fs::read_dir(catalogue::directory().join("rows"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
        .iter()
        .flat_map(|path| {
            let document = catalogue::read_yaml(path);
            let rows: Rows = serde_json::from_value(document)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            rows.rows
        })
        .collect()
}

#[test]
fn every_row_is_met_and_every_case_has_a_row() {
    let rows = rows();
    let cases: BTreeSet<String> = FILES
        .iter()
        .flat_map(|file| catalogue::load(&format!("{file}.yaml")))
        .map(|case| case.id)
        .collect();
    let mut wrong = Vec::new();
    let mut known = BTreeSet::new();
    for row in &rows {
        if !known.insert(row.id.clone()) {
            wrong.push(format!("{} comes twice", row.id));
        }
        if row.attack.trim().is_empty() {
            wrong.push(format!("{} does not say what it is", row.id));
        }
        let is_met = cases.contains(&row.id) || !row.tests.is_empty() || row.recipe.is_some();
        if !is_met && row.waits_for.is_none() {
            wrong.push(format!("{} ({}) is not met", row.id, row.attack));
        }
    }
    for id in cases.difference(&known) {
        wrong.push(format!("{id} has cases and no row"));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_section_has_lost_a_row() {
    let mut found: BTreeMap<char, usize> = BTreeMap::new();
    for row in rows() {
        let section = row.id.chars().next().unwrap();
        *found.entry(section).or_default() += 1;
    }
    let found: Vec<_> = found.into_iter().collect();
    assert_eq!(found, SECTIONS);
}

#[test]
fn tests_and_recipes_that_rows_name_exist_and_are_run() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut tests = BTreeSet::new();
    for part in ["policy", "config", "gateway", "tests"] {
        collect_tests(&workspace.join(part), &mut tests);
    }
    let missing: Vec<_> = rows()
        .into_iter()
        .flat_map(|row| {
            row.tests
                .into_iter()
                .map(move |test| (row.id.clone(), test))
        })
        .filter(|(_, test)| !tests.contains(test))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
    for row in rows() {
        let recipe = row.recipe.unwrap_or_else(|| "tests/run".to_owned());
        let command = recipe.split(' ').next().unwrap_or_default();
        assert!(workspace.join(command).is_file(), "{}: {recipe}", row.id);
    }
}

#[test]
fn every_file_is_run() {
    let mut found: Vec<_> = fs::read_dir(catalogue::directory())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    found.sort();
    assert_eq!(found, FILES);
}

#[test]
fn function_that_is_not_run_is_no_test() {
    let text = [
        "#[test]",
        "fn simple() {}",
        "fn helper() {}",
        "#[test]",
        "#[ignore = \"slow\"]",
        "fn ignored() {}",
        "#[tokio::test(flavor = \"multi_thread\")]",
        "// Not the fn that it looks like.",
        "async fn with_a_runtime() {}",
        "proptest! {",
        "    #[test]",
        "    fn of_a_property(n in 0..9) {}",
        "}",
    ];
    let tests = tests_in(&text.join("\n"));
    assert_eq!(tests, ["simple", "with_a_runtime", "of_a_property"]);
}

/// Names of the functions in Rust files below `directory` that are run as tests.
fn collect_tests(directory: &Path, tests: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let is_source = !path.ends_with("node_modules") && !path.ends_with("target");
            if is_source {
                collect_tests(&path, tests);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            tests.extend(tests_in(&fs::read_to_string(&path).unwrap()));
        }
    }
}

/// Names of the functions that are run as tests; those of a `proptest!` say so like any other.
fn tests_in(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let (mut is_test, mut is_ignored) = (false, false);
    for line in text.lines().map(str::trim) {
        if line.starts_with("//") {
            continue;
        }
        is_test |= line == "#[test]" || line.starts_with("#[tokio::test");
        let is_conditional = line.starts_with("#[cfg_attr") && line.contains("ignore");
        is_ignored |= line.starts_with("#[ignore") || is_conditional;
        if let Some((_, after)) = line.split_once("fn ") {
            let name = after.split(['(', '<']).next().unwrap_or_default();
            if is_test && !is_ignored {
                names.push(name.to_owned());
            }
            (is_test, is_ignored) = (false, false);
        }
    }
    names
}
