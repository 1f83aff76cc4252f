//! Any bytes as a safetensors file: all tensors or an error.
#![no_main]
use std::io::Write;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(data).expect("written");
    let _ = postgrad_nn::checkpoint::read_safetensors(file.path());
});
