//! Headers of one record as bytes, for the `headers` column.
//!
//! The names of the contract are written as one byte, their place in its table: they are a fifth of a small record
//! otherwise.

use std::borrow::Cow;

use crate::contract::{HEADER_NAMES as NAMES, Headers};

/// In place of a number: the name follows as text.
const SPELLED: u8 = 0xff;

/// Each header as number (or [`SPELLED`] and text) and text; a text is its length as a little-endian base-128 number,
/// then its bytes.
pub(super) fn encode(headers: &Headers) -> Vec<u8> {
    let mut out = Vec::with_capacity(headers.iter().map(|(_, value)| value.len() + 4).sum());
    for (name, value) in headers {
        match NAMES.iter().position(|known| known == name).and_then(|n| u8::try_from(n).ok()) {
            Some(number) => out.push(number),
            None => {
                out.push(SPELLED);
                put(&mut out, name);
            }
        }
        put(&mut out, value);
    }
    out
}

/// The reverse of [`encode`]; `None` when the bytes are something else.
pub(super) fn decode(mut bytes: &[u8]) -> Option<Headers> {
    let mut headers = Headers::with_capacity(NAMES.len());
    while let Some((number, rest)) = bytes.split_first() {
        bytes = rest;
        let name = match *number {
            SPELLED => Cow::Owned(take(&mut bytes)?.to_owned()),
            known => Cow::Borrowed(*NAMES.get(usize::from(known))?),
        };
        headers.push((name, take(&mut bytes)?.to_owned()));
    }
    Some(headers)
}

fn put(out: &mut Vec<u8>, text: &str) {
    let mut length = text.len();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(text.as_bytes());
}

fn take<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let mut length = 0_usize;
    for shift in (0..usize::BITS).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        length |= usize::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            let (text, rest) = bytes.split_at_checked(length)?;
            *bytes = rest;
            return std::str::from_utf8(text).ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::contract;

    #[test]
    fn the_contract_spells_no_name_of_its_own() {
        let mut change = contract::example();
        change.late = true;
        change.traceparent = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned());
        let headers = contract::encode(&change).unwrap().headers;
        assert_eq!(headers.len(), NAMES.len());
        let bytes = encode(&headers);
        assert!(!bytes.contains(&SPELLED));
        assert_eq!(decode(&bytes), Some(headers));
    }

    #[test]
    fn the_bytes_are_fixed() {
        let headers: Headers = vec![(Cow::Borrowed("ce_id"), "ab".to_owned()), (Cow::Borrowed("x"), "é".repeat(100))];
        let mut expected = vec![1, 2, b'a', b'b', 0xff, 1, b'x', 0xc8, 1];
        expected.extend("é".repeat(100).bytes());
        assert_eq!(encode(&headers), expected);
    }

    #[test]
    fn foreign_bytes_are_refused() {
        for bytes in [&[1][..], &[1, 3, b'a'], &[18, 1, b'a'], &[1, 1, 0xc3], &[0xff, 0x80, 0x80], &[1; 2]] {
            assert_eq!(decode(bytes), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn any_headers_survive(headers in proptest::collection::vec((".{0,20}", ".{0,300}"), 0..20)) {
            let headers: Headers = headers.into_iter().map(|(n, v)| (Cow::Owned(n), v)).collect();
            prop_assert_eq!(decode(&encode(&headers)), Some(headers));
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            decode(&bytes);
        }
    }
}
