//! Answers of a CRM: what was asked, then each answer as `> ` and its status, its headers, an empty line, its body.

use headgate_relay::foreign::{Answer, Asked, try_answers, try_login};
use headgate_schemas::System;

use crate::Broken;
use crate::text::{header, lines, split};

/// What begins an answer.
const MARK: &[u8] = b"\n> ";

/// Asks, and reads the answers; answers how much came back good.
///
/// # Errors
/// A broken promise. A refusal is none.
pub fn run(system: System, input: &[u8]) -> Result<usize, Broken> {
    let mut parts = Parts(Some(input));
    let question = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let asked = Asked::ALL.into_iter().find(|asked| asked.as_str() == question.trim()).unwrap_or(Asked::Read);
    Ok(try_answers(system, asked, &parts.map(answer).collect::<Vec<_>>())?)
}

/// Reads the first answer as one of a token endpoint; what stands before it says nothing. Answers 1 for a token.
///
/// # Errors
/// A broken promise. A refusal is none.
pub fn login(input: &[u8]) -> Result<usize, Broken> {
    let told = Parts(Some(input)).map(answer).nth(1).unwrap_or_default();
    Ok(try_login(&told)?)
}

/// The text of a question and its answers.
pub fn write(asked: Asked, answers: &[Answer]) -> Vec<u8> {
    let mut text = asked.as_str().as_bytes().to_vec();
    for answer in answers {
        text.extend_from_slice(MARK);
        text.extend_from_slice(answer.status.to_string().as_bytes());
        for (name, value) in &answer.headers {
            text.push(b'\n');
            text.extend_from_slice(&[name.as_bytes(), b": ", value].concat());
        }
        text.extend_from_slice(b"\n\n");
        text.extend_from_slice(&answer.body);
    }
    text
}

/// What stands between the marks.
struct Parts<'a>(Option<&'a [u8]>);

impl<'a> Iterator for Parts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.0.take()?;
        match rest.windows(MARK.len()).position(|some| some == MARK) {
            Some(end) => {
                self.0 = Some(&rest[end + MARK.len()..]);
                Some(&rest[..end])
            }
            None => Some(rest),
        }
    }
}

fn answer(part: &[u8]) -> Answer {
    let (head, body) = split(part);
    let mut lines = lines(head);
    let status = lines.next().and_then(|line| std::str::from_utf8(line).ok()?.trim().parse().ok());
    Answer {
        // What tells no status is all body of a good answer.
        status: status.unwrap_or(200),
        headers: lines.filter_map(header).map(|(name, value)| (name.to_owned(), value.to_vec())).collect(),
        body: body.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let answers = [
            Answer { status: 207, headers: vec![("date".to_owned(), b"today".to_vec())], body: b"{\n\n}".to_vec() },
            Answer { status: 500, headers: Vec::new(), body: Vec::new() },
        ];
        let text = write(Asked::Create, &answers);
        assert_eq!(text, b"create\n> 207\ndate: today\n\n{\n\n}\n> 500\n\n");
        let mut parts = Parts(Some(&text));
        assert_eq!(parts.next(), Some(&b"create"[..]));
        assert_eq!(parts.map(answer).collect::<Vec<_>>(), answers);
    }
}
