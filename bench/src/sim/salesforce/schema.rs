//! Fields of the Salesforce model, and what a field accepts.
//!
//! Pure; which objects have which fields is none of its business. The surprising thing: numbers of type double come back with a fraction (`5` is stored, `5.0` is read), and text is trimmed.

use serde_json::{Number, Value, json};

use super::problem::{Problem, Refused};

/// Type of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// A record's own id.
    Id,
    /// One line of text.
    Text,
    /// An address that must be valid.
    Email,
    /// A phone number, unchecked.
    Phone,
    /// A link, unchecked.
    Url,
    /// Several lines of text.
    Area,
    /// True or false.
    Bool,
    /// A number with a fraction.
    Double,
    /// Money, two decimals.
    Currency,
    /// A percentage.
    Percent,
    /// A whole number.
    Int,
    /// A day.
    Date,
    /// An instant.
    DateTime,
    /// A pick list that takes other values too.
    Choice,
    /// A pick list that takes nothing else.
    Restricted,
    /// The id of another record.
    Reference,
}

impl FieldKind {
    /// Salesforce's name of the type.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Text => "string",
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Url => "url",
            Self::Area => "textarea",
            Self::Bool => "boolean",
            Self::Double => "double",
            Self::Currency => "currency",
            Self::Percent => "percent",
            Self::Int => "int",
            Self::Date => "date",
            Self::DateTime => "datetime",
            Self::Choice | Self::Restricted => "picklist",
            Self::Reference => "reference",
        }
    }

    const fn length(self) -> usize {
        match self {
            Self::Id | Self::Reference => 18,
            Self::Email => 80,
            Self::Phone => 40,
            Self::Area => 32_000,
            Self::Text | Self::Url | Self::Choice | Self::Restricted => 255,
            Self::Bool | Self::Double | Self::Currency | Self::Percent | Self::Int | Self::Date | Self::DateTime => 0,
        }
    }

    /// Whether a literal of a query on this field stands in quotes.
    pub(super) const fn is_quoted(self) -> bool {
        !matches!(
            self,
            Self::Bool | Self::Double | Self::Currency | Self::Percent | Self::Int | Self::Date | Self::DateTime
        )
    }
}

/// One field of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// API name.
    pub name: String,
    /// Type.
    pub kind: FieldKind,
    /// Longest text, in characters; 0 where the type has none.
    pub length: usize,
    /// Must hold a value.
    pub required: bool,
    /// Callers may write it.
    pub writable: bool,
    /// Usable as a key in upserts.
    pub external_id: bool,
    /// Two live rows may not hold the same value, compared without case.
    pub unique: bool,
    /// Values of a pick list.
    pub values: Vec<String>,
    /// Objects a reference may point to.
    pub refers: Vec<String>,
}

impl Field {
    /// A writable field with the usual length of its type.
    pub fn new(name: &str, kind: FieldKind) -> Self {
        Self {
            name: name.into(),
            kind,
            length: kind.length(),
            required: false,
            writable: true,
            external_id: false,
            unique: false,
            values: Vec::new(),
            refers: Vec::new(),
        }
    }

    /// The same field with another longest text.
    pub fn length(mut self, length: usize) -> Self {
        self.length = length;
        self
    }

    pub(super) fn required(mut self) -> Self {
        self.required = true;
        self
    }

    pub(super) fn read_only(mut self) -> Self {
        self.writable = false;
        self
    }

    pub(super) fn values(mut self, values: &[&str]) -> Self {
        self.values = values.iter().map(|v| (*v).to_owned()).collect();
        self
    }

    pub(super) fn refers(mut self, objects: &[&str]) -> Self {
        self.refers = objects.iter().map(|v| (*v).to_owned()).collect();
        self
    }

    /// An external id of 80 characters, with unique values or without.
    pub fn external_id(name: &str, unique: bool) -> Self {
        Self { external_id: true, unique, ..Self::new(name, FieldKind::Text).length(80) }
    }

    pub(super) fn describe(&self) -> Value {
        let values: Vec<_> = self
            .values
            .iter()
            .map(|v| json!({"value": v, "label": v, "active": true, "defaultValue": false}))
            .collect();
        json!({
            "name": self.name, "label": self.name, "type": self.kind.name(), "length": self.length,
            "nillable": !self.required && self.kind != FieldKind::Bool, "createable": self.writable,
            "updateable": self.writable, "externalId": self.external_id, "unique": self.unique,
            "caseSensitive": false, "custom": self.name.ends_with("__c"), "calculated": false,
            "restrictedPicklist": self.kind == FieldKind::Restricted, "picklistValues": values,
            "referenceTo": self.refers, "filterable": true, "sortable": true,
            "idLookup": self.external_id || self.kind == FieldKind::Id,
        })
    }

