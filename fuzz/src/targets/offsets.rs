//! The file that a node finds of its predecessor: any bytes are offsets or an error, and what is read is written the
//! same.

use std::path::Path;

use super::{in_directory, put};
use crate::offset_file::OffsetFile;

pub fn run(data: &[u8]) {
    in_directory(|dir| read_and_write(dir, data));
}

fn read_and_write(dir: &Path, data: &[u8]) {
    put(&dir.join("colo-offsets-vm.json"), data);
    let mut file = OffsetFile::new(dir, "vm");
    let Ok(left) = file.read() else {
        return;
    };
    let left = left.expect("there is a file");
    for (flow, offset) in &left.offsets {
        file.collect(*flow, *offset);
    }
    let written = file.write(left.term).expect("a writable directory");
    assert_eq!(written, left.offsets.len());
    assert_eq!(file.read().expect("what was written"), Some(left));
}
