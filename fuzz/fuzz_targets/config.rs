//! Any JSON as a `config.json`, a `generation_config.json` or an `adapter_config.json`. What is read as a decoder's
//! configuration must be written so that it is read again.
#![no_main]
use postgrad_nn::config::Config;
use serde_json::Value;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(value) = serde_json::from_slice::<Value>(data) else { return };
    if let Ok(config) = Config::from_json(&value) {
        Config::from_json(&config.to_json()).expect("a configuration as we write it");
    }
    let _ = postgrad_nn::checkpoint::GenerationDefaults::from_json(&value);
    let _ = postgrad_nn::peft::LoraConfig::from_json(&value);
});
