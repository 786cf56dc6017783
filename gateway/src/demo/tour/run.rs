//! The tour, taken: each call is made, told, and compared with its promise.

use std::fmt;
use std::io::{self, Write};

use super::caller::Caller;
use super::promise::Observed;
use super::{CALLS, Places};

/// How a tour went.
#[derive(Debug)]
pub(crate) struct Report {
    calls: usize,
    /// The numbers of the calls that broke a promise, counted from 1 as they are printed.
    broken: Vec<usize>,
}

impl Report {
    /// Whether every call went as promised.
    pub(crate) fn is_as_promised(&self) -> bool {
        self.broken.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { calls, broken } = self;
        if self.is_as_promised() {
            return write!(f, "All {calls} calls went as promised.");
        }
        let numbers: Vec<_> = broken.iter().map(ToString::to_string).collect();
        let (broken, numbers) = (broken.len(), numbers.join(", "));
        write!(
            f,
            "{broken} of {calls} calls did not go as promised: {numbers}."
        )
    }
}

/// Makes every call of the tour and tells about each on `out`.
///
/// # Errors
/// `out` cannot be written to. What goes wrong with a call is in the report.
pub(in crate::demo) async fn run(
    places: &Places,
    caller: &mut Caller,
    out: &mut (dyn Write + Send),
) -> io::Result<Report> {
    let mut broken = Vec::new();
    for (number, call) in (1..).zip(&CALLS) {
        writeln!(out, "{number:>2}. {}", call.title)?;
        write_lines("sent", &call.action.request(), out)?;
        let before = places.requests();
        let answer = caller.perform(&call.action, places).await;
        let observed = Observed {
            answer,
            reached: places.reached_since(&before),
        };
        write_lines("got", &observed.got(), out)?;
        write_lines("service saw", &observed.seen(), out)?;
        let complaints = call.promise.complaints(&observed);
        if !complaints.is_empty() {
            broken.push(number);
            writeln!(out, "    NOT AS PROMISED: {}", call.promise)?;
            write_lines("", &complaints, out)?;
        }
        writeln!(out)?;
    }
    Ok(Report {
        calls: CALLS.len(),
        broken,
    })
}

/// The label stands before the first line.
fn write_lines(label: &str, lines: &[String], out: &mut (dyn Write + Send)) -> io::Result<()> {
    for (line, label) in lines
        .iter()
        .zip(std::iter::once(label).chain(std::iter::repeat("")))
    {
        writeln!(out, "    {label:<13}{line}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_the_calls_that_broke_a_promise() {
        let mut report = Report {
            calls: 16,
            broken: Vec::new(),
        };
        assert!(report.is_as_promised());
        assert_eq!(report.to_string(), "All 16 calls went as promised.");
        report.broken = vec![3, 9];
        assert!(!report.is_as_promised());
        assert_eq!(
            report.to_string(),
            "2 of 16 calls did not go as promised: 3, 9."
        );
    }
}
