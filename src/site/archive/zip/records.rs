//! The records of a zip archive: little-endian numbers at fixed offsets (APPNOTE.TXT §4.3).

use std::io;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::files::directory::EntryKind;
use crate::site::archive::plan::Planned;

/// The facts about an entry in its local header, and again in the central directory.
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
    /// Offset of its local header from the start of the archive.
    pub(super) offset: u64,
    /// Compressed bytes.
    pub(super) compressed: u64,
    pub(super) checksum: u32,
}

impl<'a> CentralRecord<'a> {
    /// `name` has at most 65,535 bytes.
    pub(super) fn of(name: &'a [u8], entry: &Planned) -> Self {
        let size = if entry.kind == EntryKind::File { entry.version.size } else { 0 };
        let (modified, _) = entry.version.mtime;
        Self { name, kind: entry.kind, size, modified, is_large: size > LARGE_FROM }
    }

    /// Local file header (§4.3.7).
    pub(super) fn write_local(&self, out: &mut Vec<u8>) {
        // The zip64 field says only that the descriptor has 64-bit numbers.
        let zip64 = if self.is_large { zip64_field(&[0, 0]) } else { Vec::new() };
        let extra = [zip64, self.timestamp()].concat();
        put32(out, [0x0403_4b50]);
        self.write_common(out);
        // The checksum and the sizes follow the bytes; without bytes they are 0.
        put32(out, [0; 3]);
        put16(out, [self.name.len(), extra.len()]);
        out.extend_from_slice(self.name);
        out.extend_from_slice(&extra);
    }

    /// Data descriptor (§4.3.9): the only record with the checksum and the sizes before the central directory.
    pub(super) fn write_descriptor(&self, written: &WrittenEntry, out: &mut Vec<u8>) -> io::Result<()> {
        put32(out, [0x0807_4b50, written.checksum]);
        if self.is_large {
            put64(out, &[written.compressed, self.size]);
            return Ok(());
        }
        let narrow = |number: u64| u32::try_from(number).map_err(io::Error::other);
        put32(out, [narrow(written.compressed)?, narrow(self.size)?]);
        Ok(())
    }

    /// Central directory file header (§4.3.12).
    pub(super) fn write(&self, written: &WrittenEntry, out: &mut Vec<u8>) {
        let mut wide = Vec::new();
        if self.is_large {
            wide.extend([self.size, written.compressed]);
        }
        if written.offset >= u64::from(u32::MAX) {
            wide.push(written.offset);
        }
        let mut extra = if wide.is_empty() { Vec::new() } else { zip64_field(&wide) };
        extra.extend_from_slice(&self.timestamp());
        let narrow = |size| if self.is_large { u32::MAX } else { saturated(size) };
        put32(out, [0x0201_4b50]);
        put16(out, [MADE_BY_UNIX | VERSION_ZIP64]);
        self.write_common(out);
        put32(out, [written.checksum, narrow(written.compressed), narrow(self.size)]);
        // No comment, on the first disk, no internal attributes.
        put16(out, [self.name.len(), extra.len(), 0, 0, 0]);
        let attributes = match self.kind {
            EntryKind::File => 0o100_644 << 16,
            EntryKind::Directory => 0o040_755 << 16 | DOS_DIRECTORY,
        };
        put32(out, [attributes, saturated(written.offset)]);
        out.extend_from_slice(self.name);
        out.extend_from_slice(&extra);
    }

    /// Writes the fields that both headers share, from the version needed to extract to the date.
    fn write_common(&self, out: &mut Vec<u8>) {
        let is_utf8 = !self.name.is_ascii() && str::from_utf8(self.name).is_ok();
        let version = if self.is_large { VERSION_ZIP64 } else { VERSION_DEFLATE };
        let (method, flag) =
            if self.size > 0 { (METHOD_DEFLATE, FLAG_DESCRIPTOR) } else { (METHOD_STORED, 0) };
        let (date, time) = dos_date_and_time(self.modified);
        put16(out, [version, flag | if is_utf8 { FLAG_UTF8 } else { 0 }, method, time, date]);
    }

