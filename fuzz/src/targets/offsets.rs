//! The file that a node finds of its predecessor: any bytes are offsets or an error, and what is read is written the
//! same.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use super::directory;
use crate::offset_file::OffsetFile;

pub fn run(data: &[u8]) {
    let dir = directory();
    let path = dir.path().join("colo-offsets-vm.json");
    std::fs::write(&path, data).expect("a file");
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("its owner's");
    let mut file = OffsetFile::new(dir.path(), "vm");
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
