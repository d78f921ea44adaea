//! The records of a zip archive: numbers in little endian at fixed places (APPNOTE.TXT §4.3).

use std::io;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::files::directory::EntryKind;
use crate::site::archive::plan::Planned;

/// What the archive says of an entry at its beginning, and again in the directory at its end.
///
/// Decision: docs/decisions/025-zip-writer.md.
pub(super) struct CentralRecord<'a> {
    name: &'a [u8],
    kind: EntryKind,
    size: u64,
    /// Seconds since the epoch.
    modified: i64,
    is_large: bool,
}

/// Where an entry was written, and the numbers that are known only after its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WrittenEntry {
    /// Of its local header, from the start of the archive.
    pub(super) offset: u64,
    /// Compressed bytes.
    pub(super) compressed: u64,
    pub(super) checksum: u32,
}

/// What the archive says of itself at its very end.
pub(super) struct ZipTotals {
    pub(super) entries: u64,
    /// Where the directory starts, and how long it is.
    pub(super) start: u64,
    pub(super) size: u64,
}

impl<'a> CentralRecord<'a> {
    pub(super) fn of(name: &'a [u8], entry: &Planned) -> io::Result<Self> {
        if name.len() > usize::from(u16::MAX) {
            return Err(io::Error::other(format!("/{}: the name is too long for zip", entry.path)));
        }
        let size = if entry.kind == EntryKind::File { entry.version.size } else { 0 };
        let (modified, _) = entry.version.mtime;
        Ok(Self { name, kind: entry.kind, size, modified, is_large: size > LARGE_FROM })
    }

    /// Local file header (§4.3.7).
    pub(super) fn write_local(&self, out: &mut Vec<u8>) {
        let extra = [self.local_sizes(), self.timestamp()].concat();
        put32(out, 0x0403_4b50);
        self.write_common(out);
        // Checksum and sizes follow the bytes; where there are none they are known, and 0.
        [0; 2].into_iter().for_each(|zero| put32(out, zero));
        put32(out, 0);
        put16(out, self.name.len());
        put16(out, extra.len());
        out.extend_from_slice(self.name);
        out.extend_from_slice(&extra);
    }

    /// Data descriptor (§4.3.9), which alone says what became of a deflated file.
    pub(super) fn write_descriptor(&self, written: &WrittenEntry, out: &mut Vec<u8>) -> io::Result<()> {
        put32(out, 0x0807_4b50);
        put32(out, written.checksum);
        if self.is_large {
            put64(out, written.compressed);
            put64(out, self.size);
            return Ok(());
        }
        let narrow = |number: u64| u32::try_from(number).map_err(io::Error::other);
        put32(out, narrow(written.compressed)?);
        put32(out, narrow(self.size)?);
        Ok(())
    }

    /// Central directory file header (§4.3.12).
    pub(super) fn write(&self, written: &WrittenEntry, out: &mut Vec<u8>) {
        let offset_is_wide = written.offset >= u64::from(u32::MAX);
        let mut extra = Vec::new();
        if self.is_large || offset_is_wide {
            let sizes = if self.is_large { vec![self.size, written.compressed] } else { Vec::new() };
            let offset = offset_is_wide.then_some(written.offset);
            extra = zip64(sizes.into_iter().chain(offset).collect());
        }
        extra.extend_from_slice(&self.timestamp());
        put32(out, 0x0201_4b50);
        put16(out, MADE_BY_UNIX | usize::from(VERSION_ZIP64));
        self.write_common(out);
        put32(out, written.checksum);
        put32(out, if self.is_large { u32::MAX } else { saturated(written.compressed) });
        put32(out, if self.is_large { u32::MAX } else { saturated(self.size) });
        put16(out, self.name.len());
        put16(out, extra.len());
        // No comment, on the first disk, no internal attributes.
        [0; 3].into_iter().for_each(|zero| put16(out, zero));
        put32(out, self.attributes());
        put32(out, saturated(written.offset));
        out.extend_from_slice(self.name);
        out.extend_from_slice(&extra);
    }

    /// What both headers say: from the version that is needed to the date.
    fn write_common(&self, out: &mut Vec<u8>) {
        let has_bytes = self.size > 0;
        let utf8 = !self.name.is_ascii() && str::from_utf8(self.name).is_ok();
        let flags = if has_bytes { FLAG_DESCRIPTOR } else { 0 } | if utf8 { FLAG_UTF8 } else { 0 };
        let (date, time) = dos_date_and_time(self.modified);
        put16(out, usize::from(if self.is_large { VERSION_ZIP64 } else { VERSION_DEFLATE }));
        put16(out, flags);
        put16(out, if has_bytes { METHOD_DEFLATE } else { METHOD_STORED });
        put16(out, time);
        put16(out, date);
    }

    /// The zip64 field of a local header says only that the descriptor is wide; its numbers come later.
    fn local_sizes(&self) -> Vec<u8> {
        if self.is_large { zip64(vec![0, 0]) } else { Vec::new() }
    }

    /// The extended timestamp: the date in UTC, where it fits 32 bits.
    fn timestamp(&self) -> Vec<u8> {
        let Ok(seconds) = i32::try_from(self.modified) else { return Vec::new() };
        let mut extra = Vec::with_capacity(9);
        put16(&mut extra, EXTRA_TIMESTAMP);
        put16(&mut extra, 5);
        extra.push(HAS_MTIME);
        extra.extend_from_slice(&seconds.to_le_bytes());
        extra
    }

    fn attributes(&self) -> u32 {
        match self.kind {
            EntryKind::File => 0o100_644 << 16,
            EntryKind::Directory => 0o040_755 << 16 | DOS_DIRECTORY,
        }
    }
}

