//! Packed calls to a CRM that takes these records one by one: a bounded number at once, and one answer for all.
//!
//! The surprising thing is the time: the engine waits for the whole, so a record whose turn has not come while half the
//! deadline of a call is over is not sent at all, and the last one still answers before the engine's patience ends.

use std::time::Duration;

use futures_util::StreamExt as _;
use headgate_schemas::Timestamp;

use super::{Answered, Disposition, Quota, TargetError, Written};

/// What a call for one record did, the clock, and the limits.
pub(super) type Single = (Written, Option<Timestamp>, Vec<Quota>);

/// Makes the calls, `at_once` at a time. `deadline` is that of one call.
pub(super) async fn each<F>(calls: Vec<F>, at_once: usize, deadline: Duration) -> Vec<Result<Single, TargetError>>
where
    F: Future<Output = Result<Single, TargetError>> + Send,
{
    let begun = tokio::time::Instant::now();
    let made = calls.into_iter().map(|call| async move {
        if begun.elapsed() >= deadline / 2 {
            return Err(TargetError::new("not_sent", "its turn did not come in time", Disposition::Retry));
        }
        call.await
    });
    futures_util::stream::iter(made).buffered(at_once).collect().await
}

/// One answer out of the answers of calls that were made for one record each, in the order of the records. Where not one
/// of the calls got through, that is a failure of the whole: the connection is ill, not its records.
pub(super) fn together(
    replies: Vec<Result<Single, TargetError>>,
) -> Result<Answered<Result<Written, TargetError>>, TargetError> {
    let illness = |reply: &Result<Single, TargetError>| {
        let error = reply.as_ref().err()?;
        Some((rank(&error.disposition)?, error.clone()))
    };
    let ill: Option<Vec<(u8, TargetError)>> = replies.iter().map(illness).collect();
    if let Some((_, error)) = ill.and_then(|all| all.into_iter().max_by_key(|(rank, _)| *rank)) {
        return Err(error);
    }
    let mut answered = Answered { items: Vec::with_capacity(replies.len()), date: None, quota: Vec::new() };
    for reply in replies {
        answered.items.push(reply.map(|(written, date, quota)| {
            answered.date = answered.date.max(date);
            answered.quota = quota;
            written
        }));
    }
    Ok(answered)
}

/// How much a failure of the connection must be heeded before others; `None` for what a record is to blame for.
const fn rank(disposition: &Disposition) -> Option<u8> {
    match disposition {
        Disposition::Retry => Some(0),
        Disposition::Rate { .. } => Some(1),
        Disposition::Reauthorise => Some(2),
        // Some of it may have been applied, and all of it is looked at before it is sent again.
        Disposition::Unknown => Some(3),
        Disposition::Conflict | Disposition::Gone | Disposition::Permanent => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(code: &str, disposition: Disposition) -> Result<Single, TargetError> {
        Err(TargetError::new(code, "", disposition))
    }

    fn done(id: &str) -> Result<Single, TargetError> {
        let written = Written { id: Some(id.to_owned()), created: None, version: None, stored: None };
        Ok((written, Some(Timestamp::from_secs(7)), Vec::new()))
    }

    #[test]
    fn the_whole_fails_only_where_nothing_got_through() {
        let codes = |replies| match together(replies) {
            Err(error) => vec![format!("all {}", error.code)],
            Ok(answered) => answered
                .items
                .into_iter()
                .map(|item| item.map_or_else(|e| e.code, |w| w.id.unwrap_or_default()))
                .collect(),
        };
        assert_eq!(codes(vec![done("1"), failed("a", Disposition::Reauthorise)]), ["1", "a"]);
        assert_eq!(codes(vec![failed("g", Disposition::Gone), failed("a", Disposition::Retry)]), ["g", "a"]);
        assert_eq!(
            codes(vec![
                failed("r", Disposition::Retry),
                failed("u", Disposition::Unknown),
                failed("a", Disposition::Reauthorise)
            ]),
            ["all u"]
        );
        assert_eq!(codes(vec![failed("r", Disposition::Retry), failed("a", Disposition::Reauthorise)]), ["all a"]);
        assert_eq!(codes(Vec::new()), Vec::<String>::new());
    }

    #[tokio::test]
    async fn what_has_no_turn_in_time_is_not_sent() {
        async fn told(deadline: Duration) -> Vec<String> {
            let call = |id: &'static str| async move { done(id) };
            let replies = each(["1", "2", "3"].map(call).into(), 2, deadline).await;
            replies.into_iter().map(|r| r.map_or_else(|e| e.code, |r| r.0.id.unwrap_or_default())).collect()
        }
        assert_eq!(told(Duration::from_secs(3_600)).await, ["1", "2", "3"]);
        assert_eq!(told(Duration::ZERO).await, ["not_sent", "not_sent", "not_sent"]);
    }
}
