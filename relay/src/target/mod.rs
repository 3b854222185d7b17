//! What the relay asks of a CRM, in packed calls, and what a CRM answers, item by item. One folder per CRM; nothing
//! outside a CRM's folder knows its paths, limits or error codes.
//!
//! Adding a CRM: one folder here, one line in [`build`], one model in the simulators.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use headgate_schemas::{ObjectType, Resolution, System, Timestamp, Value};
use uuid::Uuid;

use crate::config::{Auth, ConnectionConfig};
use crate::http::{Client, Credential, Http, SetupError};
use crate::oauth::Tokens;

pub mod hubspot;
pub mod salesforce;
mod single;

/// A field as the CRM names it.
pub type NativeName = Arc<str>;

/// Values by the CRM's own field names, in the CRM's own wire form (HubSpot: text; Salesforce: JSON types).
pub type NativeValues = BTreeMap<NativeName, Value>;

/// How records are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum By {
    /// By the CRM's own id.
    NativeId,
    /// By our external id, to find what an unknown create left behind.
    ExternalId,
}

/// A packed read of records of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadCall {
    /// Neutral type.
    pub object: ObjectType,
    /// What `ids` are.
    pub by: By,
    /// The records, without repeats, at most [`Pack::read`].
    pub ids: Vec<String>,
    /// The fields wanted.
    pub fields: Arc<[NativeName]>,
}

/// A packed write of records of one type. No record stands in it twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteCall {
    /// Neutral type.
    pub object: ObjectType,
    /// What to write.
    pub items: WriteItems,
}

/// The items of a write; at most [`Pack::write`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteItems {
    /// Whole records by our external id: made where absent, set where present.
    Create(Vec<CreateItem>),
    /// Changed fields of records by the CRM's own id; never makes a record.
    Update(Vec<UpdateItem>),
    /// Records to take away, by the CRM's own id. One that is gone already counts as done.
    Delete(Vec<DeleteItem>),
}

impl WriteItems {
    /// Number of records.
    pub const fn len(&self) -> usize {
        match self {
            Self::Create(items) => items.len(),
            Self::Update(items) => items.len(),
            Self::Delete(items) => items.len(),
        }
    }

    /// No records.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One record to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateItem {
    /// Our own id of it.
    pub external_id: Uuid,
    /// Identifies the intent; goes where the CRM has a place for it.
    pub trace: String,
    /// The whole projected record, without nulls.
    pub values: NativeValues,
}

/// One record to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateItem {
    /// The CRM's id.
    pub id: String,
    /// Identifies the intent; goes where the CRM has a place for it.
    pub trace: String,
    /// Fields to set; null clears.
    pub values: NativeValues,
    /// Write only if the record still has this version, else [`Disposition::Conflict`]. Heeded where
    /// [`Target::conditional`]; elsewhere it changes nothing, and the caller reads first.
    pub unless_changed: Option<Version>,
}

/// One record to take away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteItem {
    /// The CRM's id.
    pub id: String,
    /// Identifies the intent; goes where the CRM has a place for it.
    pub trace: String,
    /// Delete only if the record still has this version, where the CRM can tell; neither HubSpot nor Salesforce can, so
    /// the caller reads first.
    pub unless_changed: Option<Version>,
    /// For privacy: what the CRM can be told to forget is forgotten, not merely put into its bin.
    pub erase: bool,
}

/// A search for records by the value of a field: those that stand there without our id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindCall {
    /// Neutral type.
    pub object: ObjectType,
    /// The field, as the CRM names it.
    pub field: NativeName,
    /// The values, none empty, without repeats, at most [`Pack::read`]. Case does not matter.
    pub values: Vec<String>,
}

/// Most records named per value of a [`FindCall`]. As many as this may be more.
pub const MOST_FOUND: usize = 10;

/// The version of a record by the CRM's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Last modification.
    pub at: Timestamp,
    /// How fine that clock is.
    pub resolution: Resolution,
}

/// A record as a read found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The CRM's id of the record that answered. May differ from the one asked for when records were merged.
    pub id: String,
    /// Our own id as the record carries it, where it does and we may see it.
    pub external_id: Option<String>,
    /// Its version.
    pub version: Version,
    /// The fields asked for; null where the record holds nothing. A field the CRM does not know is absent.
    pub values: NativeValues,
}

/// What a read says of one record.
#[derive(Clone, Debug)]
pub enum ReadItem {
    /// It is there.
    Found(Found),
    /// It is not there (deleted, merged away, never made).
    Missing {
        /// The record it was merged into, where the CRM tells.
        merged_into: Option<String>,
    },
    /// This one could not be read.
    Failed(TargetError),
}