impl ZipTotals {
    /// The ends of the directory (§4.3.14 to §4.3.16).
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let Self { entries, start, size } = *self;
        let is_wide = entries >= u64::from(u16::MAX) || start.max(size) >= u64::from(u32::MAX);
        if is_wide {
            put32(out, 0x0606_4b50);
            put64(out, ZIP64_END_LENGTH);
            put16(out, MADE_BY_UNIX | usize::from(VERSION_ZIP64));
            put16(out, usize::from(VERSION_ZIP64));
            [0; 2].into_iter().for_each(|disk| put32(out, disk));
            [entries, entries, size, start].into_iter().for_each(|number| put64(out, number));
            put32(out, 0x0706_4b50);
            put32(out, 0);
            put64(out, start + size);
            put32(out, 1);
        }
        put32(out, 0x0605_4b50);
        [0; 2].into_iter().for_each(|disk| put16(out, disk));
        let narrow = usize::try_from(entries.min(u64::from(u16::MAX))).unwrap_or(usize::MAX);
        [narrow; 2].into_iter().for_each(|count| put16(out, count));
        put32(out, saturated(size));
        put32(out, saturated(start));
        put16(out, 0);
    }
}

/// The extra field for numbers of 64 bits (§4.5.3).
fn zip64(numbers: Vec<u64>) -> Vec<u8> {
    let mut extra = Vec::with_capacity(4 + numbers.len() * 8);
    put16(&mut extra, EXTRA_ZIP64);
    put16(&mut extra, numbers.len() * 8);
    numbers.into_iter().for_each(|number| put64(&mut extra, number));
    extra
}

/// MS-DOS counts from 1980 to 2107 and in steps of two seconds; what is beyond is at the bound.
fn dos_date_and_time(seconds: i64) -> (usize, usize) {
    let seconds = seconds.clamp(DOS_FIRST, DOS_LAST);
    let moment = Timestamp::from_second(seconds).unwrap_or_default().to_zoned(TimeZone::UTC);
    let part = |number: i16| usize::try_from(number).unwrap_or(0);
    let small = |number: i8| usize::try_from(number).unwrap_or(0);
    let date = (part(moment.year()) - 1980) << 9 | small(moment.month()) << 5 | small(moment.day());
    let time = small(moment.hour()) << 11 | small(moment.minute()) << 5 | (small(moment.second()) / 2);
    (date, time)
}

fn saturated(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The low 16 bits, which is all there is of what comes here.
fn put16(out: &mut Vec<u8>, number: usize) {
    let [low, high, ..] = number.to_le_bytes();
    out.extend_from_slice(&[low, high]);
}

fn put32(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

/// From this size on an entry has fields of 64 bits: a little less than 32 bits hold, since deflate may make bytes longer.
const LARGE_FROM: u64 = u32::MAX as u64 - (8 << 20);

const VERSION_DEFLATE: u8 = 20;
const VERSION_ZIP64: u8 = 45;
const MADE_BY_UNIX: usize = 3 << 8;
const METHOD_STORED: usize = 0;
const METHOD_DEFLATE: usize = 8;
const FLAG_DESCRIPTOR: usize = 1 << 3;
const FLAG_UTF8: usize = 1 << 11;
const EXTRA_ZIP64: usize = 0x0001;
const EXTRA_TIMESTAMP: usize = 0x5455;
const HAS_MTIME: u8 = 1;
const DOS_DIRECTORY: u32 = 0x10;

/// Bytes of the zip64 end record after its own length.
const ZIP64_END_LENGTH: u64 = 44;

/// 1980-01-01T00:00:00Z.
const DOS_FIRST: i64 = 315_532_800;

/// 2107-12-31T23:59:58Z.
const DOS_LAST: i64 = 4_354_819_198;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_ms_dos_within_its_bounds() {
        let date = |year: usize, month: usize, day: usize| (year - 1980) << 9 | month << 5 | day;
        let time = |hour: usize, minute: usize, second: usize| hour << 11 | minute << 5 | (second / 2);
        for (seconds, expected) in [
            (-1, (date(1980, 1, 1), 0)),
            (315_532_800, (date(1980, 1, 1), 0)),
            (1_700_000_001, (date(2023, 11, 14), time(22, 13, 21))),
            (i64::MAX, (date(2107, 12, 31), time(23, 59, 58))),
        ] {
            assert_eq!(dos_date_and_time(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn what_exceeds_narrow_fields_has_wide_ones() {
        let totals = |entries, start| {
            let mut out = Vec::new();
            ZipTotals { entries, start, size: 10 }.write(&mut out);
            out.len()
        };
        assert_eq!(totals(65_534, 0), 22);
        assert_eq!(totals(65_535, 0), 22 + 56 + 20);
        assert_eq!(totals(1, 1 << 32), 22 + 56 + 20);
        let large =
            CentralRecord { name: b"a", kind: EntryKind::File, size: 5 << 30, modified: 0, is_large: true };
        let mut out = Vec::new();
        let written = WrittenEntry { offset: 6 << 30, compressed: 4 << 30, checksum: 7 };
        large.write_descriptor(&written, &mut out).unwrap();
        assert_eq!(out.len(), 24);
        out.clear();
        large.write(&written, &mut out);
        let extra = [
            &b"\x01\x00\x18\x00"[..],
            &(5_u64 << 30).to_le_bytes(),
            &(4_u64 << 30).to_le_bytes(),
            &(6_u64 << 30).to_le_bytes(),
        ]
        .concat();
        assert!(memchr::memmem::find(&out, &extra).is_some());
        assert_eq!(out[20..28], [0xff; 8]);
        assert_eq!(out[42..46], [0xff; 4]);
    }
}
