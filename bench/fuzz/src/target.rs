//! One target of `headgate-foreign`, the one this binary is named after, under libFuzzer.
#![no_main]

use std::sync::LazyLock;

use headgate_foreign::Target;

static TARGET: LazyLock<&Target> =
    LazyLock::new(|| Target::find(env!("CARGO_BIN_NAME")).expect("each binary is named after a target"));

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Err(broken) = (TARGET.run)(input) {
        panic!("{broken}");
    }
});
