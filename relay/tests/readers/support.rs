//! A log with changes in it, and a reader of answers.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use headgate_relay::admin::{self, OpenSource};
use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::stream::memory::{Memory, MemoryConfig};
use headgate_schemas::stream::{Sink as _, Source};
use headgate_schemas::{Change, ChangeId, ChangeKind, ObjectType, System, Timestamp, contract};
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;

/// A change of contact `id` at second `at`.
pub(crate) fn change(id: &str, at: i64) -> Change {
    let mut change = contract::example();
    change.id = ChangeId::derive(System::Hubspot, "5550123", [id.as_bytes(), &at.to_be_bytes()]);
    change.object.id = Some(id.to_owned());
    change.received_at = Timestamp::from_secs(at);
    change.occurred_at = Some(Timestamp::from_secs(at));
    change
}

/// A change of another kind and type.
pub(crate) fn deal(id: &str, at: i64) -> Change {
    let mut change = change(id, at);
    change.object.kind = ObjectType::DEAL;
    change.kind = ChangeKind::Deleted;
    change
}

/// The log and the API over it.
pub(crate) struct Desk {
    pub(crate) log: Memory,
    pub(crate) shutdown: Shutdown,
    api: TowerToHyperService<Router>,
}

impl Desk {
    pub(crate) fn new(readers: usize) -> Self {
        Self::keeping(readers, 1_000_000)
    }

    /// The log drops what is more than `records`.
    pub(crate) fn keeping(readers: usize, records: usize) -> Self {
        let log = Memory::with(MemoryConfig { partitions: 3, keep_records: records, ..MemoryConfig::default() });
        let shutdown = Shutdown::new(Duration::from_secs(1));
        let api = TowerToHyperService::new(admin::changes(open(&log), readers, &shutdown));
        Self { log, shutdown, api }
    }

    pub(crate) async fn append(&self, change: &Change) {
        self.log.append(vec![contract::encode(change).unwrap()]).await.unwrap();
    }

    pub(crate) async fn ask(&self, path: &str, headers: &[(&str, &str)]) -> Response<Body> {
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.api.call(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    /// Follows the answer, which must be a good one.
    pub(crate) async fn follow(&self, path: &str, headers: &[(&str, &str)]) -> Follower {
        let response = self.ask(path, headers).await;
        assert_eq!(response.status(), StatusCode::OK);
        Follower { body: response.into_body(), text: String::new() }
    }

    /// The refusal of a request: its status and code.
    pub(crate) async fn refused(&self, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let response = self.ask(path, headers).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let problem: Value = serde_json::from_slice(&body).unwrap();
        (status, problem["code"].as_str().unwrap().to_owned())
    }
}

/// Opens readers of a log.
pub(crate) fn open(log: &Memory) -> OpenSource {
    let log = log.clone();
    Arc::new(move || Ok(Box::new(log.source()) as Box<dyn Source>))
}

/// Reads an answer that does not end.
pub(crate) struct Follower {
    body: Body,
    text: String,
}

impl Follower {
    /// The next block up to `end`, without it. `None` when the answer ended.
    pub(crate) async fn block(&mut self, end: &str) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once(end) {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(block);
            }
            let frame = self.body.frame().await?.unwrap();
            self.text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
    }

    /// The next line as JSON.
    pub(crate) async fn line(&mut self) -> Value {
        serde_json::from_str(&self.block("\n").await.unwrap()).unwrap()
    }

    /// The ids of the records of the next lines.
    pub(crate) async fn records(&mut self, n: usize) -> Vec<String> {
        let mut records = Vec::new();
        while records.len() < n {
            let line = self.line().await;
            records.push(line["data"]["object"]["id"].as_str().unwrap().to_owned());
        }
        records
    }
}
