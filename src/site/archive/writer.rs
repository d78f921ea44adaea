//! Directories as downloads: tar (POSIX.1-2001), tar compressed with zstd (RFC 8878), and zip.
//!
//! Names begin with the directory's own name; the root's files have no such prefix, since the name of the root is private.
//! Directories have entries of their own. Whatever a listing does not show is left out, and so are symbolic links to
//! directories; a link to a file becomes that file. Entries are sorted by name, have owner 0:0, modes 0644 and 0755, and the
//! modification times of the originals.

use std::io::{self, Write};

use bytes::Bytes;
use zstd::stream::write::Encoder;

use crate::files::Files;
use crate::http::named_enum::named_enum;
use crate::http::target::SitePath;
use crate::site::archive::plan::ArchivePlan;
use crate::site::archive::source::STEP;
use crate::site::archive::tar::TarBlocks;
use crate::site::archive::zip::ZipRecords;

named_enum! {
    /// Format of an archive. Its name is also the extension without the leading dot.
    pub(crate) enum ArchiveFormat {
        /// tar, with pax records for values that do not fit its headers.
        Tar => "tar",
        /// tar within one zstd frame.
        TarZstd => "tar.zst",
        /// zip, with zip64 records if they are needed.
        Zip => "zip",
    }
}

impl ArchiveFormat {
    /// The value of `Content-Type`.
    pub(crate) const fn media_type(self) -> &'static str {
        match self {
            Self::Tar => "application/x-tar",
            Self::TarZstd => "application/zstd",
            Self::Zip => "application/zip",
        }
    }

    /// The name under which an archive of the directory at `path` is saved: bytes without a slash.
    pub(crate) fn file_name(self, path: &SitePath<'_>) -> Vec<u8> {
        let name = if path.is_root() { ROOT_NAME } else { path.file_name() };
        [name, b".", self.name().as_bytes()].concat()
    }
}

/// An archive that is being written, chunk by chunk: the plan, one open file, and one chunk.
pub(crate) enum Archive {
    Tar(TarBlocks),
    TarZstd(TarBlocks, Option<Box<Encoder<'static, Vec<u8>>>>),
    Zip(Box<ZipRecords>),
}

impl Archive {
    /// Begins the archive of `plan`.
    ///
    /// # Errors
    /// If there is no memory for the compressor.
    pub(crate) fn new(plan: ArchivePlan, format: ArchiveFormat, files: Files) -> io::Result<Self> {
        Ok(match format {
            ArchiveFormat::Tar => Self::Tar(TarBlocks::new(plan, files)),
            ArchiveFormat::TarZstd => {
                let encoder = Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                Self::TarZstd(TarBlocks::new(plan, files), Some(encoder.into()))
            }
            ArchiveFormat::Zip => Self::Zip(ZipRecords::new(plan, files).into()),
        })
    }

    /// Appends a record or the next bytes of a file, or nothing yet; returns false after the last.
    fn write_some(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        let (blocks, encoder) = match self {
            Self::Tar(blocks) => return blocks.write_some(out),
            Self::Zip(records) => return records.write_some(out),
            Self::TarZstd(blocks, encoder) => (blocks, encoder),
        };
        let Some(open) = encoder else { return Ok(false) };
        let mut plain = Vec::with_capacity(STEP + ROOM);
        let has_more = blocks.write_some(&mut plain)?;
        open.write_all(&plain)?;
        out.append(open.get_mut());
        if let Some(ended) = encoder.take_if(|_| !has_more) {
            out.append(&mut ended.finish()?);
        }
        Ok(has_more)
    }

    /// Returns the next chunk of about [`CHUNK`] bytes; less, even nothing, after much was read, so that other archives have their
    /// turn. `None` after the last.
    fn next_chunk(&mut self) -> io::Result<Option<Bytes>> {
        let mut out = Vec::with_capacity(CHUNK + ROOM);
        // Nearly every step of a plain tar adds to the chunk.
        let steps = if matches!(self, Self::Tar(_)) { usize::MAX } else { STEPS_IN_TURN };
        for _ in 0..steps {
            if !self.write_some(&mut out)? {
                return Ok((!out.is_empty()).then(|| out.into()));
            }
            if out.len() >= CHUNK {
                break;
            }
        }
        Ok(Some(out.into()))
    }
}

/// An error means that a file is not the version that was planned, or cannot be read: the archive is broken.
impl Iterator for Archive {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_chunk().transpose()
    }
}

