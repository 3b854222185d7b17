//! The nearest known name for a mistyped one. Pure. Far-fetched guesses are worse than none, so there is a threshold.

/// The candidate most like `name`, if any is alike enough to be meant.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const ALIKE: f64 = 0.8;
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&name.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(score, _)| *score >= ALIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// The sentence that names the nearest candidate, or all of them when none is near.
pub(crate) fn advice(name: &str, candidates: &[&str]) -> String {
    match nearest(name, candidates.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("use {}", one_of(candidates)),
    }
}

/// `"a"`, `"a" or "b"`, `one of "a", "b", "c"`.
pub(crate) fn one_of(names: &[&str]) -> String {
    match names {
        [] => "nothing".to_owned(),
        [only] => format!("\"{only}\""),
        [a, b] => format!("\"{a}\" or \"{b}\""),
        many => format!("one of {}", many.iter().map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_find_their_name_and_strangers_do_not() {
        let known = ["listen", "public_url", "limits"];
        let table = [
            ("lisen", Some("listen")),
            ("LISTEN", Some("listen")),
            ("publicurl", Some("public_url")),
            ("limit", Some("limits")),
            ("colour", None),
            ("", None),
        ];
        for (name, expected) in table {
            assert_eq!(nearest(name, known), expected, "{name}");
        }
    }

    #[test]
    fn advice_names_one_or_lists_all() {
        assert_eq!(advice("last_writ", &["last_write", "theirs"]), "did you mean \"last_write\"?");
        assert_eq!(advice("zzz", &["last_write", "theirs"]), "use \"last_write\" or \"theirs\"");
        assert_eq!(advice("zzz", &["a", "b", "c"]), "use one of \"a\", \"b\", \"c\"");
    }
}
