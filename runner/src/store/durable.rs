//! A folder as an object store that writes durably on any file system.
//!
//! Reading, listing and deleting are those of [`LocalFileSystem`]. Writing is not, because it needs hard links and the
//! sync of folders, which SMB shares and mounted buckets lack. See [`super::staged`].

use std::{fmt, fs, io, ops::Range, os::unix::fs::FileExt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, RenameTargetMode, Result, UploadPart,
    local::LocalFileSystem, path::Path,
};

use super::staged::{self, Staged};

const NAME: &str = "folder";

/// A folder that is written.
#[derive(Debug)]
pub struct DurableFolder {
    files: LocalFileSystem,
}

impl DurableFolder {
    /// The folder at the root of `files`.
    pub fn new(files: LocalFileSystem) -> Self {
        Self { files }
    }
}

impl fmt::Display for DurableFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for DurableFolder {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        if matches!(options.mode, PutMode::Update(_)) {
            // A folder has no writes with a precondition.
            return self.files.put_opts(location, payload, options).await;
        }
        let target = self.files.path_to_filesystem(location)?;
        let path = location.to_string();
        let is_new = blocking(move || {
            let mut staged = Staged::create(target)?;
            payload.iter().try_for_each(|part| staged.write(part))?;
            match options.mode {
                PutMode::Create => staged.publish_new(),
                _ => staged.publish().map(|()| true),
            }
        })
        .await?;
        if is_new { Ok(written()) } else { Err(Error::AlreadyExists { path, source: "a file is there".into() }) }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let target = self.files.path_to_filesystem(location)?;
        let staged = blocking(move || Staged::create(target)).await?;
        Ok(Box::new(DurableUpload { staged: Some(Arc::new(staged)), offset: 0 }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.files.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.files.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.files.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.files.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        if options.target_mode == RenameTargetMode::Create {
            return self.files.rename_opts(from, to, options).await;
        }
        let (from, to) = (self.files.path_to_filesystem(from)?, self.files.path_to_filesystem(to)?);
        blocking(move || staged::rename(&from, &to)).await
    }
}

/// A large file that is written part by part.
#[derive(Debug)]
struct DurableUpload {
    /// `None` once it is complete or aborted.
    staged: Option<Arc<Staged>>,
    /// Where the next part begins, in bytes.
    offset: u64,
}

#[async_trait]
impl MultipartUpload for DurableUpload {
    fn put_part(&mut self, part: PutPayload) -> UploadPart {
        let (staged, mut offset) = (self.staged.clone(), self.offset);
        self.offset += part.content_length() as u64;
        blocking(move || {
            let staged = staged.ok_or_else(ended)?;
            for bytes in &part {
                staged.file().write_all_at(bytes, offset)?;
                offset += bytes.len() as u64;
            }
            Ok(())
        })
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let staged = self.staged.take();
        blocking(move || staged.and_then(Arc::into_inner).ok_or_else(ended)?.publish()).await?;
        Ok(written())
    }

    async fn abort(&mut self) -> Result<()> {
        let staged = self.staged.take();
        blocking(move || staged.map_or(Ok(()), |staged| fs::remove_file(staged.staging()))).await
    }
}

fn ended() -> io::Error {
    io::Error::other("the upload has ended")
}

fn written() -> PutResult {
    PutResult { e_tag: None, version: None, extensions: object_store::Extensions::default() }
}

/// Runs blocking work on a thread for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T> {
    let result = tokio::task::spawn_blocking(work).await.map_err(|source| Error::JoinError { source })?;
    result.map_err(|source| Error::Generic { store: NAME, source: Box::new(source) })
}
