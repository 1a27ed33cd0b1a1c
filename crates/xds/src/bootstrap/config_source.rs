//! Where resources come from that are not in the file itself.

use super::draft::FileSource;
use super::reader::Reader;
use crate::path::Path;
use envoy_types::pb::envoy::config::core::v3 as pb;
use pb::config_source::ConfigSourceSpecifier;
use std::path::PathBuf;

impl Reader {
    /// A source that may be left out.
    pub(super) fn file_source(
        &mut self,
        source: Option<pb::ConfigSource>,
        path: &Path<'_>,
    ) -> Option<FileSource> {
        source.and_then(|source| self.required_file_source(source, path))
    }

    /// A source that is a file.
    pub(super) fn required_file_source(
        &mut self,
        source: pb::ConfigSource,
        path: &Path<'_>,
    ) -> Option<FileSource> {
        if !matches!(
            source.resource_api_version(),
            pb::ApiVersion::V3 | pb::ApiVersion::Auto
        ) {
            let message = "only V3 is implemented; Envoy has removed V2";
            let at = path.field("resource_api_version");
            self.report.refused(&at, message);
        }
        let (file, watched, path) = match source.config_source_specifier {
            Some(ConfigSourceSpecifier::PathConfigSource(source)) => {
                let directory = source.watched_directory.map(|watched| watched.path);
                (source.path, directory, path.field("path_config_source"))
            }
            #[expect(deprecated, reason = "bootstraps in use still have it")]
            Some(ConfigSourceSpecifier::Path(file)) => {
                return self
                    .source_path(file, &path.field("path"))
                    .map(|path| FileSource {
                        path,
                        watched: None,
                    });
            }
            _ => {
                self.report
                    .invalid(path, "it needs a source: path_config_source");
                return None;
            }
        };
        let at = path.field("watched_directory");
        let watched = match watched {
            None => None,
            Some(directory) => Some(self.source_path(directory, &at.field("path"))?),
        };
        Some(FileSource {
            path: self.source_path(file, &path.field("path"))?,
            watched,
        })
    }

    /// A path that is there: one that is not is more often misspelt than late.
    fn source_path(&mut self, file: String, path: &Path<'_>) -> Option<PathBuf> {
        if file.is_empty() {
            self.report
                .invalid(path, "it is required and must not be empty");
            return None;
        }
        let file = PathBuf::from(file);
        if let Err(error) = std::fs::metadata(&file) {
            let message = format!(
                "{}: {error}; it must exist when it is named, if only without resources",
                file.display()
            );
            self.report.invalid(path, message);
            return None;
        }
        Some(file)
    }
}