    /// The JSON value in its stored type. What has the wrong JSON type spoils the whole request.
    pub(super) fn typed(&self, value: &Value) -> Result<Value, Refused> {
        let wrong = || {
            let (token, shown) = match value {
                Value::String(s) => ("VALUE_STRING", s.clone()),
                Value::Number(n) => ("VALUE_NUMBER", n.to_string()),
                Value::Bool(b) => ("VALUE_BOOLEAN", b.to_string()),
                Value::Null | Value::Array(_) | Value::Object(_) => ("START_OBJECT", String::new()),
            };
            let text = format!(
                "Cannot deserialize instance of {} from {token} value {shown} or request may be missing a required field at [line:1, column:1]",
                self.kind.name()
            );
            Refused::new(400, Problem::new("JSON_PARSER_ERROR", text))
        };
        match (self.kind, value) {
            (FieldKind::Bool, Value::Bool(_)) | (_, Value::Null) => Ok(value.clone()),
            (FieldKind::Double | FieldKind::Percent, Value::Number(n)) => decimal(n, None).ok_or_else(wrong),
            (FieldKind::Currency, Value::Number(n)) => decimal(n, Some(2)).ok_or_else(wrong),
            (FieldKind::Int, Value::Number(n)) if n.as_i64().is_some() => Ok(value.clone()),
            (FieldKind::Date, Value::String(s)) => {
                s.parse::<jiff::civil::Date>().map(|d| Value::String(d.to_string())).map_err(|_| wrong())
            }
            (FieldKind::DateTime, Value::String(s)) => {
                s.parse::<jiff::Timestamp>().map(|t| Value::String(instant(t))).map_err(|_| wrong())
            }
            (kind, Value::String(s)) if kind.is_quoted() => {
                let trimmed = s.trim();
                Ok(if trimmed.is_empty() { Value::Null } else { Value::String(trimmed.to_owned()) })
            }
            _ => Err(wrong()),
        }
    }

    /// Rules on the value itself; failing them refuses the record only.
    pub(super) fn check(&self, value: &Value) -> Result<(), Problem> {
        let name = &self.name;
        let Some(text) = value.as_str() else {
            return match (value.is_null(), self.kind) {
                (true, FieldKind::Bool) => {
                    let text = format!("{name}: value not of required type: null");
                    Err(Problem::new("INVALID_TYPE_ON_FIELD_IN_RECORD", text).field(name))
                }
                (true, _) if self.required => Err(missing(std::slice::from_ref(name))),
                _ => Ok(()),
            };
        };
        if self.length > 0 && text.chars().count() > self.length {
            let text = format!("{name}: data value too large: {text} (max length={})", self.length);
            return Err(Problem::new("STRING_TOO_LONG", text).field(name));
        }
        match self.kind {
            FieldKind::Email if !is_email(text) => {
                let text = format!("{name}: invalid email address: {text}");
                Err(Problem::new("INVALID_EMAIL_ADDRESS", text).field(name))
            }
            FieldKind::Restricted if !self.values.iter().any(|v| v == text) => {
                let text = format!("{name}: bad value for restricted picklist field: {text}");
                Err(Problem::new("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", text).field(name))
            }
            _ => Ok(()),
        }
    }
}

/// The refusal for required fields without a value.
pub(super) fn missing(names: &[String]) -> Problem {
    let text = format!("Required fields are missing: [{}]", names.join(", "));
    names.iter().fold(Problem::new("REQUIRED_FIELD_MISSING", text), |p, n| p.field(n))
}

fn decimal(number: &Number, places: Option<usize>) -> Option<Value> {
    let value = number.as_f64().filter(|v| v.is_finite())?;
    let text = match places {
        Some(places) => format!("{value:.places$}"),
        None => value.to_string(),
    };
    let text = if text.contains('.') { text.trim_end_matches('0').to_owned() } else { format!("{text}.") };
    let text = if text.ends_with('.') { text + "0" } else { text };
    serde_json::from_str(&text).ok()
}

/// An instant as Salesforce writes it: whole seconds, three zeros, offset without a colon.
pub(super) fn instant(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.000+0000").to_string()
}

fn is_email(text: &str) -> bool {
    let Some((local, host)) = text.split_once('@') else { return false };
    let plain = |s: &str| !s.is_empty() && s.chars().all(|c| !c.is_whitespace() && c != '@' && c != ',');
    plain(local) && plain(host) && host.contains('.') && host.split('.').all(|label| !label.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_take_their_stored_form() {
        let stored = |kind, value: Value| Field::new("F", kind).typed(&value).map(|v| v.to_string()).ok();
        assert_eq!(stored(FieldKind::Double, json!(5)).as_deref(), Some("5.0"));
        assert_eq!(stored(FieldKind::Currency, json!(5.126)).as_deref(), Some("5.13"));
        assert_eq!(stored(FieldKind::Currency, json!(500)).as_deref(), Some("500.0"));
        assert_eq!(stored(FieldKind::Text, json!("  a ")).as_deref(), Some("\"a\""));
        assert_eq!(stored(FieldKind::Text, json!("")).as_deref(), Some("null"));
        assert_eq!(
            stored(FieldKind::DateTime, json!("2026-01-01T10:00:00.9+01:00")).as_deref(),
            Some("\"2026-01-01T09:00:00.000+0000\"")
        );
        assert_eq!(stored(FieldKind::Text, json!(5)), None);
        assert_eq!(stored(FieldKind::Int, json!("5")), None);
        assert_eq!(stored(FieldKind::Date, json!("01.02.2026")), None);
    }

    #[test]
    fn rules_name_the_code_and_the_field() {
        let code = |field: Field, value: Value| field.check(&value).map_err(|p| p.code);
        assert_eq!(code(Field::new("FirstName", FieldKind::Text).length(3), json!("abcd")), Err("STRING_TOO_LONG"));
        assert_eq!(code(Field::new("Email", FieldKind::Email), json!("a@b")), Err("INVALID_EMAIL_ADDRESS"));
        assert_eq!(code(Field::new("Email", FieldKind::Email), json!("a@b.c")), Ok(()));
        let stage = Field::new("StageName", FieldKind::Restricted).values(&["Prospecting"]);
        assert_eq!(code(stage, json!("prospecting")), Err("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST"));
        assert_eq!(
            code(Field::new("LastName", FieldKind::Text).required(), Value::Null),
            Err("REQUIRED_FIELD_MISSING")
        );
    }
}
