//! The tar format of POSIX.1-2001: ustar headers, and pax records for values that do not fit them.

use std::io;

use tar::{EntryType, Header};

use super::plan::{ArchivePlan, Planned};
use super::source::PlannedFileReader;
use crate::files::Files;
use crate::files::directory::EntryKind;

/// A tar archive that is being written.
pub(crate) struct TarBlocks {
    files: Files,
    plan: ArchivePlan,
    next: usize,
    open: Option<PlannedFileReader>,
    is_ended: bool,
}

impl TarBlocks {
    pub(super) fn new(plan: ArchivePlan, files: Files) -> Self {
        Self { files, plan, next: 0, open: None, is_ended: false }
    }

    /// Appends the header of an entry or the next bytes of a file to whole blocks; returns false after the last. Blocks.
    pub(super) fn write_some(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        if let Some(source) = &mut self.open {
            if source.read(out)? == 0 {
                self.open = None;
            }
            fill_block(out);
            return Ok(true);
        }
        let Some(entry) = self.plan.entries.get(self.next) else {
            let is_last = !std::mem::replace(&mut self.is_ended, true);
            out.resize(out.len() + if is_last { 2 * BLOCK } else { 0 }, 0);
            return Ok(false);
        };
        self.next += 1;
        if entry.kind == EntryKind::File {
            self.open = Some(PlannedFileReader::open(&self.files, entry)?);
        }
        head(&self.plan.name_of(entry), entry, out);
        Ok(true)
    }
}

/// Appends the headers of one entry.
fn head(name: &[u8], entry: &Planned, out: &mut Vec<u8>) {
    let (kind, mode, size) = match entry.kind {
        EntryKind::Directory => (EntryType::Directory, 0o755, 0),
        EntryKind::File => (EntryType::Regular, 0o644, entry.version.size),
    };
    let (seconds, _) = entry.version.mtime;
    let records = records(name, size, seconds);
    if !records.is_empty() {
        let short_name = [PAX_DIRECTORY, name].concat();
        let header = header(&short_name, EntryType::XHeader, 0o644, records.len() as u64, 0);
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(&records);
        fill_block(out);
    }
    let mtime = u64::try_from(seconds).unwrap_or(0);
    out.extend_from_slice(header(name, kind, mode, size, mtime).as_bytes());
}

/// Fills up the last block with zeros. `out` begins at a block of the archive.
fn fill_block(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(BLOCK), 0);
}

/// Makes a ustar header. A value that does not fit is cut off here and complete in a pax record; large numbers are also in base 256,
/// for old readers.
fn header(name: &[u8], kind: EntryType, mode: u32, size: u64, mtime: u64) -> Header {
    let mut header = Header::new_ustar();
    for (place, byte) in header.as_old_mut().name.iter_mut().zip(name) {
        *place = *byte;
    }
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size);
    header.set_mtime(mtime);
    header.set_cksum();
    header
}

/// Returns the pax records that an entry needs.
fn records(name: &[u8], size: u64, seconds: i64) -> Vec<u8> {
    let mut records = Vec::new();
    let is_utf8 = str::from_utf8(name).is_ok();
    // A short name that is not UTF-8 is left as it is: a record would have to be UTF-8.
    if name.len() > NAME_LENGTH || (is_utf8 && !name.is_ascii()) {
        if !is_utf8 {
            record("hdrcharset", b"BINARY", &mut records);
        }
        record("path", name, &mut records);
    }
    if size > SIZE_MAX {
        record("size", size.to_string().as_bytes(), &mut records);
    }
    if !(0..=MTIME_MAX).contains(&seconds) {
        record("mtime", seconds.to_string().as_bytes(), &mut records);
    }
    records
}

/// Appends `LENGTH KEY=VALUE\n`, where the length includes its own digits.
fn record(key: &str, value: &[u8], records: &mut Vec<u8>) {
    let rest = key.len() + value.len() + 3;
    let length = (rest..).find(|length| *length == rest + length.to_string().len()).unwrap_or(rest);
    records.extend_from_slice(format!("{length} {key}=").as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

const BLOCK: usize = 512;

/// Bytes for the name in a header.
const NAME_LENGTH: usize = 100;

/// Largest number of eleven octal digits.
const SIZE_MAX: u64 = (1 << 33) - 1;

const MTIME_MAX: i64 = (1 << 33) - 1;

/// Readers that do not know pax records unpack them as files in this directory.
const PAX_DIRECTORY: &[u8] = b"PaxHeaders/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_record_includes_its_own_digits() {
        for (value, expected) in [(1, 9), (2, 11), (90, 99), (91, 101)] {
            let mut records = Vec::new();
            record("path", "x".repeat(value).as_bytes(), &mut records);
            assert_eq!(
                String::from_utf8(records).unwrap(),
                format!("{expected} path={}\n", "x".repeat(value))
            );
            assert_eq!(expected, format!("{expected} path=\n").len() + value);
        }
    }

    #[test]
    fn only_values_that_do_not_fit_have_a_record() {
        let text =
            |name: &[u8], size, seconds| String::from_utf8_lossy(&records(name, size, seconds)).into_owned();
        assert_eq!(text(b"a", SIZE_MAX, 0), "");
        assert_eq!(text(&[b'a'; 100], 0, MTIME_MAX), "");
        assert_eq!(text(b"\xff", 0, 0), "");
        assert_eq!(text("é".as_bytes(), 0, 0), "11 path=é\n");
        assert_eq!(text(b"a", SIZE_MAX + 1, 0), "19 size=8589934592\n");
        assert_eq!(text(b"a", 0, -5), "12 mtime=-5\n");
        let long = text(&[b"\xff".as_slice(), &[b'a'; 100]].concat(), 0, 0);
        assert!(long.starts_with("21 hdrcharset=BINARY\n") && long.contains(" path="), "{long}");
    }
}
