//! A CRM made of literal answers: it records each request as it came and answers, hangs, or cuts the line as told.
//!
//! It speaks HTTP/1.1 by hand, because half an answer and a reset are what a proper server refuses to send.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use headgate_relay::config::{Auth, ConnectionConfig, SetUp};
use headgate_relay::http::{Http, Settings};
use headgate_relay::target::{self, By, NativeName, ReadCall, Target};
use headgate_schemas::{ObjectType, System};
use parking_lot::Mutex;
use secrecy::SecretString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Request {
    /// Everything but `host` and `content-length`, line by line.
    pub(crate) fn literal(&self) -> String {
        let mut text = format!("{} {}\n", self.method, self.path);
        for (name, value) in self.headers.iter().filter(|(n, _)| *n != "host" && *n != "content-length") {
            text.push_str(&format!("{name}: {value}\n"));
        }
        text + &self.body
    }
}

/// What is done about a request.
pub(crate) enum Answer {
    /// A whole answer.
    Json(u16, Vec<(&'static str, String)>, String),
    /// Nothing, with the line kept open.
    Hang,
    /// The line is cut without an answer.
    Cut,
    /// The line is cut inside the body.
    Half,
}

/// A 200 with a body.
pub(crate) fn ok(body: impl Into<String>) -> Answer {
    Answer::Json(200, Vec::new(), body.into())
}

type Respond = dyn Fn(&Request) -> Answer + Send + Sync;

/// The running server; stops when dropped.
pub(crate) struct Server {
    pub(crate) base_url: String,
    requests: Arc<Mutex<Vec<Request>>>,
    _tasks: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start(respond: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        let respond: Arc<Respond> = Arc::new(respond);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut lines = JoinSet::new();
            loop {
                let (line, _) = listener.accept().await.unwrap();
                lines.spawn(serve(line, respond.clone(), seen.clone()));
            }
        });
        Self { base_url, requests, _tasks: tasks }
    }

    /// Every request so far, in the order in which they were read.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().clone()
    }

    /// The only request.
    pub(crate) fn request(&self) -> Request {
        let requests = self.requests();
        assert_eq!(requests.len(), 1);
        requests[0].clone()
    }

    /// A target of this server, with a time-out that no test reaches by accident.
    pub(crate) fn target(&self, system: System, api_version: &str) -> Arc<dyn Target> {
        self.target_within(system, api_version, Duration::from_secs(30))
    }

    /// A HubSpot target that makes nothing there.
    pub(crate) fn target_without_set_up(&self) -> Arc<dyn Target> {
        let config = ConnectionConfig { set_up: SetUp::Never, ..connection(System::Hubspot, "v3", &self.base_url) };
        target::build(&config, &Http::new(Settings::default()).unwrap(), Duration::from_secs(30)).unwrap()
    }

    pub(crate) fn target_within(&self, system: System, api_version: &str, deadline: Duration) -> Arc<dyn Target> {
        let settings = Settings { answer_bytes: 64 << 10, ..Settings::default() };
        target::build(&connection(system, api_version, &self.base_url), &Http::new(settings).unwrap(), deadline)
            .unwrap()
    }
}

pub(crate) fn connection(system: System, api_version: &str, base_url: &str) -> ConnectionConfig {
    let external_id_field = if system == System::Salesforce { "Relay_Id__c" } else { "relay_id" };
    ConnectionConfig {
        name: "main".to_owned(),
        tenant: "acme".to_owned(),
        system,
        account: "1".to_owned(),
        base_url: base_url.to_owned(),
        auth: Auth::Bearer(SecretString::from("test-token")),
        api_version: api_version.to_owned(),
        client: "headgate".to_owned(),
        app_id: None,
        external_id_field: external_id_field.to_owned(),
        set_up: SetUp::Auto,
        read_lag: Duration::from_secs(5),
        longest_run: Duration::from_secs(600),
    }
}

pub(crate) fn names(fields: &[&str]) -> Arc<[NativeName]> {
    fields.iter().map(|f| Arc::from(*f)).collect()
}

pub(crate) fn read(by: By, ids: &[&str], fields: &[&str]) -> ReadCall {
    let ids = ids.iter().map(|id| (*id).to_owned()).collect();
    ReadCall { object: ObjectType::CONTACT, by, ids, fields: names(fields) }
}

async fn serve(mut line: TcpStream, respond: Arc<Respond>, seen: Arc<Mutex<Vec<Request>>>) {
    let mut buffer = Vec::new();
    while let Some(request) = next(&mut line, &mut buffer).await {
        let answer = respond(&request);
        seen.lock().push(request);
        match answer {
            Answer::Json(status, headers, body) => {
                let headers: String = headers.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
                let head = format!(
                    "HTTP/1.1 {status} Status\r\ndate: Thu, 01 Jan 2026 12:00:00 GMT\r\n{headers}content-type: application/json\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                line.write_all((head + &body).as_bytes()).await.unwrap();
            }
            Answer::Hang => std::future::pending().await,
            Answer::Cut => return,
            Answer::Half => {
                line.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n[{").await.unwrap();
                return;
            }
        }
    }
}

/// The next request of a line; `None` at its end.
async fn next(line: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Request> {
    loop {
        if let Some((request, length)) = parse(buffer) {
            buffer.drain(..length);
            return Some(request);
        }
        if line.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

fn parse(buffer: &[u8]) -> Option<(Request, usize)> {
    let end = buffer.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&buffer[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let mut start = lines.next().unwrap().split(' ');
    let (method, path) = (start.next().unwrap().to_owned(), start.next().unwrap().to_owned());
    let headers: BTreeMap<String, String> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers.get("content-length").map_or(0, |n| n.parse().unwrap());
    let body = buffer.get(end + 4..end + 4 + length)?;
    let body = std::str::from_utf8(body).unwrap().to_owned();
    Some((Request { method, path, headers, body }, end + 4 + length))
}
