#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    engine_fuzz::model_cache::run(data);
});