/// What a write did to one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The CRM's id, where the answer tells it. May differ from the one written when records were merged.
    pub id: Option<String>,
    /// Whether the record was made by this call, where the answer tells it.
    pub created: Option<bool>,
    /// The version the write made, where the answer tells it.
    pub version: Option<Version>,
    /// The values as stored, where the answer tells them.
    pub stored: Option<NativeValues>,
}

/// An answer, with what every answer tells about the CRM.
#[derive(Clone, Debug)]
pub struct Answered<T> {
    /// One entry per item of the call, in the order of the call.
    pub items: Vec<T>,
    /// The CRM's clock: the `Date` header of the (last) answer.
    pub date: Option<Timestamp>,
    /// What the answer says about limits.
    pub quota: Vec<Quota>,
}

/// A limit as an answer tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// `burst`, `daily`, …
    pub window: &'static str,
    /// Calls left in it.
    pub left: u64,
    /// Calls that it holds; never 0.
    pub most: u64,
    /// How long it is.
    pub per: Duration,
}

impl Quota {
    /// Share left, 0 to 1.
    pub fn remaining(&self) -> f64 {
        (self.left as f64 / self.most as f64).clamp(0.0, 1.0)
    }
}

/// A field of a CRM as its metadata describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldInfo {
    /// Its name.
    pub name: NativeName,
    /// It can be set when a record is made.
    pub createable: bool,
    /// It can be set later.
    pub updateable: bool,
}

/// What became of making a CRM ready for our writes of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prepared {
    /// Our external id has its field.
    Ready,
    /// The field was missing and has been made.
    Made,
    /// The CRM does not say, in a form that is understood, what fields it has. Nothing speaks against our writes.
    Unclear {
        /// What came instead.
        reason: String,
    },
    /// A person has to make it: what to do, click by click.
    Blocked {
        /// The field that is missing or unfit.
        field: String,
        /// What an administrator of the CRM does about it.
        advice: String,
    },
}

/// How many records one call may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pack {
    /// In a read.
    pub read: usize,
    /// In a write. A [`WriteItems::Delete`] holds at most as many.
    pub write: usize,
}

/// Why a call, or one item of it, failed. The engine looks at [`TargetError::disposition`] and at nothing else.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{code}: {message}")]
pub struct TargetError {
    /// The CRM's code or our own (`connect_failed`, `timeout`, `answer_too_large`, …); safe to log.
    pub code: String,
    /// The CRM's words. May quote field values: shown to the tenant, never logged.
    pub message: String,
    /// Fields it names.
    pub fields: Vec<String>,
    /// The record that stands in the way, where the CRM names exactly one.
    pub existing: Option<String>,
    /// What to do.
    pub disposition: Disposition,
}

/// Longest text of a CRM that an error keeps; the rest is cut.
pub(crate) const LONGEST_MESSAGE: usize = 2_000;
/// Most field names an error keeps; further ones are dropped.
pub(crate) const MOST_FIELDS: usize = 32;
/// Longest name of a field, and longest id, that is believed.
pub(crate) const LONGEST_NAME: usize = 255;

/// Whether a text of a CRM can be the id of a record: not empty, of bounded length, in visible ASCII.
pub(crate) fn is_id(text: &str) -> bool {
    (1..=LONGEST_NAME).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// Whether a code can be logged, whoever sent it.
pub(crate) fn is_plain(code: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    (1..=80).contains(&code.len()) && code.bytes().all(plain)
}

impl TargetError {
    /// An error with a code that is safe to log, whatever the CRM sent, and a message of bounded length.
    pub fn new(code: &str, message: impl Into<String>, disposition: Disposition) -> Self {
        let mut message: String = message.into();
        message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
        let code = if is_plain(code) { code } else { "unreadable_code" }.to_owned();
        Self { code, message, fields: Vec::new(), existing: None, disposition }
    }

    /// The same, naming fields. What is too long for a name is dropped.
    #[must_use]
    pub fn naming(mut self, fields: impl IntoIterator<Item = String>) -> Self {
        self.fields.extend(fields.into_iter().filter(|name| name.len() <= LONGEST_NAME).take(MOST_FIELDS));
        self
    }

    /// The same, naming the record that stands in the way. What cannot be an id is dropped.
    #[must_use]
    pub fn because_of(mut self, existing: Option<String>) -> Self {
        self.existing = existing.filter(|id| is_id(id));
        self
    }

    /// What to do about it.
    pub const fn disposition(&self) -> &Disposition {
        &self.disposition
    }
}

/// What to do about a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Nothing was applied; temporary. Again with backoff. Counts for the breaker.
    Retry,
    /// Nothing was applied; a limit is reached. Again when it opens, no attempt counted.
    Rate {
        /// Time to wait, from now.
        wait: Duration,
    },
    /// Nothing was applied; the credentials are no longer good. The connection is parked.
    Reauthorise,
    /// Nothing was applied; the record moved or another one stands in the way. Read it, then decide again.
    Conflict,
    /// The record is deleted or merged away.
    Gone,
    /// This item can never succeed as it is. Kept and listed with its reason.
    Permanent,
    /// It is not known whether it was applied. Read back before any other write. Counts for the breaker.
    Unknown,
}

