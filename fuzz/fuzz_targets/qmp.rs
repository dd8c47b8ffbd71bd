#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dpdk_colo_fuzz::targets::qmp::run(data));
