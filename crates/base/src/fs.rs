//! Files that are complete or absent, and one process per folder.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs4::fs_std::FileExt;

use crate::{Context, Error, Result};

/// Writes a file under a temporary name in the same folder, syncs it and renames it into place. A kill or a full disk
/// leaves the old file (or none), never half of the new one.
pub fn write_atomic(path: &Path, fill: impl FnOnce(&mut BufWriter<&mut File>) -> Result<()>) -> Result<()> {
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(dir).context(|| format!("cannot make the folder {}", dir.display()))?;
    let mut temp = tempfile::Builder::new()
        .prefix(".tmp-")
        .tempfile_in(dir)
        .context(|| format!("cannot write in {}", dir.display()))?;
    {
        let mut out = BufWriter::new(temp.as_file_mut());
        fill(&mut out)?;
        out.flush().context(|| format!("cannot write {}", path.display()))?;
    }
    temp.as_file().sync_all().context(|| format!("cannot write {}", path.display()))?;
    set_plain_mode(temp.as_file());
    temp.persist(path).map_err(|e| e.error).context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}

/// [`write_atomic`] of bytes at hand.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomic(path, |out| out.write_all(bytes).context(|| format!("cannot write {}", path.display())))
}

/// Temporary files are private; what they become should look like any other file.
fn set_plain_mode(file: &File) {
    use std::os::unix::fs::PermissionsExt;
    let _ = file.set_permissions(fs::Permissions::from_mode(0o644));
}

/// Fills a folder under a temporary name and renames it into place when it is whole. An existing folder of that name is
/// replaced. `fill` gets the temporary folder.
pub fn write_dir_atomic(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).context(|| format!("cannot make the folder {}", parent.display()))?;
    let temp = tempfile::Builder::new()
        .prefix(".tmp-")
        .tempdir_in(parent)
        .context(|| format!("cannot write in {}", parent.display()))?;
    fill(temp.path())?;
    for entry in fs::read_dir(temp.path()).context(|| format!("cannot read {}", temp.path().display()))? {
        let entry = entry.context(|| format!("cannot read {}", temp.path().display()))?;
        if entry.path().is_file() {
            File::open(entry.path())
                .and_then(|f| f.sync_all())
                .context(|| format!("cannot write {}", entry.path().display()))?;
        }
    }
    if path.exists() {
        let old = tempfile::Builder::new()
            .prefix(".old-")
            .tempdir_in(parent)
            .context(|| format!("cannot write in {}", parent.display()))?;
        fs::rename(path, old.path().join("was")).context(|| format!("cannot replace {}", path.display()))?;
    }
    {
        use std::os::unix::fs::PermissionsExt;
        let _ = fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o755));
    }
    let whole = temp.keep();
    fs::rename(&whole, path).context(|| format!("cannot write {}", path.display()))?;
    if let Ok(dir) = File::open(parent) {
        let _ = dir.sync_all();
    }
    Ok(())
}

/// Removes what a killed [`write_atomic`] or [`write_dir_atomic`] left in a folder. Call it only with the folder's lock held.
pub fn sweep(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(".tmp-") || name.starts_with(".old-") {
            let path = entry.path();
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
    }
}

/// A folder that one process holds. The lock goes with the process, however it ends.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
    pub dir: PathBuf,
}

impl DirLock {
    /// Takes the lock, or says that another process holds it.
    pub fn take(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).context(|| format!("cannot make the folder {}", dir.display()))?;
        let path = dir.join(".lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .context(|| format!("cannot open {}", path.display()))?;
        // A program that this process is just starting holds a copy of an earlier lock until it runs: a moment.
        for _ in 0..20 {
            if matches!(file.try_lock_exclusive(), Ok(true)) {
                return Ok(Self { _file: file, dir: dir.into() });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(Error::usage("another process works in this folder")
            .at(dir.display())
            .help("wait for it, or give another folder"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        write(&path, b"old").unwrap();
        let failed = write_atomic(&path, |out| {
            out.write_all(b"ne").unwrap();
            Err(Error::work("disk full"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_appears_whole_and_replaces_the_old() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ckpt");
        for text in ["one", "two"] {
            write_dir_atomic(&path, |d| write(&d.join("x"), text.as_bytes())).unwrap();
            assert_eq!(fs::read_to_string(path.join("x")).unwrap(), text);
        }
        assert!(write_dir_atomic(&path, |_| Err(Error::work("no"))).is_err());
        assert_eq!(fs::read_to_string(path.join("x")).unwrap(), "two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn one_holder_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let held = DirLock::take(dir.path()).unwrap();
        assert_eq!(DirLock::take(dir.path()).unwrap_err().exit_code(), 2);
        drop(held);
        DirLock::take(dir.path()).unwrap();
    }
}
