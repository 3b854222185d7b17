//! Account ids in the one form that events are compared with. Pure. The surprise: a Salesforce id has a short form of
//! 15 characters, whose case matters, and a long one of 18 with three characters of checksum over that case
//! (Salesforce, "Object Reference": ID field type).

use headgate_schemas::System;

/// An account id after reading.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Account {
    /// In canonical form.
    Canonical(String),
    /// As written, and doubtful: why.
    Doubtful(String, &'static str),
    /// Not an account id of that system: what it should be.
    Wrong(&'static str),
}

/// Brings `account` into the form the events of `system` are compared with.
pub(crate) fn canonical(system: System, account: &str) -> Account {
    match system {
        System::Salesforce => salesforce(account),
        System::Hubspot if !account.bytes().all(|b| b.is_ascii_digit()) => Account::Wrong("the portal id, digits only"),
        System::Hubspot | System::Dynamics | System::Pipedrive | System::Native => {
            let fits = |b: u8| b.is_ascii_graphic() && b != b'/';
            if account.len() <= 128 && account.bytes().all(fits) {
                // The id of an environment is written in either case.
                let fold = system == System::Dynamics;
                Account::Canonical(if fold { account.to_ascii_lowercase() } else { account.to_owned() })
            } else {
                Account::Wrong("at most 128 visible characters without \"/\"")
            }
        }
    }
}

fn salesforce(id: &str) -> Account {
    if !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Account::Wrong("an organization id of 15 or 18 letters and digits");
    }
    match id.len() {
        15 => Account::Canonical(format!("{id}{}", checksum(id))),
        18 if id.ends_with(&checksum(&id[..15])) => Account::Canonical(id.to_owned()),
        18 => Account::Doubtful(id.to_owned(), "the last three characters do not fit the first fifteen"),
        _ => Account::Wrong("an organization id of 15 or 18 letters and digits"),
    }
}

/// Three characters, each for five of the fifteen: bit n is set when character n is an upper-case letter.
fn checksum(short: &str) -> String {
    const DIGITS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345";
    short
        .as_bytes()
        .chunks(5)
        .map(|five| {
            let bits = five.iter().enumerate().fold(0, |bits, (n, b)| bits | usize::from(b.is_ascii_uppercase()) << n);
            char::from(DIGITS[bits % DIGITS.len()])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_of_each_system() {
        let is = |id: &str| Account::Canonical(id.to_owned());
        let org = "an organization id of 15 or 18 letters and digits";
        let table = [
            (System::Salesforce, "00D5g000000ABCD", is("00D5g000000ABCDEA4")),
            (System::Salesforce, "00D5g000000ABCDEA4", is("00D5g000000ABCDEA4")),
            (System::Salesforce, "001D000000IqhSL", is("001D000000IqhSLIAZ")),
            (
                System::Salesforce,
                "00D5g000000ABCDEAA",
                Account::Doubtful(
                    "00D5g000000ABCDEAA".into(),
                    "the last three characters do not fit the first fifteen",
                ),
            ),
            (System::Salesforce, "00D5g", Account::Wrong(org)),
            (System::Salesforce, "00D5g00000ä0ABCD", Account::Wrong(org)),
            (System::Hubspot, "5550123", is("5550123")),
            (System::Hubspot, "portal", Account::Wrong("the portal id, digits only")),
            (System::Dynamics, "4EF5B371-e89e-e711-8122-000d3aa2331c", is("4ef5b371-e89e-e711-8122-000d3aa2331c")),
            (System::Native, "crm-1", is("crm-1")),
            (System::Native, "a/b", Account::Wrong("at most 128 visible characters without \"/\"")),
        ];
        for (system, account, expected) in table {
            assert_eq!(canonical(system, account), expected, "{account}");
        }
    }
}
