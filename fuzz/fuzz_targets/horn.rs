#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| postgrad_tasks::logic::fuzz_horn(data));
