//! Finding records by a value. Contacts by e-mail through a batch read, which is exact and counts against no search
//! limit; everything else through the search of HubSpot's "CRM search" reference, which lags writes by seconds.
//!
//! The surprising thing: a contact answers to each of its further addresses too, so an answer is matched against all of
//! them.

use std::collections::HashMap;

use bytes::Bytes;
use headgate_schemas::{ObjectType, Timestamp};
use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::super::{Answered, Disposition, FindCall, MOST_FOUND, Quota, TargetError};
use super::{BatchAnswer, Hubspot, Input, ReadBody, Record, complete, errors, parse, path_of, quota};
use crate::http::{Call, Effect, Reply};

/// Records on one page of a search.
const PAGE: usize = 200;
/// Pages that are followed; HubSpot shows no more than 10,000 hits of one search.
const MOST_PAGES: usize = 10;
/// A contact's addresses beside `email`, separated by semicolons.
const FURTHER_EMAILS: &str = "hs_additional_emails";

impl Hubspot {
    pub(super) async fn find_records(&self, call: &FindCall) -> Result<Answered<Vec<String>>, TargetError> {
        if call.values.is_empty() {
            return Ok(Answered { items: Vec::new(), date: None, quota: Vec::new() });
        }
        let object = path_of(&call.object)?;
        if call.object == ObjectType::CONTACT && &*call.field == "email" {
            self.by_email(object, call).await
        } else {
            self.by_search(object, call).await
        }
    }

    async fn by_email(&self, object: &str, call: &FindCall) -> Result<Answered<Vec<String>>, TargetError> {
        let body = ReadBody {
            id_property: Some("email"),
            inputs: call.values.iter().map(|id| Input { id }).collect(),
            properties: vec!["email", FURTHER_EMAILS],
        };
        let reply = self.ask(format!("{}/{object}/batch/read", self.objects), &body).await?;
        if !matches!(reply.status, StatusCode::OK | StatusCode::MULTI_STATUS) {
            return Err(errors::whole_call(&reply, Effect::Read));
        }
        let answer: BatchAnswer = complete(parse(&reply)?)?;
        let mut hits = Hits::of(call);
        for record in answer.results.iter().filter(|r| !r.archived) {
            let further = record.text(FURTHER_EMAILS).unwrap_or_default().split(';');
            record.text("email").into_iter().chain(further).for_each(|address| hits.add(address, &record.id));
        }
        Ok(Answered { items: hits.in_order(), date: reply.date, quota: quota(&reply) })
    }

    async fn by_search(&self, object: &str, call: &FindCall) -> Result<Answered<Vec<String>>, TargetError> {
        // HubSpot wants the values of `IN` in lower case and compares without case then.
        let values: Vec<String> = call.values.iter().map(|v| v.trim().to_lowercase()).collect();
        let filter = Filter { property_name: &call.field, operator: "IN", values: &values };
        let mut search = Search {
            filter_groups: [Group { filters: [filter] }],
            properties: [&call.field],
            limit: PAGE,
            after: None,
        };
        let mut hits = Hits::of(call);
        let (mut date, mut left): (Option<Timestamp>, Vec<Quota>) = (None, Vec::new());
        for _ in 0..MOST_PAGES {
            let reply = self.ask(format!("{}/{object}/search", self.objects), &search).await?;
            if reply.status != StatusCode::OK {
                return Err(errors::whole_call(&reply, Effect::Read));
            }
            let page: Page = parse(&reply)?;
            for record in page.results.iter().filter(|r| !r.archived) {
                hits.add(record.text(&call.field).unwrap_or_default(), &record.id);
            }
            (date, left) = (date.max(reply.date), quota(&reply));
            search.after = page.paging.and_then(|p| p.next).map(|n| n.after);
            if search.after.is_none() || hits.is_full() {
                break;
            }
        }
        Ok(Answered { items: hits.in_order(), date, quota: left })
    }

    /// A call that reads although it is a POST.
    pub(super) async fn ask<T: Serialize + Sync>(&self, path: String, body: &T) -> Result<Reply, TargetError> {
        let body = serde_json::to_vec(body)
            .map_err(|e| TargetError::new("unsendable", e.to_string(), Disposition::Permanent))?;
        self.client.send(Call::json(Effect::Read, Method::POST, path, Bytes::from(body))).await
    }
}

/// Ids by the folded value that led to them.
struct Hits<'a> {
    call: &'a FindCall,
    found: HashMap<String, Vec<String>>,
}

impl<'a> Hits<'a> {
    fn of(call: &'a FindCall) -> Self {
        Self { call, found: call.values.iter().map(|v| (folded(v), Vec::new())).collect() }
    }

    fn add(&mut self, value: &str, id: &str) {
        if let Some(ids) = self.found.get_mut(&folded(value))
            && ids.len() < MOST_FOUND
            && !ids.iter().any(|known| known == id)
        {
            ids.push(id.to_owned());
        }
    }

    fn is_full(&self) -> bool {
        self.found.values().all(|ids| ids.len() == MOST_FOUND)
    }

    fn in_order(&self) -> Vec<Vec<String>> {
        self.call.values.iter().map(|v| self.found.get(&folded(v)).cloned().unwrap_or_default()).collect()
    }
}

fn folded(value: &str) -> String {
    value.trim().to_lowercase()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Search<'a> {
    filter_groups: [Group<'a>; 1],
    properties: [&'a str; 1],
    limit: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
}

#[derive(Serialize)]
struct Group<'a> {
    filters: [Filter<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Filter<'a> {
    property_name: &'a str,
    operator: &'static str,
    values: &'a [String],
}

#[derive(Deserialize)]
struct Page {
    results: Vec<Record>,
    paging: Option<Paging>,
}

#[derive(Deserialize)]
struct Paging {
    next: Option<Next>,
}

#[derive(Deserialize)]
struct Next {
    after: String,
}
