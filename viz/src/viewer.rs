//! The native viewer, if one is installed.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::process::{Child, Command, Stdio};

use camino::Utf8PathBuf;

use crate::VizError;

/// Viewer version that reads the recordings of this build.
pub const VIEWER_VERSION: &str = "0.36.3";

/// What `rerun --version` says about the installed viewer; none if there is none.
pub fn installed_viewer() -> Option<String> {
    let output = Command::new("rerun").arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Opens recordings in the native viewer (`rerun` on `PATH`) and does not wait for it. It is a new viewer, also beside others; what it prints goes to stderr.
///
/// # Errors
/// [`VizError::Open`] if there is no such file, [`VizError::NoViewer`] if there is no viewer,
/// [`VizError::Viewer`] if it does not start.
pub fn open_viewer(paths: &[Utf8PathBuf]) -> Result<Child, VizError> {
    open_with("rerun".into(), paths)
}

fn open_with(program: OsString, paths: &[Utf8PathBuf]) -> Result<Child, VizError> {
    for path in paths {
        std::fs::metadata(path).map_err(|source| VizError::Open {
            path: path.clone(),
            source,
        })?;
    }
    Command::new(&program)
        .args(["--port", "auto"])
        .args(paths)
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .spawn()
        .map_err(|source| match source.kind() {
            ErrorKind::NotFound => VizError::NoViewer {
                version: VIEWER_VERSION,
            },
            _ => VizError::Viewer {
                path: program.into(),
                source,
            },
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_viewer_is_named_with_the_way_to_get_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(directory.path().join("a.rrd")).unwrap();
        std::fs::write(&path, b"").unwrap();
        let program = directory.path().join("no-such-viewer").into_os_string();
        let error = open_with(program, &[path]).unwrap_err();
        assert!(
            error.to_string().contains("pip install rerun-sdk==0.36.3"),
            "{error}"
        );
    }

    #[test]
    fn a_missing_recording_is_found_before_a_viewer_starts() {
        let error = open_viewer(&["/no/such/file.rrd".into()]).unwrap_err();
        assert!(matches!(error, VizError::Open { .. }), "{error}");
    }
}
