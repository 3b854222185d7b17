//! Salesforce ids in the one form that is compared and stored. Pure. The surprising thing: case matters in the short form
//! of 15 characters; the long form adds three that tell the case of five characters each, and so survives systems that
//! fold it ("Object Reference": ID field type).

/// The 18-character form of an id of 15 or 18 characters; `None` for anything else, a wrong suffix included.
pub(crate) fn id18(id: &str) -> Option<String> {
    const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345";
    if !matches!(id.len(), 15 | 18) || !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let (short, given) = id.split_at(15);
    let suffix: String = short
        .as_bytes()
        .chunks(5)
        .map(|five| {
            let bits = five.iter().rev().fold(0_usize, |bits, b| bits << 1 | usize::from(b.is_ascii_uppercase()));
            char::from(LETTERS[bits])
        })
        .collect();
    (given.is_empty() || given == suffix).then(|| format!("{short}{suffix}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_become_the_long_one() {
        for (short, long) in [("00D7F00000107Xs", "00D7F00000107XsUAI"), ("aaaaaAAAAAaAaAa", "aaaaaAAAAAaAaAaA5K")] {
            assert_eq!(id18(short).as_deref(), Some(long));
            assert_eq!(id18(long).as_deref(), Some(long));
        }
        for text in
            ["", "00D7F00000107X", "00D7F00000107XsUAJ", "00D7F00000107X-", "00D7F00000107XsUAIx", "00D7F000001é7"]
        {
            assert_eq!(id18(text), None, "{text}");
        }
    }
}
