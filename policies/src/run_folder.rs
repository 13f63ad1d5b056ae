//! The folder of a run: its layout, who may write to it, and writing without leaving halves behind.
//!
//! ```text
//! run/
//!   config.toml                    every key of the run
//!   metrics.csv                    see `metrics_file`
//!   events.out.tfevents.*          the same for TensorBoard
//!   checkpoints/step_00001000/     see `checkpoint`
//! ```
//!
//! The process that trains holds a lock on the folder itself; the system releases it even if that process is killed.

use std::fs::{File, TryLockError};
use std::io::{self, Write};

use camino::{Utf8Path, Utf8PathBuf};

/// Name of the resolved configuration.
pub const CONFIG_FILE: &str = "config.toml";
/// Name of the table of metrics.
pub const METRICS_FILE: &str = "metrics.csv";
/// Name of the folder with one folder per checkpoint.
pub const CHECKPOINTS_FOLDER: &str = "checkpoints";
/// What names of unfinished files and folders start with.
pub(crate) const TEMPORARY_PREFIX: &str = ".tmp-";

/// Why a run folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunFolderError {
    /// A new run would overwrite something.
    #[error(
        "the run folder already holds `{entry}`; resume the run, or choose another folder\nin {path}"
    )]
    Occupied {
        /// Something in it.
        entry: String,
        /// The folder.
        path: Utf8PathBuf,
    },
    /// There is nothing to resume.
    #[error("there is no run to resume: `config.toml` is missing\nin {path}")]
    NoRun {
        /// The folder.
        path: Utf8PathBuf,
    },
    /// Another process trains here.
    #[error("another process is training in this run folder\nin {path}")]
    Busy {
        /// The folder.
        path: Utf8PathBuf,
    },
    /// The file system refuses.
    #[error("cannot {action}: {source}\nin {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The system's words.
        source: io::Error,
        /// Where.
        path: Utf8PathBuf,
    },
}

/// A run folder that this process holds.
#[derive(Debug)]
pub struct RunFolder {
    path: Utf8PathBuf,
    // The folder itself, locked as long as it is open. Only Unix opens folders.
    _lock: Option<File>,
}

impl RunFolder {
    /// A new folder with this configuration.
    ///
    /// # Errors
    /// [`RunFolderError::Occupied`] if there is anything at `path` but an empty folder.
    pub fn create(path: &Utf8Path, config: &str) -> Result<Self, RunFolderError> {
        let io = |action, source| RunFolderError::Io {
            action,
            source,
            path: path.to_owned(),
        };
        std::fs::create_dir_all(path).map_err(|source| io("create the run folder", source))?;
        let folder = Self::lock(path)?;
        let entries = path
            .read_dir_utf8()
            .map_err(|source| io("list the run folder", source))?;
        for entry in entries {
            let entry = entry
                .map_err(|source| io("list the run folder", source))?
                .file_name()
                .to_owned();
            if !entry.starts_with(TEMPORARY_PREFIX) {
                return Err(RunFolderError::Occupied {
                    entry,
                    path: path.to_owned(),
                });
            }
        }
        folder.write_config(config)?;
        Ok(folder)
    }

    /// The folder of an existing run.
    ///
    /// # Errors
    /// [`RunFolderError::NoRun`], [`RunFolderError::Busy`].
    pub fn open(path: &Utf8Path) -> Result<Self, RunFolderError> {
        if !path.join(CONFIG_FILE).is_file() {
            return Err(RunFolderError::NoRun {
                path: path.to_owned(),
            });
        }
        Self::lock(path)
    }

    fn lock(path: &Utf8Path) -> Result<Self, RunFolderError> {
        if cfg!(not(unix)) {
            return Ok(Self {
                path: path.to_owned(),
                _lock: None,
            });
        }
        let io = |source| RunFolderError::Io {
            action: "lock the run folder",
            source,
            path: path.to_owned(),
        };
        let lock = File::open(path).map_err(io)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: Some(lock),
            }),
            Err(TryLockError::WouldBlock) => Err(RunFolderError::Busy {
                path: path.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }

    /// Replaces the configuration.
    ///
    /// # Errors
    /// [`RunFolderError::Io`].
    pub fn write_config(&self, config: &str) -> Result<(), RunFolderError> {
        let path = self.path.join(CONFIG_FILE);
        write_atomically(&path, config.as_bytes()).map_err(|source| RunFolderError::Io {
            action: "write the configuration",
            source,
            path,
        })
    }

    /// The folder.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// The table of metrics.
    pub fn metrics(&self) -> Utf8PathBuf {
        self.path.join(METRICS_FILE)
    }

    /// The folder of the checkpoints.
    pub fn checkpoints(&self) -> Utf8PathBuf {
        self.path.join(CHECKPOINTS_FOLDER)
    }
}

/// Writes a file so that it is there as a whole or not at all, whenever the process or the machine stops.
///
/// # Errors
/// Those of the file system; the old file, if any, is then still there.
pub fn write_atomically(path: &Utf8Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|parent| !parent.as_str().is_empty())
        .unwrap_or(Utf8Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(TEMPORARY_PREFIX)
        .tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Temporary files are private; results are not.
        file.as_file()
            .set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    file.persist(path).map_err(|error| error.error)?;
    sync_folder(folder)
}

/// Makes renames in a folder survive a power failure.
pub(crate) fn sync_folder(folder: &Utf8Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(folder)?.sync_all()
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_not_overwritten_and_not_trained_twice_at_once() {
        let temp = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(temp.path()).unwrap().join("runs/a");
        let error = RunFolder::open(&path).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("there is no run to resume: `config.toml` is missing\nin {path}")
        );
        let folder = RunFolder::create(&path, "steps = 1\n").unwrap();
        assert!(matches!(
            RunFolder::open(&path),
            Err(RunFolderError::Busy { .. })
        ));
        drop(folder);
        assert!(matches!(
            RunFolder::create(&path, ""),
            Err(RunFolderError::Occupied { .. })
        ));
        let folder = RunFolder::open(&path).unwrap();
        assert_eq!(
            std::fs::read_to_string(folder.path().join(CONFIG_FILE)).unwrap(),
            "steps = 1\n"
        );
    }

    #[test]
    fn a_failed_write_keeps_the_old_file() {
        let temp = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(temp.path()).unwrap().join("file");
        write_atomically(&path, b"old").unwrap();
        assert!(write_atomically(&path.join("below"), b"new").is_err());
        write_atomically(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(path.parent().unwrap().read_dir_utf8().unwrap().count(), 1);
    }
}
