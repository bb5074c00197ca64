//! Folders of this machine as stores: claims, host paths and ConfigMaps that are mounted into the pod.

use std::{path::Path, sync::Arc};

use crds::contract::Place;
use object_store::{ObjectStore, local::LocalFileSystem};

use super::{
    access::Access,
    error::{output_error, source_error},
};
use crate::process::error::{Cause, Result};

/// Opens the folder of a place.
///
/// # Errors
/// If the folder cannot be read, or created for writing.
pub(super) fn open(place: &Place, access: Access) -> Result<Arc<dyn ObjectStore>> {
    let folder = Path::new(&place.path);
    if access == Access::Write {
        std::fs::create_dir_all(folder)
            .map_err(|error| output_error(format!("cannot create the folder {} ({})", place.uri, place.path), error))?;
    }
    let failed = |cause: Cause| source_error(format!("cannot open {} ({})", place.uri, place.path), cause);
    std::fs::read_dir(folder).map_err(|error| failed(error.into()))?;
    let store = LocalFileSystem::new_with_prefix(folder)
        .map_err(|error| failed(error.into()))?
        .with_fsync(access == Access::Write);
    Ok(Arc::new(store))
}

/// Deletes the staging files of uploads in a folder, which the client of the store does not list.
pub(super) fn delete_staging_files(place: &Place, folder: &str) {
    for entry in std::fs::read_dir(Path::new(&place.path).join(folder)).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().contains('#') {
            // A failure is harmless: the writer may have deleted it.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
