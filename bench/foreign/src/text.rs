//! The form of most inputs: lines, an empty line, and a body that is taken as it is. It knows no meaning.
//!
//! The surprising thing: nothing is refused. An input without an empty line is all body, a line that is no header is no
//! header; whoever looks for inputs must not waste most of them on this form.

/// Head and body of an input.
pub(crate) fn split(input: &[u8]) -> (&[u8], &[u8]) {
    match input.windows(2).position(|two| two == b"\n\n") {
        Some(end) => (&input[..end], &input[end + 2..]),
        None => (&[], input),
    }
}

/// The lines of a head.
pub(crate) fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    head.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// `name: value` of a line.
pub(crate) fn header(line: &[u8]) -> Option<(&str, &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = std::str::from_utf8(&line[..colon]).ok()?;
    Some((name, line[colon + 1..].trim_ascii_start()))
}

/// The URL in the first line of a head, where one stands there, and the headers after it.
pub(crate) fn headers(head: &[u8]) -> (Option<&str>, Vec<(&str, &[u8])>) {
    let mut lines = lines(head).peekable();
    let is_url = |line: &&str| line.starts_with('/') || line.contains("://");
    let url = lines.peek().and_then(|line| std::str::from_utf8(line).ok()).filter(is_url);
    (url, lines.skip(usize::from(url.is_some())).filter_map(header).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_and_body_are_told_apart() {
        let (head, body) = split(b"https://h.example/in?x=y\na: 1\n\n{\n\n}");
        assert_eq!(body, b"{\n\n}");
        let (url, listed) = headers(head);
        assert_eq!((url, &listed[..]), (Some("https://h.example/in?x=y"), &[("a", &b"1"[..])][..]));
        assert_eq!(headers(b"a: 1"), (None, vec![("a", &b"1"[..])]));
        assert_eq!(split(b"{}"), (&b""[..], &b"{}"[..]));
        assert_eq!(headers(b""), (None, Vec::new()));
    }
}
