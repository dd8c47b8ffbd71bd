//! An empty qcow2 image, so that the lab needs no `qemu-img`. Format: docs/interop/qcow2.rst of QEMU.

use std::fs;
use std::path::Path;

use crate::error::LabError;

const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// References are counted in 2 to the power of this bits.
const REFERENCE_ORDER: u32 = 4;
const HEADER: u32 = 104;

/// Writes an image of version 3 without data to `path`: header, table of reference counts, their one block, and
/// the first-level table, a cluster each.
///
/// # Errors
/// [`LabError::File`].
pub fn qcow2(path: &Path, size: u64) -> Result<(), LabError> {
    let (table, block, first_level) = (CLUSTER, 2 * CLUSTER, 3 * CLUSTER);
    // A second-level table is a cluster of 8-byte entries, each for a cluster.
    let entries = size.div_ceil(CLUSTER * CLUSTER / 8) as u32;
    debug_assert!(u64::from(entries) * 8 <= CLUSTER, "one cluster of them");
    let mut image = Vec::with_capacity(4 * CLUSTER as usize);
    image.extend(b"QFI\xfb");
    image.extend(3_u32.to_be_bytes());
    image.extend([0; 12]); // No backing file: the command line names it.
    image.extend(CLUSTER_BITS.to_be_bytes());
    image.extend(size.to_be_bytes());
    image.extend(0_u32.to_be_bytes()); // No encryption.
    image.extend(entries.to_be_bytes());
    image.extend(first_level.to_be_bytes());
    image.extend(table.to_be_bytes());
    image.extend(1_u32.to_be_bytes());
    image.extend([0; 12 + 24]); // No snapshots, no features.
    image.extend(REFERENCE_ORDER.to_be_bytes());
    image.extend(HEADER.to_be_bytes());
    debug_assert_eq!(image.len(), HEADER as usize);
    image.resize(table as usize, 0);
    image.extend(block.to_be_bytes());
    image.resize(block as usize, 0);
    for _ in 0..4 {
        image.extend(1_u16.to_be_bytes());
    }
    image.resize((first_level + CLUSTER) as usize, 0);
    fs::write(path, image).map_err(LabError::file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_four_clusters_that_are_counted_and_one_table_without_entries() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        qcow2(file.path(), 128 << 20).expect("written");
        let image = fs::read(file.path()).expect("read");
        let number = |at: usize| u64::from_be_bytes(image[at..at + 8].try_into().expect("8 bytes"));
        assert_eq!(image.len() as u64, 4 * CLUSTER);
        assert_eq!(&image[..8], b"QFI\xfb\0\0\0\x03");
        assert_eq!(number(24), 128 << 20, "the disk's size");
        assert_eq!(
            (number(40), number(48)),
            (3 * CLUSTER, CLUSTER),
            "the tables' places"
        );
        assert_eq!(number(CLUSTER as usize), 2 * CLUSTER, "the block of counts");
        let counts = &image[2 * CLUSTER as usize..3 * CLUSTER as usize];
        assert_eq!(&counts[..10], [0, 1, 0, 1, 0, 1, 0, 1, 0, 0]);
        assert!(image[3 * CLUSTER as usize..].iter().all(|&byte| byte == 0));
    }
}
