//! The target of `headgate-foreign` that `FUZZ_TARGET` names, under libFuzzer.
#![no_main]

use std::sync::LazyLock;

use headgate_foreign::Target;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a folder of bench/foreign/seeds");
    Target::find(&name).expect("FUZZ_TARGET names a folder of bench/foreign/seeds")
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Err(broken) = TARGET.run(input) {
        panic!("{broken}");
    }
});
