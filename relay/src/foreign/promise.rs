//! What holds of every answer, whatever stands in it: as many results as questions, ids that are ids, errors of bounded
//! size that can be logged, and no write that is thought undone after it was taken. Knows no CRM.

use std::time::Duration;

use headgate_schemas::{System, Timestamp};
use hyper::header::HeaderValue;
use secrecy::ExposeSecret as _;

use crate::http::LONGEST_WAIT;
use crate::oauth;
use crate::target::{
    Answered, Disposition, FieldInfo, Found, LONGEST_MESSAGE, LONGEST_NAME, MOST_FIELDS, MOST_FOUND, NativeName,
    Prepared, ReadItem, TargetError, Written, is_id, is_plain,
};

/// Records in each question.
const ASKED: usize = 2;

/// What was promised of every answer and did not hold.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Broken {
    /// There is no target for the system.
    #[error("no target reads answers of {0}")]
    NoTarget(System),
    /// Something else than an answer was waited for.
    #[error("a call waits although all its answers are there")]
    Waits,
    /// Another number of results than of records asked for.
    #[error("{0} results for two records")]
    Count(usize),
    /// An id that is none, or too long, is believed.
    #[error("an id of {0} bytes is believed")]
    Id(usize),
    /// A field that nobody asked for.
    #[error("a field that was not asked for is passed on")]
    Field,
    /// A part of an error is longer than it may be, or its code could not be logged.
    #[error("the {0} of an error is longer or stranger than it may be")]
    Error(&'static str),
    /// A share of a limit outside of 0 to 1.
    #[error("{0} parts of a limit are left")]
    Quota(f64),
    /// A write that the CRM took is thought not to have happened.
    #[error("a write that was answered with success counts as {0:?}")]
    Taken(Disposition),
    /// A token that no header can carry is believed, or shown.
    #[error("a token is believed that cannot be sent, or it is shown")]
    Token,
    /// A token that would be renewed before it was given, or in a loop.
    #[error("a token is renewed less than a second after it came")]
    Renewal,
    /// The same answers mean two things.
    #[error("the same answers are read in two ways")]
    Unstable,
}

/// A token, or why there is none.
pub(super) fn login(told: &oauth::Answer) -> Result<usize, Broken> {
    let now = Timestamp::from_secs(1_767_268_798);
    match told {
        oauth::Answer::Granted(granted) => {
            let token = granted.access.expose_secret();
            // One of a letter or two stands in every word.
            let shown = token.len() > 8 && format!("{told:?}").contains(token);
            if shown || HeaderValue::try_from(token).is_err() {
                return Err(Broken::Token);
            }
            let soonest =
                [0, u64::MAX].into_iter().filter_map(|random| oauth::renew_at(now, granted.life, random)).min();
            let loops = soonest.is_some_and(|at| at < now + Duration::from_secs(1));
            if loops { Err(Broken::Renewal) } else { Ok(1) }
        }
        oauth::Answer::Refused { code, .. } | oauth::Answer::Later { code, .. } if !is_plain(code) => {
            Err(Broken::Error("code"))
        }
        oauth::Answer::Later { wait, .. } if wait.is_some_and(|wait| wait > LONGEST_WAIT) => Err(Broken::Error("wait")),
        oauth::Answer::Refused { .. } | oauth::Answer::Later { .. } => Ok(0),
    }
}

/// Records found by a read of `fields`.
pub(super) fn read(told: &Result<Answered<ReadItem>, TargetError>, fields: &[NativeName]) -> Result<usize, Broken> {
    each(told, |item| match item {
        ReadItem::Found(found) => record(found, fields).map(|()| true),
        ReadItem::Missing { merged_into } => merged_into.iter().try_for_each(|to| id(to)).map(|()| false),
        ReadItem::Failed(failed) => error(failed).map(|()| false),
    })
}

fn record(found: &Found, fields: &[NativeName]) -> Result<(), Broken> {
    id(&found.id)?;
    if let Some(long) = found.external_id.as_deref().filter(|ours| ours.len() > LONGEST_NAME) {
        return Err(Broken::Id(long.len()));
    }
    if found.values.keys().all(|name| fields.contains(name)) { Ok(()) } else { Err(Broken::Field) }
}

/// Records written. `taken`: the one call was answered with success.
pub(super) fn written(
    told: &Result<Answered<Result<Written, TargetError>>, TargetError>,
    taken: bool,
) -> Result<usize, Broken> {
    if let Err(TargetError { disposition, .. }) = told
        && taken
        && *disposition != Disposition::Unknown
    {
        return Err(Broken::Taken(disposition.clone()));
    }
    each(told, |item| match item {
        Ok(written) => written.id.iter().try_for_each(|made| id(made)).map(|()| true),
        Err(failed) => error(failed).map(|()| false),
    })
}

/// Records found by a value.
pub(super) fn found(told: &Result<Answered<Vec<String>>, TargetError>) -> Result<usize, Broken> {
    each(told, |ids| {
        ids.iter().try_for_each(|found| id(found))?;
        if ids.len() <= MOST_FOUND { Ok(!ids.is_empty()) } else { Err(Broken::Count(ids.len())) }
    })
}

/// A type that is ready.
pub(super) fn prepared(told: &Result<Prepared, TargetError>) -> Result<usize, Broken> {
    match told {
        Ok(prepared) => Ok(usize::from(matches!(prepared, Prepared::Ready | Prepared::Made))),
        Err(failed) => error(failed).map(|()| 0),
    }
}

/// Fields of a type.
pub(super) fn described(told: &Result<Option<Vec<FieldInfo>>, TargetError>) -> Result<usize, Broken> {
    match told {
        Ok(fields) => Ok(fields.iter().flatten().count()),
        Err(failed) => error(failed).map(|()| 0),
    }
}

/// Counts the good items of an answer.
fn each<T>(
    told: &Result<Answered<T>, TargetError>,
    check: impl Fn(&T) -> Result<bool, Broken>,
) -> Result<usize, Broken> {
    let answered = match told {
        Ok(answered) => answered,
        Err(failed) => return error(failed).map(|()| 0),
    };
    if answered.items.len() != ASKED {
        return Err(Broken::Count(answered.items.len()));
    }
    if let Some(full) = answered.quota.iter().find(|q| !(0.0..=1.0).contains(&q.remaining())) {
        return Err(Broken::Quota(full.remaining()));
    }
    answered.items.iter().try_fold(0, |good, item| Ok(good + usize::from(check(item)?)))
}

fn id(text: &str) -> Result<(), Broken> {
    if is_id(text) { Ok(()) } else { Err(Broken::Id(text.len())) }
}

fn error(error: &TargetError) -> Result<(), Broken> {
    let waits = |wait: &Duration| *wait <= LONGEST_WAIT;
    let parts = [
        ("code", is_plain(&error.code)),
        ("message", error.message.len() <= LONGEST_MESSAGE),
        ("fields", error.fields.len() <= MOST_FIELDS && error.fields.iter().all(|f| f.len() <= LONGEST_NAME)),
        ("existing record", error.existing.as_deref().is_none_or(is_id)),
        ("wait", if let Disposition::Rate { wait } = &error.disposition { waits(wait) } else { true }),
    ];
    parts.into_iter().find(|(_, holds)| !holds).map_or(Ok(()), |(part, _)| Err(Broken::Error(part)))
}