/// Bytes of a chunk; the last one has fewer.
const CHUNK: usize = 256 * 1024;

/// Bytes that a step may add to those of a file.
const ROOM: usize = 4 * 1024;

/// Steps for one chunk at most: files that compress very well do not occupy the thread for long.
const STEPS_IN_TURN: usize = 32;

const ZSTD_LEVEL: i32 = 3;

const ROOT_NAME: &[u8] = b"files";

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::fs;
    use std::io::{Cursor, Read};
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;
    use std::sync::Arc;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use crate::config::{Config, Count, DirectoriesGroup, Dotfiles, OnOff, Symlinks};
    use crate::files::directory::ReadPermission;
    use crate::files::policy::Rules;
    use crate::files::{FileSettings, Root};

    const MOMENT: u64 = 1_700_000_000;

    fn limits() -> DirectoriesGroup {
        let archive_entries = Count::of(200_000);
        DirectoriesGroup { listing: OnOff::On, archive_entries, ..DirectoriesGroup::default() }
    }

    fn files(dir: &Path) -> Files {
        Files::new(
            Root::open(dir, Symlinks::Inside).unwrap(),
            &FileSettings::small(),
            Rules::new(&Config { directories: limits().into(), ..Config::default() }),
        )
        .unwrap()
    }

    fn archive(dir: &Path, path: &str, format: ArchiveFormat) -> Archive {
        let files = files(dir);
        let path = SitePath::parse(path.as_bytes()).unwrap().path.into_owned();
        let all: ReadPermission = Arc::new(|_| true);
        let plan = ArchivePlan::of(&files, &path, &limits(), Dotfiles::Deny, &all).unwrap();
        Archive::new(plan, format, files).unwrap()
    }

    fn pieces(archive: &mut Archive) -> Vec<Bytes> {
        std::iter::from_fn(|| archive.next_chunk().unwrap()).collect()
    }

    fn whole(dir: &Path, path: &str, format: ArchiveFormat) -> Vec<u8> {
        pieces(&mut archive(dir, path, format)).concat()
    }

    /// Bytes that no compressor makes shorter.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        (0..length.div_ceil(8)).flat_map(|_| next()).take(length).collect()
    }

    fn write(dir: &Path, name: &[u8], bytes: &[u8]) {
        let path = dir.join(std::ffi::OsStr::from_bytes(name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        let moment = UNIX_EPOCH + Duration::from_secs(MOMENT);
        fs::File::options().write(true).open(&path).unwrap().set_modified(moment).unwrap();
    }

    type Change = (&'static str, fn(&Path));

    type Contents = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

    /// A tree with names of every kind, and the expected contents of an archive of its `d`.
    fn tree() -> (tempfile::TempDir, Contents) {
        let dir = tempfile::tempdir().unwrap();
        let long = [b"d/".as_slice(), &[b'l'; 200], b"/", &[b'n'; 200], b".txt"].concat();
        let odd = [b"d/\xff".as_slice(), &[b'o'; 120]].concat();
        let mut contents = Contents::new();
        for (name, bytes) in [
            (&b"d/empty"[..], vec![]),
            (b"d/a.txt", b"some text\n".repeat(40_000)),
            (b"d/block", noise(512)),
            (b"d/noise.bin", noise(1_000_001)),
            (b"d/noise.zip", noise(300_000)),
            ("d/é ü.html".as_bytes(), b"<p>".to_vec()),
            (b"d/\xfe", b"not utf-8".to_vec()),
            (&odd, b"long and not utf-8".to_vec()),
            (&long, b"long".to_vec()),
            (b"d/sub/deep/x", b"x".to_vec()),
        ] {
            write(dir.path(), name, &bytes);
            contents.insert(name.to_vec(), Some(bytes));
        }
        for name in [&b"d/"[..], b"d/sub/", b"d/sub/deep/", &[b"d/".as_slice(), &[b'l'; 200], b"/"].concat()]
        {
            contents.insert(name.to_vec(), None);
        }
        write(dir.path(), b"d/.hidden", b"hidden");
        write(dir.path(), b"beside", b"beside");
        (dir, contents)
    }

    fn untar(bytes: &[u8]) -> Contents {
        let mut archive = ::tar::Archive::new(bytes);
        let mut contents = Contents::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut body = Vec::new();
            entry.read_to_end(&mut body).unwrap();
            let is_directory = entry.header().entry_type().is_dir();
            assert_eq!(entry.header().uid().unwrap() + entry.header().gid().unwrap(), 0);
            assert_eq!(entry.header().mode().unwrap(), if is_directory { 0o755 } else { 0o644 });
            if !is_directory {
                assert_eq!(entry.header().mtime().unwrap(), MOMENT);
            }
            contents.insert(entry.path_bytes().into_owned(), (!is_directory).then_some(body));
        }
        contents
    }

    fn unzip(bytes: Vec<u8>) -> Contents {
        let mut archive = ::zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
        let mut contents = Contents::new();
        for index in 0..archive.len() {
            let mut entry = archive.by_index(index).unwrap();
            let mut body = Vec::new();
            entry.read_to_end(&mut body).unwrap();
            assert_eq!(entry.unix_mode(), Some(if entry.is_dir() { 0o040_755 } else { 0o100_644 }));
            if !entry.is_dir() {
                assert_eq!(entry.last_modified().unwrap().to_string(), "2023-11-14 22:13:20");
            }
            contents.insert(entry.name_raw().to_vec(), (!entry.is_dir()).then_some(body));
        }
        contents
    }

    #[test]
    fn a_tar_has_the_contents_of_the_directory() {
        let (dir, contents) = tree();
        let bytes = whole(dir.path(), "/d", ArchiveFormat::Tar);
        assert!(bytes.len().is_multiple_of(512));
        assert!(untar(&bytes) == contents);
    }

    #[test]
    fn a_compressed_tar_is_the_same_tar() {
        let (dir, _) = tree();
        let compressed = whole(dir.path(), "/d", ArchiveFormat::TarZstd);
        let plain = whole(dir.path(), "/d", ArchiveFormat::Tar);
        assert!(compressed.len() < plain.len());
        assert!(zstd::stream::decode_all(&*compressed).unwrap() == plain);
    }

    #[test]
    fn a_zip_has_the_contents_of_the_directory() {
        let (dir, contents) = tree();
        assert!(unzip(whole(dir.path(), "/d", ArchiveFormat::Zip)) == contents);
    }

    #[test]
    fn a_zip_can_be_read_as_a_stream() {
        let (dir, contents) = tree();
        let bytes = whole(dir.path(), "/d", ArchiveFormat::Zip);
        let mut at = &bytes[..];
        let mut seen = Contents::new();
        while at.starts_with(b"PK\x03\x04") {
            let number = |from: usize| usize::from(u16::from_le_bytes([at[from], at[from + 1]]));
            let (flags, method, name, extra) = (number(6), number(8), number(26), number(28));
            let title = at[30..30 + name].to_vec();
            at = &at[30 + name + extra..];
            let has_descriptor = flags & 8 != 0;
            // Stored data has no end mark of its own, so only empty entries are stored.
            assert_eq!(has_descriptor, method == 8, "{}", title.escape_ascii());
            let body = has_descriptor.then(|| {
                let mut reader = flate2::bufread::DeflateDecoder::new(at);
                let mut body = Vec::new();
                reader.read_to_end(&mut body).unwrap();
                at = reader.into_inner();
                assert!(at.starts_with(b"PK\x07\x08"));
                let mut checksum = flate2::Crc::new();
                checksum.update(&body);
                assert_eq!(at[4..8], checksum.sum().to_le_bytes());
                assert_eq!(at[12..16], u32::try_from(body.len()).unwrap().to_le_bytes());
                at = &at[16..];
                body
            });
            let body = if title.ends_with(b"/") { None } else { Some(body.unwrap_or_default()) };
            seen.insert(title, body);
        }
        assert!(at.starts_with(b"PK\x01\x02"));
        assert!(seen == contents);
    }

    #[test]
    fn an_empty_directory_makes_a_valid_archive() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(whole(dir.path(), "/", ArchiveFormat::Tar), [0; 1024]);
        assert!(
            untar(&zstd::stream::decode_all(&*whole(dir.path(), "/", ArchiveFormat::TarZstd)).unwrap())
                .is_empty()
        );
        assert!(unzip(whole(dir.path(), "/", ArchiveFormat::Zip)).is_empty());
    }

    #[test]
    fn pieces_are_bounded_and_an_archive_is_the_same_each_time() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), b"noise", &noise(1 << 20));
        write(dir.path(), b"zeros.txt", &vec![0; 6 << 20]);
        for (format, overshoot) in
            [(ArchiveFormat::Tar, STEP), (ArchiveFormat::TarZstd, 2 * STEP), (ArchiveFormat::Zip, 2 * STEP)]
        {
            let pieces = pieces(&mut archive(dir.path(), "/", format));
            for piece in &pieces {
                assert!(piece.len() <= CHUNK + overshoot, "{format:?}: {}", piece.len());
            }
            assert_eq!(pieces.concat(), whole(dir.path(), "/", format), "{format:?}");
        }
    }

    #[test]
    fn incompressible_bytes_hardly_grow() {
        let dir = tempfile::tempdir().unwrap();
        for name in [&b"noise"[..], b"noise.png", b"noise.txt"] {
            write(dir.path(), name, &noise(1 << 20));
        }
        let length = whole(dir.path(), "/", ArchiveFormat::Zip).len();
        assert!(length < (3 << 20) + (3 << 20) / 500, "{length}");
    }

    #[test]
    fn a_file_that_changes_after_it_was_planned_breaks_the_archive() {
        let changes: [Change; 6] = [
            ("grown", |path| fs::write(path, noise(600_001)).unwrap()),
            ("shrunk", |path| fs::write(path, b"less").unwrap()),
            ("written over", |path| fs::write(path, vec![1; 600_000]).unwrap()),
            ("replaced", |path| {
                let other = path.with_extension("other");
                fs::write(&other, noise(600_000)).unwrap();
                fs::rename(other, path).unwrap();
            }),
            ("removed", |path| fs::remove_file(path).unwrap()),
            ("a directory", |path| {
                fs::remove_file(path).unwrap();
                fs::create_dir(path).unwrap();
            }),
        ];
        for format in ArchiveFormat::ALL {
            for (what, change) in changes {
                let dir = tempfile::tempdir().unwrap();
                write(dir.path(), b"a", b"");
                write(dir.path(), b"b", &noise(600_000));
                let mut archive = archive(dir.path(), "/", format);
                change(&dir.path().join("b"));
                let error = loop {
                    match archive.next_chunk() {
                        Ok(Some(_)) => {}
                        Ok(None) => panic!("{format:?} of a file that was {what} is whole"),
                        Err(error) => break error,
                    }
                };
                assert!(error.to_string().starts_with("/b"), "{error}");
            }
        }
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_breaks_the_archive() {
        let changes: [Change; 3] = [
            ("cut short", |path| {
                fs::File::options().write(true).open(path).unwrap().set_len(500_000).unwrap()
            }),
            ("grown", |path| fs::File::options().write(true).open(path).unwrap().set_len(700_000).unwrap()),
            ("written over", |path| {
                std::thread::sleep(Duration::from_millis(20));
                fs::File::options().write(true).open(path).unwrap().set_modified(SystemTime::now()).unwrap();
            }),
        ];
        for (what, change) in changes {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path(), b"b", &noise(600_000));
            let mut archive = archive(dir.path(), "/", ArchiveFormat::Tar);
            assert!(archive.next_chunk().unwrap().is_some());
            change(&dir.path().join("b"));
            let rest: Vec<_> = std::iter::from_fn(|| archive.next_chunk().transpose()).take(9).collect();
            assert!(rest.iter().any(Result::is_err), "{what}");
        }
    }

    #[test]
    fn a_file_replaced_while_it_is_read_is_archived_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), b"b", &noise(600_000));
        let mut archive = archive(dir.path(), "/", ArchiveFormat::Tar);
        let first = archive.next_chunk().unwrap().unwrap();
        write(dir.path(), b"other", b"other");
        fs::rename(dir.path().join("other"), dir.path().join("b")).unwrap();
        let rest = pieces(&mut archive).concat();
        assert!(untar(&[&first[..], &rest].concat())[&b"b"[..]] == Some(noise(600_000)));
    }

    #[test]
    fn a_zip_has_more_entries_than_16_bits_can_count() {
        let dir = tempfile::tempdir().unwrap();
        for index in 0..66_000 {
            fs::File::create(dir.path().join(index.to_string())).unwrap();
        }
        let pieces = pieces(&mut archive(dir.path(), "/", ArchiveFormat::Zip));
        assert!(pieces.iter().all(|piece| piece.len() <= CHUNK + STEP + ROOM));
        let archive = ::zip::ZipArchive::new(Cursor::new(pieces.concat())).unwrap();
        assert_eq!(archive.len(), 66_000);
    }

    #[test]
    fn an_archive_is_saved_under_the_name_of_its_directory() {
        for (path, format, expected) in [
            ("/", ArchiveFormat::Zip, "files.zip"),
            ("/a/b/", ArchiveFormat::TarZstd, "b.tar.zst"),
            ("/a%20b", ArchiveFormat::Tar, "a b.tar"),
        ] {
            let path = SitePath::parse(path.as_bytes()).unwrap().path;
            assert_eq!(format.file_name(&path), expected.as_bytes());
        }
    }

    #[test]
    #[ignore = "needs python3: apt-get install python3"]
    fn python_reads_tar_and_zip_correctly() {
        let (dir, contents) = tree();
        for (format, script) in [(ArchiveFormat::Tar, TARFILE), (ArchiveFormat::Zip, ZIPFILE)] {
            let path = dir.path().join("archive");
            fs::write(&path, whole(dir.path(), "/d", format)).unwrap();
            let output =
                std::process::Command::new("python3").args(["-c", script]).arg(&path).output().unwrap();
            fs::remove_file(&path).unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let text = String::from_utf8(output.stdout).unwrap();
            let mut lines: Vec<_> = text.lines().collect();
            lines.sort_unstable();
            let mut expected: Vec<_> = contents
                .iter()
                .map(|(name, body)| {
                    let hex: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
                    format!("{hex} {}", body.as_ref().map_or(-1, |body| i64::try_from(body.len()).unwrap()))
                })
                .collect();
            expected.sort_unstable();
            assert_eq!(lines, expected, "{format:?}");
        }
    }

    /// One line an entry: its name in hexadecimal, and its length or -1.
    const TARFILE: &str = "
import sys, tarfile
for entry in tarfile.open(sys.argv[1]):
    name = entry.name.encode('utf-8', 'surrogateescape') + (b'/' if entry.isdir() else b'')
    assert (entry.uid, entry.gid) == (0, 0)
    assert entry.isdir() or entry.mtime == 1700000000
    print(name.hex(), len(tarfile.open(sys.argv[1]).extractfile(entry.name).read()) if entry.isfile() else -1)
";

    const ZIPFILE: &str = "
import sys, zipfile
archive = zipfile.ZipFile(sys.argv[1])
assert archive.testzip() is None
for entry in archive.infolist():
    name = entry.filename.encode('utf-8' if entry.flag_bits & 0x800 else 'cp437')
    assert entry.is_dir() or entry.date_time == (2023, 11, 14, 22, 13, 20)
    print(name.hex(), -1 if entry.is_dir() else len(archive.read(entry)))
";
}
