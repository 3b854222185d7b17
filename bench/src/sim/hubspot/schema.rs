//! Properties of the HubSpot model, and what a property accepts.
//!
//! Pure; which types have which properties is none of its business. The surprising thing: every value is text, whatever its type,
//! and the empty text clears.

use serde_json::{Value, json};

use super::problem::Detail;

/// Type of a property, by HubSpot's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PropertyKind {
    /// `string`
    Text,
    /// `phone_number`
    Phone,
    /// `number`
    Number,
    /// `bool`
    Bool,
    /// `date`
    Date,
    /// `datetime`
    DateTime,
    /// `enumeration`
    Choice,
}

impl PropertyKind {
    /// HubSpot's name of the type.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Phone => "phone_number",
            Self::Number => "number",
            Self::Bool => "bool",
            Self::Date => "date",
            Self::DateTime => "datetime",
            Self::Choice => "enumeration",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        let all = [Self::Text, Self::Phone, Self::Number, Self::Bool, Self::Date, Self::DateTime, Self::Choice];
        all.into_iter().find(|k| k.name() == name)
    }
}

/// One property of an object type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// Internal name.
    pub name: String,
    /// Label shown to users.
    pub label: String,
    /// Type.
    pub kind: PropertyKind,
    /// Form field type, as `text` or `select`.
    pub field_type: String,
    /// Group of properties.
    pub group: String,
    /// Whether two records of the type may not hold the same value.
    pub unique: bool,
    /// Whether only HubSpot writes it.
    pub read_only: bool,
    /// Values of an enumeration; empty accepts any value.
    pub options: Vec<String>,
}

impl Property {
    /// A writable property without unique values.
    pub fn new(name: &str, kind: PropertyKind) -> Self {
        let field_type = match kind {
            PropertyKind::Text => "text",
            PropertyKind::Phone => "phonenumber",
            PropertyKind::Number => "number",
            PropertyKind::Bool => "booleancheckbox",
            PropertyKind::Date | PropertyKind::DateTime => "date",
            PropertyKind::Choice => "select",
        };
        Self {
            name: name.into(),
            label: name.into(),
            kind,
            field_type: field_type.into(),
            group: "information".into(),
            unique: false,
            read_only: false,
            options: Vec::new(),
        }
    }

    /// The same property with unique values.
    pub fn unique(mut self) -> Self {
        self.unique = true;
        self
    }

    pub(super) fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// The same property with a closed list of values.
    pub fn options(mut self, values: &[&str]) -> Self {
        self.options = values.iter().map(|v| (*v).to_owned()).collect();
        self
    }

    /// As the properties API shows it.
    pub(super) fn describe(&self) -> Value {
        let options = self.options.iter().enumerate();
        let options: Vec<_> =
            options.map(|(i, v)| json!({"label": v, "value": v, "displayOrder": i, "hidden": false})).collect();
        json!({
            "name": self.name, "label": self.label, "type": self.kind.name(), "fieldType": self.field_type,
            "groupName": self.group, "hasUniqueValue": self.unique, "options": options, "calculated": false,
            "externalOptions": false, "hidden": false, "archived": false, "formField": !self.read_only,
            "hubspotDefined": !self.unique, "description": "",
            "modificationMetadata": {"archivable": true, "readOnlyDefinition": self.read_only, "readOnlyValue": self.read_only},
        })
    }

