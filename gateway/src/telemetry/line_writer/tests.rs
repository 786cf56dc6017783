use std::sync::{Condvar, Mutex};

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

fn counter() -> IntCounter {
    IntCounter::new("dropped", "lines lost").expect("valid name")
}

/// Remembers what was written; can be made to stall, to fail, or to take only so many bytes.
#[derive(Clone, Default)]
struct Recorder(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    written: Vec<u8>,
    stalled: bool,
    room: Option<usize>,
    writes: u32,
}

impl Recorder {
    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.0.lock().expect("lock"));
        self.0.1.notify_all();
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.0.lock().expect("lock").written.clone()).expect("UTF-8")
    }
}

impl Write for Recorder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self
            .0
            .1
            .wait_while(self.0.0.lock().expect("lock"), |state| state.stalled)
            .expect("lock");
        let taken = bytes.len().min(state.room.unwrap_or(usize::MAX));
        if taken == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.room = state.room.map(|room| room - taken);
        state.writes += 1;
        state.written.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Recorder {}

#[test]
fn lines_arrive_in_order() {
    let (sink, dropped) = (Recorder::default(), counter());
    let writer = LineWriter::start("lines", sink.clone(), dropped.clone()).expect("thread");
    for line in ["one\n", "two\n", "three\n"] {
        writer.write_line(line.into());
    }
    assert!(writer.flush(PATIENCE));
    assert_eq!(
        (sink.text().as_str(), dropped.get()),
        ("one\ntwo\nthree\n", 0)
    );
}

#[test]
fn lines_that_follow_each_other_are_written_together() {
    let sink = Recorder::default();
    let writer = LineWriter::start("gathered", sink.clone(), counter()).expect("thread");
    let started = Instant::now();
    for _ in 0..200 {
        writer.write_line(b"line\n".to_vec());
        thread::sleep(Duration::from_micros(100));
    }
    assert!(writer.flush(PATIENCE));
    let most = started.elapsed().div_duration_f64(GATHER) + 1.0;
    let writes = sink.0.0.lock().expect("lock").writes;
    assert!(f64::from(writes) <= most, "{writes} writes, at most {most}");
    assert_eq!(sink.text().lines().count(), 200);
}

#[test]
fn a_stalled_sink_never_blocks_and_every_lost_line_is_counted() {
    let (sink, dropped) = (Recorder::default(), counter());
    sink.set(|state| state.stalled = true);
    let writer =
        LineWriter::with_capacity("stalled", sink.clone(), dropped.clone(), 16).expect("thread");
    let started = Instant::now();
    for _ in 0..100_000 {
        writer.write_line(b"line\n".to_vec());
    }
    assert!(started.elapsed() < PATIENCE);
    assert!(
        !writer.flush(Duration::from_millis(20)),
        "nothing can be flushed"
    );
    let waiting = 16 + BATCH_BYTES as u64 / 5 + 1;
    assert!(dropped.get() >= 100_000 - waiting, "{}", dropped.get());

    sink.set(|state| state.stalled = false);
    assert!(writer.flush(PATIENCE));
    assert_eq!(
        sink.text().lines().count() as u64 + dropped.get(),
        100_000,
        "each line is written or counted"
    );
}

#[test]
fn a_line_that_cannot_be_written_is_counted_and_tears_no_other() {
    let (sink, dropped) = (Recorder::default(), counter());
    sink.set(|state| state.room = Some(6));
    let writer = LineWriter::start("full", sink.clone(), dropped.clone()).expect("thread");
    for line in ["one\n", "two\n", "three\n"] {
        writer.write_line(line.into());
    }
    assert!(writer.flush(PATIENCE));
    assert_eq!(dropped.get(), 2, "`two` was torn, `three` never began");

    sink.set(|state| state.room = None);
    writer.write_line("four\n".into());
    assert!(writer.flush(PATIENCE));
    assert_eq!(sink.text(), "one\ntw\nfour\n");
}

#[test]
fn a_rotated_file_is_left_alone_after_reopening() {
    let folder = tempfile::tempdir().expect("folder");
    let (path, rotated) = (
        folder.path().join("access.log"),
        folder.path().join("access.log.1"),
    );
    let writer = LineWriter::start("file", AppendFile::open(&path).expect("file"), counter())
        .expect("thread");
    writer.write_line("before\n".into());
    assert!(writer.flush(PATIENCE));
    std::fs::rename(&path, &rotated).expect("rotate");
    writer.reopen();
    writer.write_line("after\n".into());
    assert!(writer.flush(PATIENCE));
    assert_eq!(
        std::fs::read_to_string(&rotated).expect("old file"),
        "before\n"
    );
    assert_eq!(std::fs::read_to_string(&path).expect("new file"), "after\n");
}

#[test]
fn a_file_that_cannot_be_reopened_stays_in_use() {
    let folder = tempfile::tempdir().expect("folder");
    let (path, moved) = (
        folder.path().join("logs/access.log"),
        folder.path().join("moved"),
    );
    std::fs::create_dir(folder.path().join("logs")).expect("folder");
    let dropped = counter();
    let writer = LineWriter::start(
        "file",
        AppendFile::open(&path).expect("file"),
        dropped.clone(),
    )
    .expect("thread");
    std::fs::rename(folder.path().join("logs"), &moved).expect("move");
    writer.reopen();
    writer.write_line("kept\n".into());
    assert!(writer.flush(PATIENCE));
    assert_eq!(
        std::fs::read_to_string(moved.join("access.log")).expect("file"),
        "kept\n"
    );
    assert_eq!(dropped.get(), 0);
}
