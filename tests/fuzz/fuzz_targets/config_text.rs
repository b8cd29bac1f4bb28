//! A configuration file: any text gives a configuration or one finding with a place.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(error) = config::Config::parse(text, "fuzz.toml") {
        assert!(error.to_string().starts_with("fuzz.toml"));
    }
});
