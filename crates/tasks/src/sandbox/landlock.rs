//! Landlock rules: which files may be read and run, where may be written, no TCP, no signals or abstract sockets beyond the cell.
//!
//! What the kernel does not know yet is left out by the crate's best effort; [`super::capabilities`] says which version there is.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, Scope,
};
use postgrad_base::{Context, Error, Result};

use super::root::DEVICES;

/// The newest version whose rights are asked for.
const NEWEST: ABI = ABI::V7;

pub struct Rules {
    pub fd: OwnedFd,
    /// Rights in the scratch folder, as bits for a rule that is added later, within the guest's own mounts.
    pub scratch_access: u64,
}

/// The kernel's version of Landlock, or why there is none.
pub fn version() -> Result<u32, String> {
    const GIVE_VERSION: usize = 1;
    // SAFETY: asks for a number.
    let n = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0usize, 0usize, GIVE_VERSION) };
    if n > 0 {
        return Ok(n as u32);
    }
    Err(match super::root::errno() {
        libc::ENOSYS => "the kernel has no Landlock (5.13 or later)".into(),
        libc::EOPNOTSUPP => "Landlock is off (boot option lsm=)".into(),
        e => std::io::Error::from_raw_os_error(e).to_string(),
    })
}

fn scratch_rights() -> BitFlags<AccessFs> {
    AccessFs::from_all(NEWEST) & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::MakeSock)
}

impl Rules {
    /// `scratch`: where it exists already; a scratch folder of the guest's own mounts is added by the guest.
    pub fn new(read: &[PathBuf], scratch: Option<&Path>) -> Result<Self> {
        let build = |what: &str, e: landlock::RulesetError| {
            Error::work(format!("cannot build the Landlock rules ({what})")).because(e)
        };
        let mut rules = Ruleset::default()
            .handle_access(AccessFs::from_all(NEWEST))
            .and_then(|r| r.handle_access(AccessNet::from_all(NEWEST)))
            .and_then(|r| r.scope(Scope::from_all(NEWEST)))
            .and_then(|r| r.create())
            .map_err(|e| build("rights", e))?;
        let devices = DEVICES.map(PathBuf::from);
        let device_rights = AccessFs::ReadFile | AccessFs::WriteFile;
        let reads = read.iter().map(|path| (path.as_path(), AccessFs::from_read(NEWEST)));
        let devices = devices.iter().map(|path| (path.as_path(), device_rights));
        for (path, rights) in reads.chain(devices).chain(scratch.map(|path| (path, scratch_rights()))) {
            let fd = PathFd::new(path).context(|| format!("the guest needs {}", path.display()))?;
            let file = !path.is_dir();
            let rights = if file { rights & AccessFs::from_file(NEWEST) } else { rights };
            rules = rules.add_rule(PathBeneath::new(fd, rights)).map_err(|e| build(&path.display().to_string(), e))?;
        }
        let fd: Option<OwnedFd> = rules.into();
        let fd = fd.ok_or_else(|| Error::work("the kernel has no Landlock"))?;
        let known = match version().unwrap_or(1) {
            1 => ABI::V1,
            2 => ABI::V2,
            3 | 4 => ABI::V3,
            _ => NEWEST,
        };
        Ok(Self { fd, scratch_access: (scratch_rights() & AccessFs::from_all(known)).bits() })
    }
}
