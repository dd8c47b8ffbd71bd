//! The test guest: a kernel and an initramfs made of Debian packages, kept in a folder.
//!
//! In: a folder. Out: `vmlinuz`, `initrd.gz` and `tcg_lock_shim.so` in it. The sources that made
//! them are kept beside them, so a complete folder costs nothing and an outdated one is noticed;
//! the packages stay too, so a rebuild needs no network. The work is done by `guest/build`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::LabError;
use crate::process::run;

const SOURCES: [(&str, &str); 4] = [
    ("build", include_str!("../guest/build")),
    ("init", include_str!("../guest/init")),
    ("services.c", include_str!("../guest/services.c")),
    ("tcg_lock_shim.c", include_str!("../guest/tcg_lock_shim.c")),
];

/// A complete image folder.
#[derive(Debug, Clone)]
pub struct Image {
    dir: PathBuf,
}

impl Image {
    /// Makes the image in `dir` unless it is there already. Returns it, and whether it was made now.
    ///
    /// # Errors
    /// [`LabError::File`], or [`LabError::Command`] with what `guest/build` said.
    pub fn ensure(dir: &Path) -> Result<(Self, bool), LabError> {
        let image = Self {
            dir: dir.to_owned(),
        };
        if image.is_complete() {
            return Ok((image, false));
        }
        let kept = dir.join("sources");
        let fresh = dir.join("sources.new");
        for old in [&kept, &fresh] {
            if old.exists() {
                fs::remove_dir_all(old).map_err(LabError::file(old))?;
            }
        }
        fs::create_dir_all(&fresh).map_err(LabError::file(&fresh))?;
        for (name, text) in SOURCES {
            let path = fresh.join(name);
            fs::write(&path, text).map_err(LabError::file(&path))?;
        }
        let script = fresh.join("build").display().to_string();
        let from = fresh.display().to_string();
        run(&["bash", &script, &from, &dir.display().to_string()])?;
        let source = fresh.join("tcg_lock_shim.c").display().to_string();
        let shim = image.shim().display().to_string();
        run(&[
            "gcc", "-O2", "-shared", "-fPIC", "-o", &shim, &source, "-ldl",
        ])?;
        // Last: from now on the folder counts as complete.
        fs::rename(&fresh, &kept).map_err(LabError::file(&kept))?;
        Ok((image, true))
    }

    /// The folder; what belongs to this guest may be kept in it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The guest's kernel.
    pub fn kernel(&self) -> PathBuf {
        self.dir.join("vmlinuz")
    }

    /// The guest's initramfs.
    pub fn initrd(&self) -> PathBuf {
        self.dir.join("initrd.gz")
    }

    /// The library to preload into QEMU under TCG.
    pub fn shim(&self) -> PathBuf {
        self.dir.join("tcg_lock_shim.so")
    }

    fn is_complete(&self) -> bool {
        let sources = self.dir.join("sources");
        [self.kernel(), self.initrd(), self.shim()]
            .iter()
            .all(|file| file.exists())
            && SOURCES.iter().all(|(name, text)| {
                fs::read(sources.join(name)).is_ok_and(|kept| kept == text.as_bytes())
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_complete_only_with_all_files_and_these_sources() {
        let dir = tempfile::tempdir().expect("a folder");
        let image = Image {
            dir: dir.path().to_owned(),
        };
        let sources = dir.path().join("sources");
        fs::create_dir(&sources).expect("a folder");
        for (name, text) in SOURCES {
            fs::write(sources.join(name), text).expect("a file");
        }
        for file in [image.kernel(), image.initrd(), image.shim()] {
            assert!(!image.is_complete());
            fs::write(file, "").expect("a file");
        }
        assert!(image.is_complete());
        fs::write(sources.join("init"), "another").expect("a file");
        assert!(!image.is_complete());
    }
}
