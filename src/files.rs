//! What: the files that a run writes.
//! Why here: whoever reads one must never see a part of it, and files of one run appear together or not at all.
//! Pre: directories that exist or can be made.
//! Post: each file has its old content or its new one.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::Error;
use tempfile::NamedTempFile;

/// Files that are written but do not have their names yet. Dropped, they are gone.
#[derive(Debug, Default)]
pub struct Staged {
    files: Vec<(PathBuf, Content)>,
}

#[derive(Debug)]
enum Content {
    Aside(NamedTempFile),
    /// For pipes and devices: nothing can take their place.
    Direct(Vec<u8>),
}

/// That a file can be put at a path, as far as can be told before the run.
pub fn check(path: &Path) -> Result<(), Error> {
    let io = |kind: std::io::ErrorKind| Err(Error::io(path, kind.into()));
    if path.is_dir() {
        return io(std::io::ErrorKind::IsADirectory);
    }
    let parent = parent(path);
    if !parent.is_dir() { Err(Error::io(parent, std::io::ErrorKind::NotFound.into())) } else { Ok(()) }
}

/// The same, and that something can be written there: for results that took long.
pub fn check_write(path: &Path) -> Result<(), Error> {
    check(path)?;
    let there = path.exists();
    std::fs::OpenOptions::new().append(true).create(true).open(path).map_err(|e| Error::io(path, e))?;
    if !there {
        std::fs::remove_file(path).map_err(|e| Error::io(path, e))?;
    }
    Ok(())
}

/// That a directory is there or can be made.
pub fn check_dir(path: &Path) -> Result<(), Error> {
    match path.ancestors().find(|p| p.exists()) {
        Some(p) if !p.is_dir() => Err(Error::io(p, std::io::ErrorKind::NotADirectory.into())),
        _ => Ok(()),
    }
}

/// Writes one file in one step.
pub fn write(path: &Path, text: &str) -> Result<(), Error> {
    let mut staged = Staged::default();
    staged.add(path, &[text.as_bytes()])?;
    staged.commit()
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

impl Staged {
    /// Writes a file aside, next to where it will be. A link stays a link.
    pub fn add(&mut self, path: &Path, parts: &[&[u8]]) -> Result<(), Error> {
        let io = |e| Error::io(path, e);
        let present = std::fs::metadata(path).ok();
        if present.as_ref().is_some_and(|m| !m.is_file()) {
            self.files.push((path.to_owned(), Content::Direct(parts.concat())));
            return Ok(());
        }
        let target =
            if present.is_some() { std::fs::canonicalize(path).map_err(io)? } else { path.to_owned() };
        let mut file =
            tempfile::Builder::new().prefix(".tilewright-").tempfile_in(parent(&target)).map_err(io)?;
        for part in parts {
            file.write_all(part).map_err(io)?;
        }
        file.flush().map_err(io)?;
        // Temporary files are private; a result should be as readable as any other file.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = present.map_or(0o644, |m| m.permissions().mode() & 0o777);
            file.as_file().set_permissions(std::fs::Permissions::from_mode(mode)).map_err(io)?;
        }
        self.files.push((target, Content::Aside(file)));
        Ok(())
    }

    /// Gives all files their names.
    pub fn commit(self) -> Result<(), Error> {
        for (path, content) in self.files {
            match content {
                Content::Aside(file) => {
                    file.persist(&path).map_err(|e| Error::io(&path, e.error))?;
                }
                Content::Direct(bytes) => std::fs::write(&path, bytes).map_err(|e| Error::io(&path, e))?,
            }
        }
        Ok(())
    }
}
