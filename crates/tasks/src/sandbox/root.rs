//! The guest's file tree: an empty memory file system into which the allowed paths are bound, read-only, at their own names.
//!
//! The plan is made before the guest's process exists (symbolic links are resolved here), because between `clone` and `execve` only plain
//! system calls are safe; [`Plan::build`] runs there and does nothing else.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use postgrad_base::{Context, Error, Result};

/// Where the new root is put together. Any directory that exists everywhere and holds none of the bound paths would do.
const NEW_ROOT: &str = "/proc";
/// The scratch folder, as the guest sees it.
pub const SCRATCH: &str = "/scratch";
/// Devices that a guest may open.
pub const DEVICES: [&str; 4] = ["/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"];

enum Step {
    Dir(CString),
    Link { target: CString, at: CString },
    Bind { from: CString, at: CString, device: bool, file: bool },
}

pub struct Plan {
    steps: Vec<Step>,
    bound: Vec<PathBuf>,
    made: Vec<PathBuf>,
    root: CString,
    root_options: CString,
    scratch: CString,
    scratch_options: CString,
}

fn c(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes()).context(|| format!("a path with a zero byte: {path:?}"))
}

fn inside(path: &Path) -> Result<CString> {
    c(&Path::new(NEW_ROOT).join(path.strip_prefix("/").unwrap_or(path)))
}

impl Plan {
    /// `read`: files and folders that the guest may read and run; `uid`: its user inside.
    pub fn new(read: &[PathBuf], scratch_bytes: u64, scratch_files: u32, uid: u32) -> Result<Self> {
        let mut plan = Self {
            steps: vec![],
            bound: vec![],
            made: vec![],
            root: CString::new(NEW_ROOT).expect("constant"),
            root_options: CString::new("size=1m,nr_inodes=4096,mode=755").expect("constant"),
            scratch: inside(Path::new(SCRATCH))?,
            scratch_options: CString::new(format!(
                "size={scratch_bytes},nr_inodes={},mode=700,uid={uid},gid={uid}",
                scratch_files.saturating_add(1)
            ))
            .expect("digits"),
        };
        // The loader and its cache name libraries through these, whatever the folder they lead to.
        for link in ["/lib", "/lib64"] {
            if Path::new(link).is_symlink() {
                plan.links_of(Path::new(link))?;
            }
        }
        let mut read = read.to_vec();
        read.sort_by_key(|path| path.components().count());
        for path in &read {
            plan.add(path, false)?;
        }
        for device in DEVICES {
            plan.add(Path::new(device), true)?;
        }
        plan.steps.push(Step::Dir(plan.scratch.clone()));
        // Programs that do not ask for the temporary folder find it all the same, unless something allowed lies there.
        let tmp = Path::new("/tmp");
        if !plan.made.iter().chain(&plan.bound).any(|path| path.starts_with(tmp)) {
            plan.steps.push(Step::Link { target: c(Path::new(SCRATCH))?, at: inside(tmp)? });
        }
        Ok(plan)
    }

    fn links_of(&mut self, link: &Path) -> Result<()> {
        let target = std::fs::read_link(link).context(|| format!("cannot read the link {}", link.display()))?;
        if !self.made.contains(&link.to_path_buf()) {
            self.made.push(link.to_path_buf());
            self.steps.push(Step::Link { target: c(&target)?, at: inside(link)? });
        }
        Ok(())
    }

    /// Walks one path from the root, copying links and making folders, and binds what it ends at.
    fn add(&mut self, path: &Path, device: bool) -> Result<()> {
        if !path.is_absolute() {
            return Err(Error::usage(format!("a path the guest may read must be absolute: {}", path.display())));
        }
        let mut rest: Vec<PathBuf> = vec![path.to_path_buf()];
        let mut here = PathBuf::from("/");
        let mut links = 0;
        while let Some(next) = rest.pop() {
            let parts: Vec<_> = next.components().collect();
            for (i, part) in parts.iter().enumerate() {
                match part {
                    Component::RootDir => here = PathBuf::from("/"),
                    Component::ParentDir => {
                        here.pop();
                    }
                    Component::Normal(name) => here.push(name),
                    _ => {}
                }
                if !matches!(part, Component::Normal(_)) {
                    continue;
                }
                if self.bound.iter().any(|root| here.starts_with(root)) {
                    return Ok(());
                }
                let last = i + 1 == parts.len() && rest.is_empty();
                let kind = here.symlink_metadata().context(|| format!("the guest needs {}", here.display()))?;
                if kind.is_symlink() {
                    links += 1;
                    if links > 40 {
                        return Err(Error::work(format!("too many links in {}", path.display())));
                    }
                    self.links_of(&here)?;
                    let target =
                        std::fs::read_link(&here).context(|| format!("cannot read the link {}", here.display()))?;
                    let tail: PathBuf = parts[i + 1..].iter().collect();
                    if !tail.as_os_str().is_empty() {
                        rest.push(tail);
                    }
                    rest.push(target);
                    here.pop();
                    break;
                }
                if last {
                    let at = inside(&here)?;
                    self.steps.push(Step::Bind { from: c(&here)?, at, device, file: !kind.is_dir() });
                    self.bound.push(here.clone());
                } else if !self.made.contains(&here) {
                    self.made.push(here.clone());
                    self.steps.push(Step::Dir(inside(&here)?));
                }
            }
        }
        Ok(())
    }

