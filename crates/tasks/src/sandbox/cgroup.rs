//! A control group (version 2) around a guest: total memory and number of tasks, counted by the kernel.
//!
//! Used where this process's own group hands the memory and pids controllers to its children and lets us make one
//! (`systemd-run --user --scope -p Delegate=yes`, most container engines with a writable cgroup tree). Processes of the caller are never moved.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use postgrad_base::{Context, Result};

use super::Limits;

pub struct Cgroup {
    dir: PathBuf,
}

/// The folder below which groups can be made, or why there is none.
pub fn parent() -> Result<PathBuf, String> {
    let own = std::fs::read_to_string("/proc/self/cgroup").map_err(|e| e.to_string())?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").map_err(|e| e.to_string())?;
    let dir = locate(&own, &mounts)?;
    usable(&dir)?;
    Ok(dir)
}

fn locate(own: &str, mounts: &str) -> Result<PathBuf, String> {
    let group = own.lines().find_map(|l| l.strip_prefix("0::")).ok_or("this process is in no version 2 group")?;
    let mount = mounts
        .lines()
        .filter_map(|line| line.split_once(" - ").filter(|(_, fs)| fs.starts_with("cgroup2 ")))
        .filter_map(|(left, _)| left.split(' ').nth(4))
        .next()
        .ok_or("no version 2 hierarchy is mounted")?;
    if group.contains("..") {
        return Err("this process's group lies outside its cgroup namespace".into());
    }
    Ok(Path::new(mount).join(group.trim_start_matches('/')))
}

fn usable(dir: &Path) -> Result<(), String> {
    let handed =
        std::fs::read_to_string(dir.join("cgroup.subtree_control")).map_err(|e| format!("{}: {e}", dir.display()))?;
    for controller in ["memory", "pids"] {
        if !handed.split_whitespace().any(|c| c == controller) {
            return Err(format!("{} does not hand its children the {controller} controller", dir.display()));
        }
    }
    let trial = Cgroup::create(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    drop(trial);
    Ok(())
}

impl Cgroup {
    fn create(parent: &Path) -> std::io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let dir = parent.join(format!("postgrad-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir(&dir)?;
        Ok(Self { dir })
    }

    /// A group with the limits set, or none where the machine allows none.
    pub fn make(limits: &Limits) -> Result<Option<Self>> {
        let Some(parent) = &super::capabilities().cgroup_parent else { return Ok(None) };
        let group = Self::create(parent).context(|| "cannot make a control group".into())?;
        group.limit(limits)?;
        Ok(Some(group))
    }

    fn limit(&self, limits: &Limits) -> Result<()> {
        let set = |name: &str, value: u64| {
            std::fs::write(self.dir.join(name), value.to_string())
                .context(|| format!("cannot set {name} of a control group"))
        };
        // The scratch folder's pages are the group's memory too.
        set("memory.max", limits.memory.saturating_add(limits.scratch_bytes))?;
        set("pids.max", limits.tasks as u64 + 2)?;
        let _ = std::fs::write(self.dir.join("memory.swap.max"), "0"); // absent without swap accounting
        Ok(())
    }

    /// Moves a process that has not begun to run into the group.
    pub fn take(&self, pid: i32) -> Result<()> {
        std::fs::write(self.dir.join("cgroup.procs"), pid.to_string())
            .context(|| "cannot move a guest into its control group".into())
    }
}

impl Cgroup {
    /// How many processes the kernel has killed in it for want of memory.
    pub fn kills(&self) -> u64 {
        let events = std::fs::read_to_string(self.dir.join("memory.events")).unwrap_or_default();
        let count = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = std::fs::write(self.dir.join("cgroup.kill"), "1");
        // Its last process may still be on its way out.
        for _ in 0..50 {
            if std::fs::remove_dir(&self.dir).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_found_below_the_mount() {
        let mounts = "31 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(locate("0::/user.slice/a.scope\n", mounts).unwrap(), Path::new("/sys/fs/cgroup/user.slice/a.scope"));
        assert_eq!(locate("1:cpu:/x\n0::/\n", mounts).unwrap(), Path::new("/sys/fs/cgroup/"));
        assert!(locate("1:cpu:/x\n", mounts).is_err());
        assert!(locate("0::/a\n", "31 23 0:26 / /x rw - tmpfs tmpfs rw\n").is_err());
        assert!(locate("0::/../x\n", mounts).is_err());
    }

    #[test]
    fn limits_are_written_and_missing_controllers_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("cgroup.subtree_control"), "cpu memory\n").unwrap();
        assert!(usable(dir.path()).unwrap_err().contains("pids"));
        let group = Cgroup::create(dir.path()).unwrap();
        let limits = Limits { memory: 1 << 20, scratch_bytes: 1 << 20, tasks: 3, ..Limits::default() };
        group.limit(&limits).unwrap();
        assert_eq!(std::fs::read_to_string(group.dir.join("memory.max")).unwrap(), "2097152");
        assert_eq!(group.kills(), 0);
        std::fs::write(group.dir.join("memory.events"), "low 0\noom 3\noom_kill 2\noom_group_kill 0\n").unwrap();
        assert_eq!(group.kills(), 2);
        assert_eq!(std::fs::read_to_string(group.dir.join("pids.max")).unwrap(), "5");
    }
}
