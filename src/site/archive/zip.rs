//! The zip format of APPNOTE.TXT 6.3, written in one pass.
//!
//! The checksum and the compressed size of a file are known only after its bytes, so they follow in a data descriptor. A
//! streaming reader can find the end of such an entry only if the data itself marks it: every file that is not empty is
//! deflated; files that are compressed already go into stored blocks of the deflate stream.

mod records;

use std::io::{self, Write};

use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};

use self::records::{CentralRecord, WrittenEntry, write_end};
use super::plan::ArchivePlan;
use super::source::{PlannedFileReader, STEP};
use crate::files::Files;
use crate::files::directory::EntryKind;
use crate::http::media_type::{is_compressible, media_type};

/// A zip archive that is being written. Besides the plan it keeps 24 bytes for each entry, for the central directory.
pub(crate) struct ZipRecords {
    files: Files,
    plan: ArchivePlan,
    stage: Stage,
    written: Vec<WrittenEntry>,
    /// Bytes of the archive so far.
    offset: u64,
    /// Compressor of the last file, which the next one of the same level uses again.
    deflate: DeflateEncoder<Vec<u8>>,
    level: u32,
    /// The bytes that are compressed next.
    input: Vec<u8>,
    central_start: u64,
}

enum Stage {
    /// The entry at this index comes next.
    Entry(usize),
    File(Box<OpenEntry>),
    /// The central directory, from the entry at this index on.
    Central(usize),
    Done,
}

struct OpenEntry {
    index: usize,
    source: PlannedFileReader,
    checksum: Crc,
}

impl ZipRecords {
    pub(super) fn new(plan: ArchivePlan, files: Files) -> Self {
        Self {
            files,
            plan,
            stage: Stage::Entry(0),
            written: Vec::new(),
            offset: 0,
            deflate: DeflateEncoder::new(Vec::new(), Compression::new(0)),
            level: 0,
            input: Vec::new(),
            central_start: 0,
        }
    }

    /// Appends a header, the next bytes of a file or a part of the central directory; returns false after the last. Blocks.
    pub(super) fn write_some(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        let before = out.len();
        self.stage = match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Entry(index) => self.start(index, out)?,
            Stage::File(open) => self.step(open, out)?,
            Stage::Central(index) => self.central(index, out),
            Stage::Done => return Ok(false),
        };
        self.offset += (out.len() - before) as u64;
        Ok(true)
    }

    fn start(&mut self, index: usize, out: &mut Vec<u8>) -> io::Result<Stage> {
        let Some(entry) = self.plan.entries.get(index) else {
            self.central_start = self.offset;
            return Ok(Stage::Central(0));
        };
        let name = self.plan.name_of(entry);
        if name.len() > usize::from(u16::MAX) {
            return Err(io::Error::other(format!("/{}: the name is too long for zip", entry.path)));
        }
        self.written.push(WrittenEntry { offset: self.offset, ..WrittenEntry::default() });
        // An empty file is opened like any other: it must still be empty.
        let source = match entry.kind {
            EntryKind::File => Some(PlannedFileReader::open(&self.files, entry)?),
            EntryKind::Directory => None,
        };
        CentralRecord::of(&name, entry).write_local(out);
        let Some(mut source) = source else { return Ok(Stage::Entry(index + 1)) };
        if entry.version.size == 0 {
            source.read(&mut self.input)?;
            return Ok(Stage::Entry(index + 1));
        }
        let level = level_for(&media_type(entry.path.file_name()));
        if level == self.level {
            self.deflate.reset(Vec::new())?;
        } else {
            (self.level, self.deflate) = (level, DeflateEncoder::new(Vec::new(), Compression::new(level)));
        }
        Ok(Stage::File(Box::new(OpenEntry { index, source, checksum: Crc::new() })))
    }

    fn step(&mut self, mut open: Box<OpenEntry>, out: &mut Vec<u8>) -> io::Result<Stage> {
        self.input.clear();
        let read = open.source.read(&mut self.input)?;
        open.checksum.update(&self.input);
        match read {
            0 => self.deflate.try_finish()?,
            _ => self.deflate.write_all(&self.input)?,
        }
        out.append(self.deflate.get_mut());
        if read > 0 {
            return Ok(Stage::File(open));
        }
        let (entry, written) = (&self.plan.entries[open.index], &mut self.written[open.index]);
        written.checksum = open.checksum.sum();
        written.compressed = self.deflate.total_out();
        CentralRecord::of(&self.plan.name_of(entry), entry).write_descriptor(written, out)?;
        Ok(Stage::Entry(open.index + 1))
    }

    fn central(&self, from: usize, out: &mut Vec<u8>) -> Stage {
        let start = out.len();
        for index in from..self.written.len() {
            if out.len() - start >= STEP {
                return Stage::Central(index);
            }
            let entry = &self.plan.entries[index];
            CentralRecord::of(&self.plan.name_of(entry), entry).write(&self.written[index], out);
        }
        let end = self.offset + (out.len() - start) as u64;
        let entries = self.plan.entries.len() as u64;
        write_end(entries, self.central_start, end - self.central_start, out);
        Stage::Done
    }
}

/// The compression level for a media type. Level 1 of zlib-rs can make bytes longer, so files that may be compressed already,
/// which no name tells for certain, get level 2.
fn level_for(media_type: &str) -> u32 {
    let essence = media_type.split(';').next().unwrap_or_default();
    let is_compressed =
        COMPRESSED_KINDS.iter().any(|kind| essence.starts_with(kind) && !RAW.contains(&essence));
    match is_compressible(media_type) {
        true => 6,
        false if is_compressed || COMPRESSED.contains(&essence) => 0,
        false => 2,
    }
}

const COMPRESSED_KINDS: [&str; 3] = ["image/", "video/", "audio/"];

/// Uncompressed images and sounds.
const RAW: [&str; 3] = ["image/tiff", "audio/wav", "audio/x-wav"];

const COMPRESSED: [&str; 14] = [
    "application/gzip",
    "application/zstd",
    "application/zip",
    "application/x-xz",
    "application/x-bzip2",
    "application/x-7z-compressed",
    "application/x-rar-compressed",
    "application/vnd.rar",
    "application/java-archive",
    "application/vnd.android.package-archive",
    "application/vnd.debian.binary-package",
    "application/epub+zip",
    "font/woff",
    "font/woff2",
];
