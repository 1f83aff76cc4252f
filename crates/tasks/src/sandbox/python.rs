//! The Python interpreter as a guest: where it lives, what it must read to run, and its version.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use postgrad_base::{Context, Error, Result};
use serde::Deserialize;

/// Modules that a warm interpreter has imported before the first test.
pub(super) const WARM: &str = "typing,math,cmath,collections,collections.abc,itertools,functools,operator,re,string,random,heapq,bisect,copy,json,\
datetime,decimal,fractions,statistics,hashlib,io,contextlib,dataclasses,enum,abc,queue,textwrap,numbers,array,calendar,unicodedata";

const PROBE: &str = r#"
import json, os, sys, sysconfig
for name in sys.argv[1].split(",") + ["ctypes", "resource", "select", "threading", "zlib", "bz2", "lzma", "sqlite3", "_ssl", "multiprocessing", "asyncio"]:
    try:
        __import__(name)
    except ImportError:
        pass
maps = {line.split(None, 5)[5].strip() for line in open("/proc/self/maps") if len(line.split(None, 5)) == 6}
print(json.dumps({
    "version": sys.version.split()[0],
    "number": list(sys.version_info[:2]),
    "executable": os.path.realpath(sys.executable),
    "stdlib": [p for p in {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), *sys.path} if p and os.path.isdir(p) and not p.endswith("-packages")],
    "mapped": sorted(p for p in maps if p.startswith("/") and os.path.isfile(p)),
    "missing": [m for m in ("resource", "select", "json", "struct", "threading") if m not in sys.modules],
}))
"#;

/// A Python that was found, asked, and can be put into a cell.
#[derive(Clone, Debug)]
pub struct Python {
    pub version: String,
    pub executable: PathBuf,
    /// Everything the guest may read.
    pub(super) read: Vec<PathBuf>,
    pub(super) packages: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Found {
    version: String,
    number: (u32, u32),
    executable: PathBuf,
    stdlib: Vec<PathBuf>,
    mapped: Vec<PathBuf>,
    missing: Vec<String>,
}

impl Python {
    /// `python3` on the search path.
    pub fn find() -> Result<Self> {
        Self::at(Path::new("python3"))
    }

    /// A given interpreter (3.9 or later). This runs it, unconfined, once: it is the user's own program.
    pub fn at(program: &Path) -> Result<Self> {
        let mend = "install Python 3.9 or later and have python3 on the PATH";
        let out = std::process::Command::new(program)
            .args(["-I", "-S", "-c", PROBE, WARM])
            .stdin(std::process::Stdio::null())
            .output();
        let out = out.map_err(|e| Error::work("needs: python3").because(e).help(mend))?;
        if !out.status.success() {
            let said = String::from_utf8_lossy(&out.stderr).trim().to_string();
            return Err(
                Error::work(format!("needs: python3 (`{}` does not run: {said})", program.display())).help(mend)
            );
        }
        let found: Found =
            serde_json::from_slice(&out.stdout).context(|| "python3 described itself in no way we know".into())?;
        if found.number < (3, 9) {
            return Err(Error::work(format!("needs: python3 (found {}, too old)", found.version)).help(mend));
        }
        if !found.missing.is_empty() {
            return Err(Error::work(format!(
                "needs: python3 with its standard library (missing: {})",
                found.missing.join(", ")
            ))
            .help(mend));
        }
        let mut read: BTreeSet<PathBuf> = found.stdlib.into_iter().collect();
        read.insert(found.executable.clone());
        let libraries = libraries(&found.mapped);
        let apart = libraries.into_iter().filter(|path| !read.iter().any(|r| path.starts_with(r))).collect::<Vec<_>>();
        read.extend(apart);
        Ok(Self {
            version: found.version,
            executable: found.executable,
            read: read.into_iter().collect(),
            packages: vec![],
        })
    }

    /// Lets programs import from these folders as well (a virtual environment's `site-packages`), read-only.
    pub fn with_packages(mut self, folders: Vec<PathBuf>) -> Self {
        self.read.extend(folders.iter().cloned());
        self.packages = folders;
        self
    }

    pub(super) fn command(&self, mode: &str, cpu_seconds: u64) -> super::Command {
        let mut args: Vec<String> =
            ["-s", "-S", "-B", "-X", "utf8", "-c", include_str!("zygote.py"), mode].map(String::from).into();
        args.extend([cpu_seconds.to_string(), WARM.to_string()]);
        args.extend(self.packages.iter().map(|p| p.display().to_string()));
        // A fixed hash seed: a test's verdict does not depend on the order of a set.
        let env =
            [("PYTHONHASHSEED", "0"), ("PYTHONDONTWRITEBYTECODE", "1")].map(|(k, v)| (k.to_string(), v.to_string()));
        super::Command { program: self.executable.clone(), args, env: env.into(), stdin: vec![] }
    }
}

/// What a program needs to start, from the files mapped into a process like it: folders of shared libraries (a library that is loaded later lies
/// there too), the loader and its cache.
pub(super) fn libraries(mapped: &[PathBuf]) -> BTreeSet<PathBuf> {
    let shared = mapped.iter().filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().contains(".so")));
    let folders = shared.filter_map(|p| p.parent()).map(Path::to_path_buf);
    let loader = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1", "/etc/ld.so.cache"].map(PathBuf::from);
    folders.chain(loader.into_iter().filter(|p| p.exists())).collect()
}

/// Files mapped into this process.
#[cfg(test)]
pub(super) fn mapped_here() -> Vec<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines()
        .filter_map(|line| line.split_whitespace().nth(5))
        .filter(|p| p.starts_with('/'))
        .map(PathBuf::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_interpreter_is_named() {
        let e = Python::at(Path::new("/nowhere/python3")).unwrap_err();
        assert_eq!(e.what(), "needs: python3");
        assert!(e.help_text().is_some());
        let e = Python::at(Path::new("/bin/true")).unwrap_err();
        assert!(e.to_string().contains("described itself"), "{e}");
        let e = Python::at(Path::new("/bin/false")).unwrap_err();
        assert!(e.to_string().contains("does not run"), "{e}");
    }
}
