//! zip as APPNOTE.TXT 6.3 has it, written in one pass.
//!
//! A file's checksum and compressed size are known only after its bytes, so they follow in a data descriptor. Readers that
//! stream can find the end of such an entry only where the bytes tell it themselves: every file that is not empty is
//! deflated, what is compressed already in stored blocks.

mod records;

use std::io;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

use self::records::{CentralRecord, WrittenEntry, ZipTotals};
use super::plan::ArchivePlan;
use super::source::{PlannedFileReader, STEP};
use crate::files::Files;
use crate::files::directory::EntryKind;
use crate::http::media_type::media_type;

/// A zip archive that is being written. Beside the plan it keeps 24 bytes an entry for the directory at its end.
pub(super) struct ZipRecords {
    plan: ArchivePlan,
    stage: Stage,
    written: Vec<WrittenEntry>,
    /// Bytes that have left.
    offset: u64,
    deflate: Option<(u32, Compress)>,
    /// A step of a file, before it is compressed.
    input: Vec<u8>,
    central_start: u64,
}

enum Stage {
    /// The entry of this number comes next.
    Entry(usize),
    File(Box<Open>),
    /// The directory at the end, from the entry of this number on.
    Central(usize),
    Done,
}

struct Open {
    index: usize,
    source: PlannedFileReader,
    checksum: Crc,
    deflate: Compress,
    level: u32,
}

impl ZipRecords {
    pub(super) fn new(plan: ArchivePlan) -> Self {
        Self {
            plan,
            stage: Stage::Entry(0),
            written: Vec::new(),
            offset: 0,
            deflate: None,
            input: Vec::new(),
            central_start: 0,
        }
    }

    /// Appends a header, a step of a file or a part of the directory; false when that was all. Blocks.
    pub(super) fn write_some(&mut self, files: &Files, out: &mut Vec<u8>) -> io::Result<bool> {
        let before = out.len();
        self.stage = match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Entry(index) => self.start(index, files, out)?,
            Stage::File(open) => self.step(open, out)?,
            Stage::Central(index) => self.central(index, out),
            Stage::Done => return Ok(false),
        };
        self.offset += (out.len() - before) as u64;
        Ok(true)
    }

    fn start(&mut self, index: usize, files: &Files, out: &mut Vec<u8>) -> io::Result<Stage> {
        let Some(entry) = self.plan.get(index) else {
            self.central_start = self.offset;
            return Ok(Stage::Central(0));
        };
        let name = self.plan.name_of(entry);
        let central = CentralRecord::of(&name, entry)?;
        self.written.push(WrittenEntry { offset: self.offset, ..WrittenEntry::default() });
        // An empty file is looked at as any other is: it has to be empty still.
        let source =
            (entry.kind == EntryKind::File).then(|| PlannedFileReader::open(files, entry)).transpose()?;
        central.write_local(out);
        let Some(mut source) = source else { return Ok(Stage::Entry(index + 1)) };
        if entry.version.size == 0 {
            source.read(&mut self.input)?;
            return Ok(Stage::Entry(index + 1));
        }
        let level = level_for(&media_type(entry.path.file_name()));
        let deflate = match self.deflate.take() {
            Some((same, mut deflate)) if same == level => {
                deflate.reset();
                deflate
            }
            _ => Compress::new(Compression::new(level), false),
        };
        Ok(Stage::File(Box::new(Open { index, source, checksum: Crc::new(), deflate, level })))
    }

    fn step(&mut self, mut open: Box<Open>, out: &mut Vec<u8>) -> io::Result<Stage> {
        self.input.clear();
        let read = open.source.read(&mut self.input)?;
        open.checksum.update(&self.input);
        let flush = if read == 0 { FlushCompress::Finish } else { FlushCompress::None };
        compress(&mut open.deflate, &self.input, flush, out)?;
        if read > 0 {
            return Ok(Stage::File(open));
        }
        let Open { index, checksum, deflate, level, .. } = *open;
        let (Some(entry), Some(written)) = (self.plan.get(index), self.written.get_mut(index)) else {
            return Err(io::Error::other("an entry that was not planned"));
        };
        written.checksum = checksum.sum();
        written.compressed = deflate.total_out();
        let name = self.plan.name_of(entry);
        CentralRecord::of(&name, entry)?.write_descriptor(written, out)?;
        self.deflate = Some((level, deflate));
        Ok(Stage::Entry(index + 1))
    }

    fn central(&self, index: usize, out: &mut Vec<u8>) -> Stage {
        let start = out.len();
        let mut index = index;
        while out.len() - start < STEP {
            let (Some(entry), Some(written)) = (self.plan.get(index), self.written.get(index)) else {
                let end = self.offset + (out.len() - start) as u64;
                let size = end - self.central_start;
                let entries = self.plan.len() as u64;
                ZipTotals { entries, start: self.central_start, size }.write(out);
                return Stage::Done;
            };
            // It was made once already, so it can be made.
            let name = self.plan.name_of(entry);
            if let Ok(central) = CentralRecord::of(&name, entry) {
                central.write(written, out);
            }
            index += 1;
        }
        Stage::Central(index)
    }
}

/// Appends what comes out of `deflate` for all of `input`; all that is left of the stream too where it is finished.
fn compress(deflate: &mut Compress, input: &[u8], flush: FlushCompress, out: &mut Vec<u8>) -> io::Result<()> {
    let start = deflate.total_in();
    loop {
        let done = usize::try_from(deflate.total_in() - start).map_err(io::Error::other)?;
        let left = input.get(done..).unwrap_or_default();
        let is_finish = matches!(flush, FlushCompress::Finish);
        if left.is_empty() && !is_finish {
            return Ok(());
        }
        out.reserve(DEFLATE_ROOM);
        match deflate.compress_vec(left, out, flush).map_err(io::Error::other)? {
            Status::StreamEnd => return Ok(()),
            Status::Ok | Status::BufError => {}
        }
    }
}

/// How hard the bytes of a media type are compressed. Level 1 of this library can make bytes longer, so that what may be
/// compressed already, which no name tells for certain, has level 2.
fn level_for(media_type: &str) -> u32 {
    let essence = media_type.split(';').next().unwrap_or_default();
    let is_text = essence.starts_with("text/")
        || essence.ends_with("+xml")
        || essence.ends_with("+json")
        || TEXT_LIKE.contains(&essence);
    let is_compressed =
        COMPRESSED_KINDS.iter().any(|kind| essence.starts_with(kind)) || COMPRESSED.contains(&essence);
    match (is_text, is_compressed && !RAW.contains(&essence)) {
        (true, _) => 6,
        (false, true) => 0,
        (false, false) => 2,
    }
}

const TEXT_LIKE: [&str; 8] = [
    "application/json",
    "application/xml",
    "application/toml",
    "application/yaml",
    "application/wasm",
    "application/x-ndjson",
    "application/jsonl",
    "application/javascript",
];

const COMPRESSED_KINDS: [&str; 3] = ["image/", "video/", "audio/"];

/// Images and sounds as they are.
const RAW: [&str; 6] =
    ["image/bmp", "image/tiff", "image/x-icon", "image/svg+xml", "audio/wav", "audio/x-wav"];

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

/// Room for what comes out at a time.
const DEFLATE_ROOM: usize = 32 * 1024;
