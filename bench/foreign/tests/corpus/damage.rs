//! Seeds damaged in a way that a number decides, so that a failure can be run again. Coverage-guided fuzzing does the
//! same for longer and with open eyes; this is what every build can afford.

use headgate_foreign::Target;

use super::{run, seeds};

/// Damages of each seed.
const DAMAGES: u64 = 40;
/// What is put in: ends of structures, odd numbers and texts, and bytes that are no text.
const TOKENS: [&[u8]; 29] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\"",
    b"null",
    b"true",
    b"-1",
    b"1e9",
    b"99999999999999999999",
    b"99999999999999999999999999",
    b"\"\\ud800\"",
    b"\xff",
    b"\0",
    b"<",
    b"</",
    b"/>",
    b"&amp;",
    b"&#0;",
    b"]]>",
    b"<!DOCTYPE a>",
    b"/Date(9999999999999999)/",
    b"\"0xFFFFFFFFFFFF\"",
    b"2026-01-01T00:00:00Z",
    b"\n\n",
    b"\n> 207\n",
    b"\xf0\x9f\x98\x80",
];

fn damaged(seed: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut input = seed.to_vec();
    for _ in 0..random.usize(1..6) {
        let at = random.usize(..=input.len());
        let end = at + random.usize(..=(input.len() - at).min(64));
        match random.u8(..6) {
            0 if at < input.len() => input[at] ^= 1 << random.u8(..8),
            1 => input.truncate(at),
            2 => drop(input.drain(at..end)),
            3 => {
                let part = input[at..end].to_vec();
                input.splice(at..at, part);
            }
            _ => drop(input.splice(at..at, TOKENS[random.usize(..TOKENS.len())].iter().copied())),
        }
    }
    input
}

#[test]
fn damaged_seeds_keep_the_promises() {
    for target in Target::all() {
        for (number, (file, seed)) in seeds(&target).iter().enumerate() {
            for damage in 0..DAMAGES {
                let random = &mut fastrand::Rng::with_seed(number as u64 * 1_000 + damage);
                run(&target, &format!("{file} damage {damage}"), &damaged(seed, random));
            }
        }
    }
}
