//! Where a reader of the stream wants to begin, as it stands behind `from=`: the number of partitions, whether offsets
//! are numbered across them (`across`), and the text.

use headgate_schemas::stream::{Begin, Cursor};

/// Most partitions that are tried.
const PARTITIONS: u32 = 64;

/// What was promised of every position and did not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// What is written down does not read as what it was.
    #[error("a beginning does not come back as it was")]
    Begin,
    /// A position that was handed out is refused when it comes back.
    #[error("a position that was handed out is refused")]
    Refused,
    /// A reader that goes on at the position it was told misses records.
    #[error("a position that was handed out lies behind the place it was taken at")]
    Skips,
    /// A position has not one place for each partition.
    #[error("{0} places in all partitions")]
    Places(usize),
}

/// Reads the text, writes it and reads it again; answers 1 for a beginning.
///
/// # Errors
/// A broken promise. A text that is no beginning is none.
pub fn run(input: &[u8]) -> Result<usize, crate::Broken> {
    let input = String::from_utf8_lossy(input);
    let mut words = input.split(' ');
    let partitions = words.next().and_then(|word| word.parse().ok()).unwrap_or(1_u32).clamp(1, PARTITIONS);
    let across = words.next() == Some("across");
    let text = words.next().unwrap_or_default().trim_end();
    let Ok(begin) = text.parse::<Begin>() else { return Ok(0) };
    if begin.to_string().parse() != Ok(begin.clone()) {
        return Err(Broken::Begin.into());
    }
    let Begin::At(text) = begin else { return Ok(1) };
    let Ok(cursor) = Cursor::parse(&text, partitions, across) else { return Ok(0) };
    let places = cursor.positions();
    if places.iter().map(|place| place.partition).ne(0..partitions) {
        return Err(Broken::Places(places.len()).into());
    }
    let told = Cursor::parse(&cursor.to_string(), partitions, across).map_err(|_| Broken::Refused)?;
    let skips = std::iter::zip(told.positions(), places).any(|(told, place)| told.offset > place.offset);
    if skips { Err(Broken::Skips.into()) } else { Ok(1) }
}
