#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| postgrad_lab::recipe::fuzz_recipe(data));
