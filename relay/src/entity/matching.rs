//! What makes two records one person or company, and how sure it is.
//!
//! | type | key | sure |
//! |---|---|---|
//! | contact | e-mail address | 100 |
//! | contact | LinkedIn address | 95 |
//! | contact | full name and company | 90 |
//! | contact | phone number | 85 |
//! | company | domain | 100 |
//! | company | name and city | 90 |
//!
//! At 100 records are linked, from 85 a person is asked, below that there is no match. A key at 100 is unique: one
//! entity holds it, so two CRMs that create one person at once join one entity. The surprising thing: a weak key says
//! nothing of two people who both have an e-mail address and not the same one; colleagues share a switchboard.

use super::Entity;
use crate::mapping::Kind;
use crate::store::{Key, claim_key};

/// From here on records are linked without a question.
pub const LINK: u8 = 100;

/// Something by which an entity may be found to be another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatchKey {
    /// What it is: `email`, `phone`, …
    pub kind: &'static str,
    /// Hash of the normal form.
    pub key: Key,
    /// How sure a match is, of 100.
    pub confidence: u8,
}

/// The spelling under which two values are the same key.
#[derive(Clone, Copy, Debug)]
enum Spelling {
    /// That of the type.
    Of(Kind),
    /// A web page: scheme, `www.` and a closing slash do not count.
    Page,
}

