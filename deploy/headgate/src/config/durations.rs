//! Durations as people write them: a whole number and a unit. Pure.

use std::time::Duration;

/// How a duration is written; part of every fault about one.
pub(crate) const FORM: &str = "a whole number and a unit: ms, s, m, h or d, like \"50ms\", \"60s\", \"2h\"";

/// Reads `50ms`, `60s`, `5m`, `2h`, `7d`. `None` for anything else, and for what does not fit.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let seconds = match unit {
        "ms" => return Some(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}

/// Writes a duration in its largest whole unit.
pub(crate) fn show(duration: Duration) -> String {
    let ms = duration.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    match units.into_iter().find(|(size, _)| ms > 0 && ms.is_multiple_of(*size)) {
        Some((size, unit)) => format!("{}{unit}", ms / size),
        None => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_nothing_else() {
        let table = [
            ("50ms", Some(50)),
            ("60s", Some(60_000)),
            ("5m", Some(300_000)),
            ("2h", Some(7_200_000)),
            ("7d", Some(604_800_000)),
            ("0s", Some(0)),
            ("", None),
            ("60", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("1 s", None),
            ("1h30m", None),
            ("99999999999999999999s", None),
            ("18446744073709551615d", None),
        ];
        for (text, ms) in table {
            assert_eq!(parse(text), ms.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn shown_in_the_largest_whole_unit() {
        for text in ["50ms", "59s", "90m", "26h", "7d", "0ms"] {
            assert_eq!(parse(text).map(show).as_deref(), Some(text));
        }
    }
}
