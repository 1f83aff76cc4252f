#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| postgrad_tasks::answers::fuzz_answers(data));