    /// The value as HubSpot keeps it, or what is wrong with it. The empty text is always good: it clears.
    pub(super) fn accept(&self, value: &str) -> Result<String, Detail> {
        let value = value.trim();
        let wrong = |code, what: &str| Err(Detail::new(&self.name, code, &format!("Property {} {what}", self.name)));
        if self.read_only {
            return wrong("READ_ONLY_VALUE", "is a read only property; its value cannot be set.");
        }
        if value.is_empty() {
            return Ok(String::new());
        }
        match self.kind {
            PropertyKind::Text if self.name == "email" => {
                let email = value.to_lowercase();
                if is_email(&email) { Ok(email) } else { wrong("INVALID_EMAIL", "is not a valid email address.") }
            }
            PropertyKind::Text | PropertyKind::Phone if value.chars().count() > 65_536 => {
                wrong("PROPERTY_VALUE_TOO_LONG", "is longer than 65536 characters.")
            }
            PropertyKind::Text | PropertyKind::Phone => Ok(value.to_owned()),
            PropertyKind::Number if is_number(value) => Ok(value.to_owned()),
            PropertyKind::Number => wrong("INVALID_LONG", "was not a valid number."),
            PropertyKind::Bool => match value.to_lowercase().as_str() {
                bool @ ("true" | "false") => Ok(bool.to_owned()),
                _ => wrong("INVALID_BOOLEAN", "must be true or false."),
            },
            PropertyKind::Date => date_of(value).map_or_else(|| wrong("INVALID_DATE", "was not a valid date."), Ok),
            PropertyKind::DateTime => match instant_ms(value) {
                Some(ms) => Ok(iso_ms(ms)),
                None => wrong("INVALID_DATE", "was not a valid date and time."),
            },
            PropertyKind::Choice if self.options.is_empty() => Ok(value.to_owned()),
            PropertyKind::Choice if value.split(';').all(|v| self.options.iter().any(|o| o == v)) => {
                Ok(value.to_owned())
            }
            PropertyKind::Choice => wrong("INVALID_OPTION", "was not one of the allowed options."),
        }
    }
}

fn is_email(text: &str) -> bool {
    let Some((local, host)) = text.split_once('@') else { return false };
    let plain = |s: &str| !s.is_empty() && s.chars().all(|c| !c.is_whitespace() && c != '@' && c != ',');
    plain(local) && plain(host) && host.contains('.') && host.split('.').all(|label| !label.is_empty())
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    all(whole) && all(fraction)
}

/// `YYYY-MM-DD`, from that form or from epoch milliseconds at midnight UTC.
fn date_of(text: &str) -> Option<String> {
    if let Ok(date) = text.parse::<jiff::civil::Date>() {
        return Some(date.to_string());
    }
    let ms = text.parse::<i64>().ok()?;
    let iso = iso_ms(ms);
    (ms.rem_euclid(86_400_000) == 0).then(|| iso.get(..10).unwrap_or_default().to_owned())
}

/// Epoch milliseconds of an ISO instant, a bare date, or epoch milliseconds as text.
pub(super) fn instant_ms(text: &str) -> Option<i64> {
    if let Ok(ms) = text.parse::<i64>() {
        return Some(ms);
    }
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return Some(instant.as_millisecond());
    }
    let date = text.parse::<jiff::civil::Date>().ok()?;
    Some(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond())
}

/// ISO 8601 in UTC with three fractional digits, as HubSpot writes instants.
pub(super) fn iso_ms(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| String::new(), |t| format!("{t:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_kept_in_the_form_hubspot_keeps_them() {
        let email = Property::new("email", PropertyKind::Text);
        assert_eq!(email.accept(" Ana@Example.COM "), Ok("ana@example.com".into()));
        assert_eq!(email.accept("ana@example").map_err(|d| d.code), Err("INVALID_EMAIL"));
        let close = Property::new("closedate", PropertyKind::DateTime);
        assert_eq!(close.accept("2026-03-01"), Ok("2026-03-01T00:00:00.000Z".into()));
        assert_eq!(close.accept("1767268798500"), Ok("2026-01-01T11:59:58.500Z".into()));
        let date = Property::new("d", PropertyKind::Date);
        assert_eq!(date.accept("1767225600000"), Ok("2026-01-01".into()));
        assert_eq!(date.accept("1767225600001").map_err(|d| d.code), Err("INVALID_DATE"));
    }

    #[test]
    fn numbers_options_and_read_only_properties_are_checked() {
        let number = Property::new("amount", PropertyKind::Number);
        assert_eq!(number.accept("-12.50"), Ok("-12.50".into()));
        assert_eq!(number.accept("1,000").map_err(|d| d.code), Err("INVALID_LONG"));
        assert_eq!(number.accept(""), Ok(String::new()));
        let choice = Property::new("c", PropertyKind::Choice).options(&["a", "b"]);
        assert_eq!(choice.accept("a;b"), Ok("a;b".into()));
        assert_eq!(choice.accept("A").map_err(|d| d.code), Err("INVALID_OPTION"));
        let fixed = Property::new("createdate", PropertyKind::DateTime).read_only();
        assert_eq!(fixed.accept("").map_err(|d| d.code), Err("READ_ONLY_VALUE"));
    }
}
