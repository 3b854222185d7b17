//! Stands between the program and a CRM and lets somebody act exactly when a write is about to arrive: after everything
//! the program read, before what it writes. What the program reads goes into the chronicle.

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use headgate_schemas::shutdown::Shutdown;
use http_body_util::BodyExt as _;
use hyper::{Method, Request};

use crate::chronicle::Chronicle;
use crate::proxy::{self, Answer, Forward, Serve};

type Act = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The proxy before one CRM. Clones share it.
#[derive(Clone)]
pub(crate) struct Interloper {
    base: String,
    system: &'static str,
    chronicle: Arc<Chronicle>,
    forward: Forward,
    act: Arc<Mutex<Option<Act>>>,
}

impl Interloper {
    /// Stands before the CRM at `base`; answers its own address, too.
    pub(crate) async fn open(
        (system, base): (&'static str, String),
        chronicle: &Arc<Chronicle>,
        shutdown: &Shutdown,
    ) -> (Self, String) {
        let (listener, addr) = proxy::bind().await;
        let (chronicle, forward) = (Arc::clone(chronicle), Forward::new());
        let interloper = Self { base, system, chronicle, forward, act: Arc::default() };
        proxy::serve(listener, interloper.clone(), shutdown);
        (interloper, format!("http://{addr}"))
    }

    /// Does this before the next write goes through.
    pub(crate) fn before_next_write(&self, act: impl Future<Output = ()> + Send + 'static) {
        *self.act.lock().unwrap() = Some(Box::pin(act));
    }

    /// Whether what was to be done was done.
    pub(crate) fn has_acted(&self) -> bool {
        self.act.lock().unwrap().is_none()
    }
}

impl Serve for Interloper {
    async fn answer(self, request: Request<Bytes>) -> Option<Answer> {
        if writes(&request) {
            let act = self.act.lock().unwrap().take();
            if let Some(act) = act {
                act.await;
            }
        }
        let reads = reads(&request);
        let answer = self.forward.send(&self.base, request).await?;
        if reads {
            let (parts, body) = answer.into_parts();
            let body = body.collect().await.ok()?.to_bytes();
            self.chronicle.looks(self.system, &body);
            return Some(Answer::from_parts(parts, body.into()));
        }
        Some(answer)
    }
}

/// Whether a call asks how contacts stand, in either CRM.
fn reads(request: &Request<Bytes>) -> bool {
    let path = request.uri().path();
    path.ends_with("/batch/read") || path.ends_with("/query")
}

/// Whether a call changes contacts, in either CRM.
fn writes(request: &Request<Bytes>) -> bool {
    let path = request.uri().path();
    request.method() == Method::PATCH || path.ends_with("/batch/update") || path.ends_with("/batch/upsert")
}
