//! Every row of the list is met: by cases, by tests, by a recipe, or by a feature that it
//! says it waits for.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::{FILES, catalogue};

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
fn tests_and_recipes_that_rows_name_exist() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut functions = BTreeSet::new();
    for part in ["policy", "config", "gateway", "tests"] {
        collect_functions(&workspace.join(part), &mut functions);
    }
    let missing: Vec<_> = rows()
        .into_iter()
        .flat_map(|row| {
            row.tests
                .into_iter()
                .map(move |test| (row.id.clone(), test))
        })
        .filter(|(_, test)| !functions.contains(test))
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

/// Names of all functions in Rust files below `directory`.
fn collect_functions(directory: &Path, functions: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let is_source = !path.ends_with("node_modules") && !path.ends_with("target");
            if is_source {
                collect_functions(&path, functions);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            for line in text.lines() {
                let after = line.split_once("fn ").map_or("", |(_, after)| after);
                let name = after.split(['(', '<']).next().unwrap_or_default();
                if !name.is_empty() {
                    functions.insert(name.to_owned());
                }
            }
        }
    }
}
