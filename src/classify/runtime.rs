//! Finds the ONNX Runtime library and keeps the process' one environment.

use std::env;
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;

use super::load::LoadError;

/// The environment that all sessions of the process are made in.
///
/// ONNX Runtime is global by itself: one library and one environment a process, and `ort` refuses to make a second one
/// even after the first is gone. It also gives no way to ask for the first. So the first loader leaves it here, and it
/// stays for the life of the process.
static ENVIRONMENT: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

/// The process' environment, made from the library that the first call finds.
pub(super) fn environment(configured: Option<&Path>) -> Result<Environment, LoadError> {
    let library = find(configured, env::var_os("ORT_DYLIB_PATH"), &beside(), Path::exists);
    let mut environment = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((loaded, environment)) = &*environment {
        if *loaded != library {
            tracing::warn!(
                loaded = %loaded.display(), asked = %library.display(),
                "ONNX Runtime is loaded already; a process can hold only one, so the first goes on being used"
            );
        }
        return Ok(environment.clone());
    }
    let made = start(&library)?;
    *environment = Some((library, made.clone()));
    Ok(made)
}

fn start(library: &Path) -> Result<Environment, LoadError> {
    let wrong = |reason: String| LoadError::Runtime { library: library.to_owned(), reason };
    if library.is_absolute() && !library.exists() {
        return Err(wrong("there is no such file".to_owned()));
    }
    let builder = ort::init_from(library).map_err(|error| wrong(told(&error)))?;
    builder.with_name("wardline").with_telemetry(false).build().map_err(|error| wrong(error.to_string()))
}

/// The linker's own words where there are any; `ort` leaves them out.
fn told(error: &ort::LoadDynamicError) -> String {
    match error {
        ort::LoadDynamicError::Dlopen { error, .. } => error.source().map_or(error.to_string(), ToString::to_string),
        other => other.to_string(),
    }
}

/// What is configured, else what the variable says, else the first that exists in a `.ort/` folder, else the system's.
fn find(
    configured: Option<&Path>,
    variable: Option<OsString>,
    beside: &[PathBuf],
    exists: impl Fn(&Path) -> bool,
) -> PathBuf {
    let name = format!("{DLL_PREFIX}onnxruntime{DLL_SUFFIX}");
    let said = configured.map(Path::to_path_buf).or(variable.filter(|path| !path.is_empty()).map(PathBuf::from));
    if let Some(said) = said {
        // Relative to the working directory, as everywhere; `ort` would look beside the executable.
        return std::path::absolute(&said).unwrap_or(said);
    }
    let found = beside.iter().map(|dir| dir.join(".ort").join(&name)).find(|path| exists(path));
    found.unwrap_or_else(|| PathBuf::from(name))
}

/// The working directory, then the executable's.
fn beside() -> Vec<PathBuf> {
    let executable = env::current_exe().ok().and_then(|path| path.parent().map(Path::to_path_buf));
    env::current_dir().ok().into_iter().chain(executable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_wins() {
        let beside = [PathBuf::from("/srv"), PathBuf::from("/opt/wardline")];
        let name = format!("{DLL_PREFIX}onnxruntime{DLL_SUFFIX}");
        let set = || Some(OsString::from("/env/lib.so"));
        let everywhere = |_: &Path| true;
        let nowhere = |_: &Path| false;

        assert_eq!(find(Some(Path::new("/cfg/lib.so")), set(), &beside, everywhere), Path::new("/cfg/lib.so"));
        assert_eq!(find(None, set(), &beside, everywhere), Path::new("/env/lib.so"));
        assert_eq!(find(None, Some(OsString::new()), &beside, everywhere), Path::new("/srv/.ort").join(&name));
        let second = |path: &Path| path.starts_with("/opt");
        assert_eq!(find(None, None, &beside, second), Path::new("/opt/wardline/.ort").join(&name));
        assert_eq!(find(None, None, &beside, nowhere), Path::new(&name));
        assert!(find(Some(Path::new("lib.so")), None, &beside, nowhere).is_absolute());
    }

    #[test]
    fn a_library_that_is_not_there_says_what_to_run() {
        let error = start(Path::new("/nowhere/libonnxruntime.so")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/libonnxruntime.so"), "{error}");
        assert!(error.contains("make ort") && error.contains("ORT_DYLIB_PATH"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_library_says_what_to_run() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = start(file.path()).unwrap_err().to_string();
        assert!(error.contains("make ort"), "{error}");
    }
}
