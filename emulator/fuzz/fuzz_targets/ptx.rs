//! What: the libFuzzer target over PTX text.
//! Why here: a fuzzer finds what mutations by hand do not.
//! Pre: any bytes.
//! Post: no panic.
#![no_main]

#[path = "../entry.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = entry::any_bytes(data);
});
