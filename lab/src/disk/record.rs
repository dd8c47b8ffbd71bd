//! Records that a client has a guest write, and the judgement of an image: is every acknowledged one there?
//!
//! In: which region of the disk, a seed, how many were acknowledged. Out: each record's bytes and the one right answer
//! to it; of an image, how many records are right, or what is wrong. Bytes follow from the seed and the number
//! alone. The first block of a region repeats the latest record (`guest/services.c`, tcp/8).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::LabError;
use crate::workload::Noise;

/// Where the guest takes records.
pub const PORT: u16 = 8;
/// Bytes of a record.
pub const LEN: usize = 4096;
/// Blocks of a region, its first among them; as in `guest/services.c`.
pub const RECORDS: u64 = 16_384;

/// One client's records.
#[derive(Debug, Clone, Copy)]
pub struct Writer {
    region: u64,
    seed: u64,
}

impl Writer {
    /// The writer of the region with this number, 0 or 1.
    pub fn new(region: u64, seed: u64) -> Self {
        debug_assert!(region < 2);
        Self { region, seed }
    }

    /// The record with this number, which is at least 1 and less than [`RECORDS`].
    pub fn record(self, number: u64) -> Vec<u8> {
        debug_assert!((1..RECORDS).contains(&number));
        let mut record = self.block(number).to_le_bytes().to_vec();
        record.extend(Noise::new(self.seed ^ (number << 32)).bytes(LEN - record.len()));
        record
    }

    /// What the guest says once this record is on its disk.
    pub fn answer(self, number: u64, record: &[u8]) -> String {
        format!("written {} {:016x}\r\n", self.block(number), sum(record))
    }

    fn block(self, number: u64) -> u64 {
        self.region * RECORDS + number
    }
}

/// FNV-1a of 64 bits.
fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum: u64, &byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// What a client knows to be written: its records from 1 to `acknowledged`.
#[derive(Debug, Clone, Copy)]
pub struct Written {
    /// Whose.
    pub writer: Writer,
    /// How many were answered.
    pub acknowledged: u64,
}

/// Reads the image and asserts that every acknowledged record is in it, and that the first block of each region
/// repeats the last one or the one that was under way. Returns how many there are.
///
/// # Errors
/// [`LabError::Claim`] with the first record that is not there and how many are not; [`LabError::File`].
pub fn judge(image: &Path, all: &[Written]) -> Result<u64, LabError> {
    let file = File::open(image).map_err(LabError::file(image))?;
    let read = |block: u64| {
        let mut found = vec![0; LEN];
        file.read_exact_at(&mut found, block * LEN as u64)
            .map_err(LabError::file(image))?;
        Ok::<_, LabError>(found)
    };
    let mut right = 0;
    for written in all {
        let (writer, last) = (written.writer, written.acknowledged);
        let mut lost = Vec::new();
        for number in 1..=last {
            match read(writer.block(number))? == writer.record(number) {
                true => right += 1,
                false => lost.push(number),
            }
        }
        if let Some(first) = lost.first() {
            return Err(LabError::Claim {
                reason: format!(
                    "{}: {} of {last} acknowledged records are not there, the first is {first}",
                    image.display(),
                    lost.len()
                ),
            });
        }
        let head = read(writer.block(0))?;
        let owed = (last..RECORDS.min(last + 2)).filter(|&number| number > 0);
        if last > 0 && !owed.into_iter().any(|number| head == writer.record(number)) {
            return Err(LabError::Claim {
                reason: format!(
                    "{}: the first block of region {} does not repeat record {last}",
                    image.display(),
                    writer.region
                ),
            });
        }
    }
    Ok(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(records: &[(u64, Vec<u8>)]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        file.as_file()
            .set_len(2 * RECORDS * LEN as u64)
            .expect("its length");
        for (block, bytes) in records {
            file.as_file()
                .write_all_at(bytes, block * LEN as u64)
                .expect("written");
        }
        file
    }

    #[test]
    fn a_lost_an_old_and_a_wrong_record_are_found() {
        let writer = Writer::new(1, 7);
        let record = |number| (RECORDS + number, writer.record(number));
        let head = |number| (RECORDS, writer.record(number));
        let all = |acknowledged| {
            [Written {
                writer,
                acknowledged,
            }]
        };
        let whole = image(&[record(1), record(2), head(2)]);
        assert_eq!(judge(whole.path(), &all(2)).expect("whole"), 2);
        // The record after the last acknowledged one may be there.
        assert_eq!(judge(whole.path(), &all(1)).expect("whole"), 1);
        let lost = judge(whole.path(), &all(3))
            .expect_err("one is lost")
            .to_string();
        assert!(lost.contains("1 of 3 acknowledged records"), "{lost}");
        let stale = judge(image(&[record(1), record(2), head(1)]).path(), &all(2));
        assert!(
            stale
                .expect_err("an old head")
                .to_string()
                .contains("does not repeat")
        );
        let (block, mut bytes) = record(2);
        bytes[LEN - 1] ^= 1;
        assert!(judge(image(&[record(1), (block, bytes), head(2)]).path(), &all(2)).is_err());
    }

    #[test]
    fn an_answer_names_the_block_and_its_sum() {
        let writer = Writer::new(1, 1);
        let answer = writer.answer(2, b"a");
        assert_eq!(answer, "written 16386 af63dc4c8601ec8c\r\n");
    }
}
