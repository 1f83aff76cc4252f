#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| postgrad_tasks::search::fuzz_cover(data));