    /// The extended timestamp: the modification time in UTC, if it fits 32 bits.
    fn timestamp(&self) -> Vec<u8> {
        let Ok(seconds) = i32::try_from(self.modified) else { return Vec::new() };
        let mut extra = Vec::with_capacity(9);
        put16(&mut extra, [EXTRA_TIMESTAMP, 5]);
        extra.push(HAS_MTIME);
        extra.extend_from_slice(&seconds.to_le_bytes());
        extra
    }
}

/// Writes the end records of the central directory (§4.3.14 to §4.3.16): its entries, offset and length.
pub(super) fn write_end(entries: u64, start: u64, size: u64, out: &mut Vec<u8>) {
    if entries >= u64::from(u16::MAX) || start.max(size) >= u64::from(u32::MAX) {
        put32(out, [0x0606_4b50]);
        put64(out, &[ZIP64_END_LENGTH]);
        put16(out, [MADE_BY_UNIX | VERSION_ZIP64, VERSION_ZIP64]);
        put32(out, [0, 0]);
        put64(out, &[entries, entries, size, start]);
        put32(out, [0x0706_4b50, 0]);
        put64(out, &[start + size]);
        put32(out, [1]);
    }
    let narrow = usize::try_from(entries.min(u64::from(u16::MAX))).unwrap_or(usize::MAX);
    put32(out, [0x0605_4b50]);
    put16(out, [0, 0, narrow, narrow]);
    put32(out, [saturated(size), saturated(start)]);
    put16(out, [0]);
}

/// The extra field for 64-bit numbers (§4.5.3).
fn zip64_field(numbers: &[u64]) -> Vec<u8> {
    let mut extra = Vec::with_capacity(4 + numbers.len() * 8);
    put16(&mut extra, [EXTRA_ZIP64, numbers.len() * 8]);
    put64(&mut extra, numbers);
    extra
}

/// MS-DOS dates: from 1980 to 2107 in steps of two seconds. Other dates become the nearest of these.
fn dos_date_and_time(seconds: i64) -> (usize, usize) {
    let seconds = seconds.clamp(DOS_FIRST, DOS_LAST);
    let moment = Timestamp::from_second(seconds).unwrap_or_default().to_zoned(TimeZone::UTC);
    let part = |number: i8| usize::try_from(number).unwrap_or(0);
    let year = usize::try_from(moment.year() - 1980).unwrap_or(0);
    let date = year << 9 | part(moment.month()) << 5 | part(moment.day());
    let time = part(moment.hour()) << 11 | part(moment.minute()) << 5 | (part(moment.second()) / 2);
    (date, time)
}

fn saturated(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Appends the low 16 bits of each number, which are all that are set.
fn put16<const N: usize>(out: &mut Vec<u8>, numbers: [usize; N]) {
    for number in numbers {
        let [low, high, ..] = number.to_le_bytes();
        out.extend_from_slice(&[low, high]);
    }
}

fn put32<const N: usize>(out: &mut Vec<u8>, numbers: [u32; N]) {
    out.extend_from_slice(numbers.map(u32::to_le_bytes).as_flattened());
}

fn put64(out: &mut Vec<u8>, numbers: &[u64]) {
    out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
}

/// Larger entries have 64-bit fields: a little less than 32 bits can hold, since deflate may make bytes longer.
const LARGE_FROM: u64 = u32::MAX as u64 - (8 << 20);

const VERSION_DEFLATE: usize = 20;
const VERSION_ZIP64: usize = 45;
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
    fn dates_are_clamped_to_those_of_ms_dos() {
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
    fn large_numbers_have_64_bit_fields() {
        let totals = |entries, start| {
            let mut out = Vec::new();
            write_end(entries, start, 10, &mut out);
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