/// One line of the table above: its name, the fields it is made of, and how sure it is.
type Line = (&'static str, &'static [(&'static str, Spelling)], u8);

use Spelling::{Of, Page};

const CONTACT: &[Line] = &[
    ("email", &[("email", Of(Kind::Email))], 100),
    ("linkedin", &[("linkedin", Page)], 95),
    ("name_company", &[("first_name", Of(Kind::Text)), ("last_name", Of(Kind::Text)), ("company", Of(Kind::Text))], 90),
    ("phone", &[("phone", Of(Kind::Phone))], 85),
];

const COMPANY: &[Line] = &[
    ("domain", &[("domain", Of(Kind::Domain))], 100),
    ("name_city", &[("name", Of(Kind::Text)), ("city", Of(Kind::Text))], 90),
];

fn lines(object: &str) -> &'static [Line] {
    match object {
        "contact" => CONTACT,
        "company" => COMPANY,
        _ => &[],
    }
}

/// The neutral field whose value is a unique key of a type.
pub fn unique_field(object: &str) -> Option<&'static str> {
    lines(object).iter().find(|(_, _, sure)| *sure >= LINK).and_then(|(_, parts, _)| parts.first()).map(|(f, _)| *f)
}

/// The keys by which records of a type are matched, the surest first: those whose fields are mapped, and those that no
/// record can have because a field of theirs is not.
pub fn keys(object: &str, is_mapped: impl Fn(&str) -> bool) -> (Vec<&'static str>, Vec<&'static str>) {
    let mapped = |parts: &[(&'static str, Spelling)]| parts.iter().all(|(field, _)| is_mapped(field));
    let (used, unused): (Vec<&Line>, Vec<&Line>) = lines(object).iter().partition(|(_, parts, _)| mapped(parts));
    let names = |lines: Vec<&Line>| lines.into_iter().map(|(name, ..)| *name).collect();
    (names(used), names(unused))
}

impl Entity {
    /// The keys of this entity as its values stand, the surest first.
    pub fn match_keys(&self) -> Vec<MatchKey> {
        let object = self.object.as_str();
        let key = |&(kind, parts, confidence): &Line| {
            let normal =
                parts.iter().map(|(name, spelling)| self.normal(name, *spelling)).collect::<Option<Vec<_>>>()?;
            let key = claim_key(&self.tenant, object, kind, &normal.join("\u{1f}"));
            Some(MatchKey { kind, key, confidence })
        };
        lines(object).iter().filter_map(key).collect()
    }

    /// A weak match with `other` means something: they do not both hold a unique key, and different ones.
    pub fn may_match(&self, other: &Self) -> bool {
        let unique = |e: &Self| e.match_keys().into_iter().find(|k| k.confidence >= LINK).map(|k| k.key);
        match (unique(self), unique(other)) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        }
    }

    fn normal(&self, name: &str, spelling: Spelling) -> Option<String> {
        let value = &self.fields[self.field_named(name)?].value;
        if value.is_empty() {
            return None;
        }
        // Written in capitals or not, a name is the same name.
        let normal = match spelling {
            Of(kind) => kind.normal(value).to_lowercase(),
            Page => {
                let address = value.to_plain().trim().to_lowercase();
                let page = address.split_once("://").map_or(&*address, |(_, rest)| rest);
                page.strip_prefix("www.").unwrap_or(page).trim_end_matches('/').to_owned()
            }
        };
        (!normal.is_empty()).then_some(normal)
    }
}

#[cfg(test)]
mod tests {
    use headgate_schemas::{ObjectType, Span, Value};
    use uuid::Uuid;

    use super::super::Field;
    use super::*;
    use crate::conflict::By;

    fn entity(object: ObjectType, fields: &[(&str, &str)]) -> Entity {
        let mut entity = Entity::heard(Uuid::nil(), "acme", object, 1, "7", 0);
        let field =
            |(name, value): &(&str, &str)| Field::first(name, Value::from(*value), Span::point(0), By::Member(1), 1);
        entity.fields = fields.iter().map(field).collect();
        entity
    }

    fn kinds(entity: &Entity) -> Vec<(&'static str, u8)> {
        entity.match_keys().iter().map(|k| (k.kind, k.confidence)).collect()
    }

    #[test]
    fn keys_come_from_the_values_that_are_there() {
        let ann = [("email", "Ann@Example.com"), ("first_name", "Ann"), ("last_name", "Lee"), ("phone", "")];
        assert_eq!(kinds(&entity(ObjectType::CONTACT, &ann)), [("email", 100)]);
        let ann = [("first_name", "Ann"), ("last_name", "Lee"), ("company", "Acme"), ("phone", "+1 415 555 0100")];
        assert_eq!(kinds(&entity(ObjectType::CONTACT, &ann)), [("name_company", 90), ("phone", 85)]);
        let acme = [("name", "Acme"), ("domain", "https://www.acme.com/"), ("city", "Oslo")];
        assert_eq!(kinds(&entity(ObjectType::COMPANY, &acme)), [("domain", 100), ("name_city", 90)]);
        assert_eq!(kinds(&entity(ObjectType::DEAL, &[("name", "Big")])), []);
    }

    #[test]
    fn a_key_without_its_field_is_named() {
        let mapped = |field: &str| !matches!(field, "linkedin" | "company");
        assert_eq!(keys("contact", mapped), (vec!["email", "phone"], vec!["linkedin", "name_company"]));
        assert_eq!(keys("company", |_| true), (vec!["domain", "name_city"], vec![]));
        assert_eq!(keys("deal", |_| true), (vec![], vec![]));
    }

    #[test]
    fn spelling_makes_no_other_key() {
        let key = |object: ObjectType, fields: &[(&str, &str)]| entity(object, fields).match_keys()[0].key;
        let contact = |email: &str| key(ObjectType::CONTACT, &[("email", email)]);
        assert_eq!(contact("Ann@Example.com "), contact("ann@example.COM"));
        assert_ne!(contact("ann@example.com"), contact("bob@example.com"));
        let company = |domain: &str| key(ObjectType::COMPANY, &[("domain", domain)]);
        assert_eq!(company("https://www.Acme.com/about"), company("acme.com"));
        let phone = |phone: &str| key(ObjectType::CONTACT, &[("phone", phone)]);
        assert_eq!(phone("+1 (415) 555-0100"), phone("+14155550100"));
    }

    #[test]
    fn a_page_is_the_same_however_its_address_is_written() {
        let key = |page: &str| entity(ObjectType::CONTACT, &[("linkedin", page)]).match_keys()[0].clone();
        let ann = key("https://www.linkedin.com/in/Ann-Lee/");
        assert_eq!((ann.kind, ann.confidence), ("linkedin", 95));
        assert_eq!(ann, key("linkedin.com/in/ann-lee"));
        assert_ne!(ann, key("linkedin.com/in/bob-lee"));
    }

    #[test]
    fn a_weak_key_does_not_make_one_of_two_people_with_addresses_of_their_own() {
        let desk = ("phone", "+14155550100");
        let ann = entity(ObjectType::CONTACT, &[("email", "ann@example.com"), desk]);
        let bob = entity(ObjectType::CONTACT, &[("email", "bob@example.com"), desk]);
        let someone = entity(ObjectType::CONTACT, &[("email", ""), desk]);
        assert!(!ann.may_match(&bob));
        assert!(ann.may_match(&someone) && someone.may_match(&bob));
    }
}
