//! What this machine can enforce, found by trying.

use std::path::PathBuf;
use std::sync::OnceLock;

use serde::Serialize;

use super::root::{call, errno};
use super::{cgroup, landlock};

/// One layer of defence on this machine.
#[derive(Clone, Debug, Serialize)]
pub struct Layer {
    pub name: &'static str,
    pub enforced: bool,
    /// Its version, or why it is missing.
    pub note: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct Capabilities {
    pub layers: Vec<Layer>,
    /// Whether untrusted code runs here without being told to.
    pub sandboxed: bool,
    /// What is missing where `sandboxed` is false, or what is weaker than it could be.
    pub notes: Vec<String>,
    #[serde(skip)]
    pub(super) cgroup_parent: Option<PathBuf>,
}

impl Capabilities {
    pub fn has(&self, name: &str) -> bool {
        self.layers.iter().any(|l| l.name == name && l.enforced)
    }
}

/// Layers to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layers {
    /// User, mount and process namespaces: they need one another.
    pub namespaces: bool,
    pub net: bool,
    pub ipc: bool,
    pub uts: bool,
    pub cgroup: bool,
    pub landlock: bool,
    pub seccomp: bool,
}

impl Layers {
    /// All that the machine has.
    pub fn of(capabilities: &Capabilities) -> Self {
        let has = |name| capabilities.has(name);
        Self {
            namespaces: has("user namespace") && has("mount namespace") && has("process namespace"),
            net: has("network namespace"),
            ipc: has("ipc namespace"),
            uts: has("host name namespace"),
            cgroup: has("cgroup namespace"),
            landlock: has("landlock"),
            seccomp: has("seccomp"),
        }
    }

    /// None where untrusted code may run; else what is missing. Seccomp always; files are held by Landlock or by mounts.
    pub fn missing(&self) -> Option<String> {
        if !self.seccomp {
            return Some("no seccomp filters".into());
        }
        (!self.landlock && !self.namespaces).then(|| "neither Landlock nor user, mount and process namespaces".into())
    }
}

/// What this machine can enforce. Tried once per process.
pub fn capabilities() -> &'static Capabilities {
    static FOUND: OnceLock<Capabilities> = OnceLock::new();
    FOUND.get_or_init(probe)
}

fn probe() -> Capabilities {
    let mut layers = vec![];
    let mut layer = |name, found: Result<String, String>| {
        let (enforced, note) = match found {
            Ok(note) => (true, note),
            Err(note) => (false, note),
        };
        layers.push(Layer { name, enforced, note });
    };
    layer("seccomp", seccomp());
    layer("landlock", landlock::version().map(landlock_note));
    for (name, flag) in [
        ("user namespace", 0),
        ("mount namespace", libc::CLONE_NEWNS),
        ("process namespace", libc::CLONE_NEWPID),
        ("network namespace", libc::CLONE_NEWNET),
        ("ipc namespace", libc::CLONE_NEWIPC),
        ("host name namespace", libc::CLONE_NEWUTS),
        ("cgroup namespace", libc::CLONE_NEWCGROUP),
    ] {
        layer(name, namespace(flag));
    }
    let group = cgroup::parent();
    layer("control group", group.clone().map(|dir| format!("memory and pids below {}", dir.display())));
    layer("resource limits", Ok("address space, processor time, tasks, files, file size, core dumps".into()));
    let mut found = Capabilities { layers, sandboxed: false, notes: vec![], cgroup_parent: group.ok() };
    let use_of = Layers::of(&found);
    found.sandboxed = use_of.missing().is_none();
    found.notes.extend(use_of.missing());
    if found.sandboxed && !use_of.namespaces {
        found.notes.push("no namespaces: guests cannot fork, every test starts its own interpreter, the scratch folder lies in the temporary folder".into());
    }
    if found.cgroup_parent.is_none() {
        found.notes.push("no control group: memory of several processes is added up every 20 ms".into());
    }
    found
}

fn landlock_note(version: u32) -> String {
    let mut held = vec!["files"];
    held.extend((version >= 4).then_some("TCP"));
    held.extend((version >= 5).then_some("device control"));
    held.extend((version >= 6).then_some("signals and abstract sockets"));
    format!("version {version}: {}", held.join(", "))
}

fn seccomp() -> Result<String, String> {
    const GET_ACTION_AVAIL: usize = 2;
    let action: u32 = libc::SECCOMP_RET_KILL_PROCESS;
    // SAFETY: asks whether an action is known.
    let answer = unsafe { libc::syscall(libc::SYS_seccomp, GET_ACTION_AVAIL, 0usize, &raw const action) };
    call(answer as i32).map(|()| "filters that kill a process".into()).map_err(|e| match e {
        libc::ENOSYS => "the kernel has no seccomp filters".into(),
        e => std::io::Error::from_raw_os_error(e).to_string(),
    })
}

/// Makes a process in new namespaces; a mount namespace must also let it build a tree there.
fn namespace(flag: i32) -> Result<String, String> {
    // SAFETY: the child makes system calls only and exits.
    let code = unsafe {
        let pid =
            libc::syscall(libc::SYS_clone, libc::CLONE_NEWUSER | flag | libc::SIGCHLD, 0usize, 0usize, 0usize, 0usize)
                as i32;
        if pid == 0 {
            let answer = if flag == libc::CLONE_NEWNS { try_mounts() } else { Ok(()) };
            libc::_exit(answer.err().unwrap_or(0));
        }
        if pid < 0 {
            errno()
        } else {
            let mut status = 0;
            while libc::waitpid(pid, &mut status, 0) < 0 && errno() == libc::EINTR {}
            libc::WEXITSTATUS(status)
        }
    };
    let why = match code {
        0 => return Ok("yes".into()),
        libc::EPERM | libc::EACCES => {
            "not permitted (a container's rules, or user namespaces restricted by the distribution)".into()
        }
        libc::ENOSPC | libc::EUSERS => "the limit user.max_user_namespaces is reached or zero".into(),
        libc::EINVAL => "the kernel was built without it".into(),
        libc::ENOSYS => "the kernel is older than 5.12".into(),
        e => std::io::Error::from_raw_os_error(e).to_string(),
    };
    Err(why)
}

unsafe fn try_mounts() -> Result<(), i32> {
    let none = std::ptr::null::<libc::c_char>();
    call(libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast()))?;
    call(libc::mount(c"tmpfs".as_ptr(), c"/proc".as_ptr(), c"tmpfs".as_ptr(), 0, none.cast()))?;
    let attributes = [libc::MOUNT_ATTR_RDONLY, 0, 0, 0u64];
    call(libc::syscall(
        libc::SYS_mount_setattr,
        libc::AT_FDCWD,
        c"/proc".as_ptr(),
        0,
        attributes.as_ptr(),
        size_of_val(&attributes),
    ) as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layer_is_named_with_a_reason() {
        let found = capabilities();
        assert_eq!(found.layers.len(), 11);
        assert!(found.layers.iter().all(|l| !l.note.is_empty()));
        assert_eq!(found.sandboxed, Layers::of(found).missing().is_none());
    }

    #[test]
    fn without_its_floor_the_sandbox_refuses() {
        let all =
            Layers { namespaces: true, net: true, ipc: true, uts: true, cgroup: true, landlock: true, seccomp: true };
        assert!(all.missing().is_none());
        assert!(Layers { landlock: false, ..all }.missing().is_none());
        assert!(Layers { namespaces: false, ..all }.missing().is_none());
        assert!(Layers { namespaces: false, landlock: false, ..all }.missing().is_some());
        assert!(Layers { seccomp: false, ..all }.missing().is_some());
    }
}
