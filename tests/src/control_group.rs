//! A bound on memory that the kernel holds a process to.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

/// Where groups are made, the file that bounds one, and the file that says what came of it: the older
/// interface, and the one that has taken its place (`cgroups(7)`).
const INTERFACES: [(&str, &str, &str); 2] = [
    (
        "/sys/fs/cgroup/memory",
        "memory.limit_in_bytes",
        "memory.oom_control",
    ),
    ("/sys/fs/cgroup", "memory.max", "memory.events"),
];

/// A control group, which ends with this. What was put into it has to have ended before.
#[derive(Debug)]
pub struct ControlGroup {
    directory: PathBuf,
    events: &'static str,
}

impl ControlGroup {
    /// Of so many bytes; `None` where this process may not make one.
    pub fn of_memory(bytes: u64) -> Option<Self> {
        INTERFACES.iter().find_map(|(root, limit, events)| {
            let directory = Path::new(root).join(format!("portcullis-test-{}", std::process::id()));
            fs::create_dir(&directory).ok()?;
            let group = Self { directory, events };
            fs::write(group.directory.join(limit), bytes.to_string()).ok()?;
            Some(group)
        })
    }

    /// Holds a process to it from now on.
    pub fn take(&self, process: u32) {
        fs::write(self.directory.join("cgroup.procs"), process.to_string()).unwrap();
    }

    /// How many processes the kernel has ended because of it.
    pub fn kills(&self) -> u64 {
        let events = fs::read_to_string(self.directory.join(self.events)).unwrap();
        let kills = events
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill "))
            .expect("a count of kills");
        kills.parse().unwrap()
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        // A process that was killed is in it until it has been buried.
        for _ in 0..100 {
            if fs::remove_dir(&self.directory).is_ok() {
                return;
            }
            sleep(Duration::from_millis(10));
        }
    }
}