/// A boxed future of a call.
pub type Calling<'a, T> = Pin<Box<dyn Future<Output = Result<T, TargetError>> + Send + 'a>>;

/// A CRM that can be read, and written where [`Target::writable`].
///
/// A whole-call failure is the outer error; a failure of one item stands in its place in the answer. A call that was
/// cut off after the request was sent is [`Disposition::Unknown`]. No method retries by itself.
pub trait Target: Send + Sync {
    /// How many records one call may hold.
    fn pack(&self) -> Pack;

    /// Whether this version writes to that CRM.
    fn writable(&self) -> bool;

    /// Whether the CRM heeds [`UpdateItem::unless_changed`].
    fn conditional(&self) -> bool;

    /// Reads records. Dropping the future abandons the call.
    fn read<'a>(&'a self, call: &'a ReadCall) -> Calling<'a, Answered<ReadItem>>;

    /// Writes records. Dropping the future leaves the outcome unknown.
    fn write<'a>(&'a self, call: &'a WriteCall) -> Calling<'a, Answered<Result<Written, TargetError>>>;

    /// Finds records by the value of a field. One entry per value: the CRM's ids of the records that hold it, at most
    /// [`MOST_FOUND`]. What was written moments ago may not be found yet.
    fn find<'a>(&'a self, call: &'a FindCall) -> Calling<'a, Answered<Vec<String>>>;

    /// Makes the CRM ready for writes of a type: looks for the field of our external id and, where the connection's
    /// set-up is automatic and the CRM allows it, makes it. Safe to repeat.
    fn prepare<'a>(&'a self, object: &'a ObjectType) -> Calling<'a, Prepared>;

    /// The fields of a type, or `None` where the CRM does not describe it.
    fn describe<'a>(&'a self, object: &'a ObjectType) -> Calling<'a, Option<Vec<FieldInfo>>>;
}

/// The CRM's name of a neutral type, where it has one.
pub fn native_type(system: System, object: &ObjectType) -> Option<&'static str> {
    match system {
        System::Hubspot => hubspot::object_path(object),
        System::Salesforce => salesforce::sobject(object),
        System::Dynamics | System::Pipedrive | System::Native => None,
    }
}

/// Why a connection cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// No folder here speaks that CRM's API.
    #[error("connection `{connection}`: this version has no target for {system}; use hubspot or salesforce")]
    UnsupportedSystem {
        /// The connection.
        connection: String,
        /// The CRM.
        system: System,
    },
    /// A setting of the connection cannot be used.
    #[error("connection `{connection}`: {reason}")]
    Setting {
        /// The connection.
        connection: String,
        /// What is wrong and what it should be.
        reason: &'static str,
    },
    /// The address or the token cannot be used.
    #[error("connection `{connection}`")]
    Http {
        /// The connection.
        connection: String,
        /// Why.
        #[source]
        source: SetupError,
    },
}

/// The registry: the target of a connection. `deadline` bounds each call. Nobody fetches tokens for it: where the
/// connection needs some, [`build_drawing`] says from where.
///
/// # Errors
/// [`BuildError`], naming the connection and what to change.
pub fn build(config: &ConnectionConfig, http: &Http, deadline: Duration) -> Result<Arc<dyn Target>, BuildError> {
    build_drawing(config, http, deadline, Tokens::default())
}

/// The same, with access tokens from `tokens` where the connection has no token of its own.
///
/// # Errors
/// As [`build`].
pub fn build_drawing(
    config: &ConnectionConfig,
    http: &Http,
    deadline: Duration,
    tokens: Tokens,
) -> Result<Arc<dyn Target>, BuildError> {
    let credential = match &config.auth {
        Auth::Bearer(token) => Credential::bearer(token),
        Auth::Oauth(_) => Ok(Credential::Drawn(tokens)),
    };
    let client = credential
        .and_then(|credential| http.client(&config.base_url, credential, deadline))
        .map_err(|source| BuildError::Http { connection: config.name.clone(), source })?;
    build_with(config, client)
}

/// The same over a client that is there already.
pub(crate) fn build_with(config: &ConnectionConfig, client: Client) -> Result<Arc<dyn Target>, BuildError> {
    let setting = |reason| BuildError::Setting { connection: config.name.clone(), reason };
    match config.system {
        System::Hubspot => Ok(Arc::new(hubspot::Hubspot::new(config, client).map_err(setting)?)),
        System::Salesforce => Ok(Arc::new(salesforce::Salesforce::new(config, client).map_err(setting)?)),
        system @ (System::Dynamics | System::Pipedrive | System::Native) => {
            Err(BuildError::UnsupportedSystem { connection: config.name.clone(), system })
        }
    }
}
