//! How a mapping cuts and spells the letters of the model: as telephone numbers, days, amounts, entries of a list, each
//! CRM in its own way.
//!
//! The letters stay what they are inside the model's world; they are dressed where they leave it and undressed where they
//! come back, so a run with other clothes is the same run. The surprising thing: a CRM spells a value its own way again
//! whatever was written to it, which is what systems do with telephone numbers.

use headgate_relay::mapping::{Form, Kind, Table};
use headgate_schemas::Value;

/// The first day of the month whose days stand for letters, in milliseconds since the epoch.
const FIRST_DAY: i64 = 1_772_323_200_000;
const DAY: i64 = 86_400_000;

/// What letters look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dress {
    /// As they are.
    #[default]
    Plain,
    /// Text with more or less white space around it.
    Text,
    /// E-mail addresses in small or capital letters.
    Email,
    /// Telephone numbers, punctuated or not.
    Phone,
    /// Amounts with more or fewer zeros, as numbers or as text.
    Number,
    /// Days, or moments of these days.
    Date,
    /// Web addresses, or only their hosts.
    Domain,
    /// Entries of a list that each CRM has names of its own for; `d` has none.
    Listed,
}

impl Dress {
    /// All clothes.
    pub const ALL: [Self; 7] =
        [Self::Text, Self::Email, Self::Phone, Self::Number, Self::Date, Self::Domain, Self::Listed];

    /// The type of a field that is dressed so.
    pub const fn kind(self) -> Kind {
        match self {
            Self::Plain | Self::Listed => Kind::Choice,
            Self::Text => Kind::Text,
            Self::Email => Kind::Email,
            Self::Phone => Kind::Phone,
            Self::Number => Kind::Number,
            Self::Date => Kind::Date,
            Self::Domain => Kind::Domain,
        }
    }

    /// The types of the parts of a group: the first is dressed, the second is a plain letter.
    pub const fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Plain | Self::Listed => &[],
            Self::Text => &[Kind::Text, Kind::Choice],
            Self::Email => &[Kind::Email, Kind::Choice],
            Self::Phone => &[Kind::Phone, Kind::Choice],
            Self::Number => &[Kind::Number, Kind::Choice],
            Self::Date => &[Kind::Date, Kind::Choice],
            Self::Domain => &[Kind::Domain, Kind::Choice],
        }
    }

    /// Every second CRM tells everything as text.
    pub const fn form(self, member: usize) -> Form {
        if matches!(self, Self::Plain) || member.is_multiple_of(2) { Form::Json } else { Form::Text }
    }

    /// The names of a list in a CRM.
    pub fn table(self, member: usize) -> Option<Table> {
        let pair = |letter: char| (Value::text(letter.to_string()), self.spell(member, letter));
        (self == Self::Listed).then(|| Table { pairs: ['a', 'b', 'c'].map(pair).to_vec(), closed: true })
    }

    /// A letter as a CRM spells it on the wire.
    pub fn spell(self, member: usize, letter: char) -> Value {
        let odd = member % 2 == 1;
        let number = i64::from(u32::from(letter)) - i64::from(u32::from('a')) + 1;
        let text = match self {
            Self::Plain => letter.to_string(),
            Self::Text if odd => format!("  {letter} "),
            Self::Text => letter.to_string(),
            Self::Email if odd => format!("{}@EXAMPLE.COM", letter.to_ascii_uppercase()),
            Self::Email => format!("{letter}@example.com"),
            Self::Phone if odd => format!("+47 (900) 00-0{number:02}"),
            Self::Phone => format!("+47900000{number:02}"),
            Self::Number if odd => format!("{number}.500"),
            Self::Number => return Value::Number(format!("{number}.5").into()),
            Self::Date if odd => (FIRST_DAY + (number - 1) * DAY + 3_600_000).to_string(),
            Self::Date if member == 0 => format!("2026-03-{number:02}"),
            Self::Date => format!("2026-03-{number:02}T23:59:00.000+00:00"),
            Self::Domain if odd => format!("https://www.{}.Example.com/about", letter.to_ascii_uppercase()),
            Self::Domain => format!("{letter}.example.com"),
            Self::Listed => format!("{}{member}", letter.to_ascii_uppercase()),
        };
        Value::text(text)
    }

    /// The letter behind a value, however it is spelled.
    pub fn letter(self, value: &Value) -> char {
        let plain = value.to_plain();
        let text = plain.trim();
        let nth =
            |number: i64| u8::try_from(number).ok().and_then(|n| (b'a'..=b'z').nth(usize::from(n) - 1)).map(char::from);
        let first = |text: &str| text.chars().next();
        let small = |text: &str| first(text).map(|c| c.to_ascii_lowercase());
        let found = match self {
            Self::Plain | Self::Text => first(text),
            Self::Email | Self::Listed => small(text),
            Self::Phone => text.get(text.len().saturating_sub(2)..).and_then(|tail| tail.parse().ok()).and_then(nth),
            Self::Number => text.split('.').next().and_then(|whole| whole.parse().ok()).and_then(nth),
            Self::Date => match text.get(8..10).filter(|_| text.contains('-')) {
                Some(day) => day.parse().ok().and_then(nth),
                None => text.parse::<i64>().ok().and_then(|ms| nth((ms - FIRST_DAY) / DAY + 1)),
            },
            Self::Domain => small(text.trim_start_matches("https://").trim_start_matches("www.")),
        };
        found.unwrap_or_else(|| panic!("{text:?} is no letter dressed as {self:?}"))
    }
}

#[test]
fn what_was_dressed_is_the_same_letter_undressed_and_the_same_value_in_every_crm() {
    for dress in Dress::ALL {
        for letter in 'a'..='d' {
            let native = |member| dress.kind().decode(dress.form(member), &dress.spell(member, letter));
            for member in 0..3 {
                assert_eq!(dress.letter(&dress.spell(member, letter)), letter, "{dress:?}");
                assert_eq!(dress.letter(&native(member)), letter, "{dress:?}");
                let same = dress.kind().same(&native(0), &native(member));
                assert!(same || dress == Dress::Listed, "{dress:?}: {:?} and {:?}", native(0), native(member));
                assert!(!dress.kind().same(&native(member), &dress.spell(member, 'e')), "{dress:?}");
            }
        }
    }
}
