//! The Prometheus text exposition, read back.

use std::collections::BTreeMap;

/// One scrape.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics(Vec<Sample>);

#[derive(Debug, Clone, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    /// Reads samples; comments are skipped.
    ///
    /// # Panics
    /// When a line is not what the format allows.
    pub fn parse(text: &str) -> Self {
        let lines = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self(lines.map(parse_sample).collect())
    }

    /// The sum of all series of `name` that carry these labels; `None` when there is no such series.
    pub fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut series = self.series(name, labels).peekable();
        series.peek()?;
        Some(series.map(|sample| sample.value).sum())
    }

    /// Like [`Metrics::find`].
    ///
    /// # Panics
    /// When there is no such series.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels).unwrap_or_else(|| {
            let known: Vec<_> = self.0.iter().filter(|sample| sample.name == name).collect();
            panic!("no series {name}{labels:?}; there are {known:?}")
        })
    }

    /// How many series the scrape has.
    pub fn series_count(&self) -> usize {
        self.0.len()
    }

    /// Every metric name.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.0.iter().map(|sample| sample.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Every label value.
    pub fn label_values(&self) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .flat_map(|sample| sample.labels.values().map(String::as_str))
    }

    fn series(&self, name: &str, labels: &[(&str, &str)]) -> impl Iterator<Item = &Sample> {
        self.0.iter().filter(move |sample| {
            sample.name == name
                && labels
                    .iter()
                    .all(|(label, value)| sample.labels.get(*label).is_some_and(|v| v == value))
        })
    }
}

fn parse_sample(line: &str) -> Sample {
    let (series, value) = line
        .rsplit_once(' ')
        .unwrap_or_else(|| panic!("no value: {line}"));
    let (name, labels) = match series.split_once('{') {
        None => (series, ""),
        Some((name, labels)) => (name, labels.strip_suffix('}').expect("closing brace")),
    };
    Sample {
        name: name.to_owned(),
        labels: parse_labels(labels),
        value: value
            .parse()
            .unwrap_or_else(|_| panic!("not a number: {line}")),
    }
}

/// `a="x",b="y"`, where values escape `"`, `\` and the newline.
fn parse_labels(mut text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    while let Some((name, rest)) = text.split_once("=\"") {
        let mut value = String::new();
        let mut characters = rest.char_indices();
        let end = loop {
            match characters.next().expect("closing quote") {
                (at, '"') => break at,
                (_, '\\') => match characters.next().expect("escaped character").1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.insert(name.trim_start_matches(',').to_owned(), value);
        text = &rest[end + 1..];
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_over_the_labels_that_are_not_named() {
        let metrics = Metrics::parse(
            "# TYPE a counter\na{x=\"1\",y=\"p\"} 2\na{x=\"1\",y=\"q\\\"}\"} 3\na{x=\"2\"} 4\nb 0.5\n",
        );
        assert_eq!(metrics.find("a", &[("x", "1")]), Some(5.0));
        assert_eq!(metrics.find("a", &[("y", "q\"}")]), Some(3.0));
        assert_eq!(metrics.find("a", &[]), Some(9.0));
        assert_eq!(metrics.find("b", &[]), Some(0.5));
        assert_eq!(metrics.find("c", &[]), None);
        assert_eq!(metrics.names(), ["a", "b"]);
    }
}