    /// Makes the tree and enters it. Called in the guest's process, in new user and mount namespaces.
    ///
    /// # Safety
    /// Only system calls, no allocation: may run after `clone` in a process that had threads.
    pub unsafe fn build(&self) -> Result<(), i32> {
        let none = std::ptr::null::<libc::c_char>();
        let safe = libc::MS_NOSUID | libc::MS_NODEV;
        call(libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast()))?;
        tmpfs(&self.root, safe, &self.root_options)?;
        for step in &self.steps {
            match step {
                Step::Dir(at) => made(libc::mkdir(at.as_ptr(), 0o755))?,
                Step::Link { target, at } => made(libc::symlink(target.as_ptr(), at.as_ptr()))?,
                Step::Bind { from, at, device, file } => {
                    if *file {
                        let fd = libc::open(at.as_ptr(), libc::O_CREAT | libc::O_WRONLY | libc::O_CLOEXEC, 0o644);
                        call(fd)?;
                        libc::close(fd);
                    } else {
                        made(libc::mkdir(at.as_ptr(), 0o755))?;
                    }
                    call(libc::mount(from.as_ptr(), at.as_ptr(), none, libc::MS_BIND | libc::MS_REC, none.cast()))?;
                    let nodev = if *device { 0 } else { libc::MOUNT_ATTR_NODEV };
                    let readonly = if *device { 0 } else { libc::MOUNT_ATTR_RDONLY };
                    set_attributes(at, libc::MOUNT_ATTR_NOSUID | nodev | readonly, libc::AT_RECURSIVE)?;
                }
            }
        }
        tmpfs(&self.scratch, safe | libc::MS_NOEXEC, &self.scratch_options)?;
        call(libc::chdir(self.root.as_ptr()))?;
        call(libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) as i32)?;
        call(libc::umount2(c".".as_ptr(), libc::MNT_DETACH))?;
        set_attributes(c"/", libc::MOUNT_ATTR_RDONLY, 0)
    }
}

unsafe fn tmpfs(at: &CStr, flags: libc::c_ulong, options: &CStr) -> Result<(), i32> {
    call(libc::mount(c"tmpfs".as_ptr(), at.as_ptr(), c"tmpfs".as_ptr(), flags, options.as_ptr().cast()))
}

unsafe fn set_attributes(at: &CStr, set: u64, flags: libc::c_int) -> Result<(), i32> {
    let attributes = [set, 0, 0, 0u64]; // struct mount_attr: set, clear, propagation, userns
    let size = size_of_val(&attributes);
    call(libc::syscall(libc::SYS_mount_setattr, libc::AT_FDCWD, at.as_ptr(), flags, attributes.as_ptr(), size) as i32)
}

pub fn errno() -> i32 {
    // SAFETY: the C library's own thread-local number.
    unsafe { *libc::__errno_location() }
}

/// A system call's answer as a result.
pub fn call(answer: i32) -> Result<(), i32> {
    if answer < 0 { Err(errno()) } else { Ok(()) }
}

/// As [`call`], where being there already is well.
fn made(answer: i32) -> Result<(), i32> {
    call(answer).or_else(|e| if e == libc::EEXIST { Ok(()) } else { Err(e) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_through_links_is_copied_link_by_link() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(base.join("real/deep")).unwrap();
        std::fs::write(base.join("real/deep/file"), "x").unwrap();
        std::os::unix::fs::symlink("real", base.join("link")).unwrap();
        let plan = Plan::new(&[base.join("link/deep/file")], 1 << 20, 16, 1000).unwrap();
        let links: Vec<_> = plan.steps.iter().filter(|s| matches!(s, Step::Link { .. })).collect();
        assert!(links.iter().any(|s| matches!(s, Step::Link { target, .. } if target.as_c_str() == c"real")));
        assert!(plan.bound.contains(&base.join("real/deep/file")));
        // A path below one that is bound needs nothing more.
        let plan = Plan::new(&[base.join("real/deep"), base.clone()], 1 << 20, 16, 1000).unwrap();
        assert!(plan.bound.contains(&base) && !plan.bound.contains(&base.join("real/deep")));
    }

    #[test]
    fn link_loops_and_absent_paths_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("b", dir.path().join("a")).unwrap();
        std::os::unix::fs::symlink("a", dir.path().join("b")).unwrap();
        assert!(Plan::new(&[dir.path().join("a")], 1, 1, 1).is_err());
        assert!(Plan::new(&[dir.path().join("absent")], 1, 1, 1).is_err());
        assert!(Plan::new(&["relative".into()], 1, 1, 1).is_err());
    }
}
