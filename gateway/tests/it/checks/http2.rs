//! HTTP/2 by hand, frame by frame, since no well-behaved client can be made to send what these checks send.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::super::harness::{Bench, within};

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_HEADERS_AND_STREAM: u8 = 5;

/// Frames to send.
#[derive(Default)]
pub(super) struct Frames(Vec<u8>);

impl Frames {
    /// The preface and empty settings.
    pub(super) fn begin() -> Self {
        Self(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()).frame(SETTINGS, 0, 0, &[])
    }

    fn frame(mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Self {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        self.0.extend([length[1], length[2], length[3], kind, flags]);
        self.0.extend(stream.to_be_bytes());
        self.0.extend(payload);
        self
    }

    /// A request that is taken back at once.
    pub(super) fn opened_and_reset(self, stream: u32) -> Self {
        self.frame(HEADERS, END_HEADERS_AND_STREAM, stream, &request()).frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])
    }

    /// A request whose header never ends: the first part, then `more` of them.
    pub(super) fn endless_header(self, more: usize) -> Self {
        let field = [&[0, 3][..], b"x-a", &[127, 225, 62], &vec![b'b'; 8_160]].concat();
        let begun = self.frame(HEADERS, 0, 1, &request());
        (0..more).fold(begun, |frames, _| frames.frame(CONTINUATION, 0, 1, &field))
    }

    /// A request that goes on as if nothing had been said.
    pub(super) fn request(self, stream: u32) -> Self {
        self.frame(HEADERS, END_HEADERS_AND_STREAM, stream, &request())
    }

    /// Pings that all want an answer.
    pub(super) fn pings(self, count: usize) -> Self {
        (0..count).fold(self, |frames, n| frames.frame(PING, 0, 0, &(n as u64).to_be_bytes()))
    }
}

/// `GET / http h` by the static table and one literal.
fn request() -> Vec<u8> {
    vec![0x82, 0x84, 0x86, 0x41, 1, b'h']
}

/// Sends all of it; answers the kinds of the frames that came back until the connection ended or `enough` of them came.
pub(super) async fn flood(bench: &Bench, frames: Frames, enough: usize) -> Vec<u8> {
    let mut stream = TcpStream::connect(bench.gateway.local_addr()).await.unwrap();
    let (mut read, mut write) = stream.split();
    let send = async {
        // The gateway may have closed already: that is its answer.
        let sent = write.write_all(&frames.0).await.is_ok();
        std::future::pending::<bool>().await | sent
    };
    let receive = async {
        let mut kinds = Vec::new();
        let mut head = [0; 9];
        while kinds.len() < enough && read.read_exact(&mut head).await.is_ok() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            if read.read_exact(&mut payload).await.is_err() {
                break;
            }
            kinds.push(head[3]);
        }
        kinds
    };
    within(async {
        tokio::select! {
            kinds = receive => kinds,
            _ = send => unreachable!("sending never ends the test"),
        }
    })
    .await
}

#[tokio::test]
async fn check_07_http2_requests_taken_back_by_the_thousand_end_the_connection() {
    let bench = Bench::new().await;
    let frames = (0..20_000).fold(Frames::begin(), |frames, n| frames.opened_and_reset(n * 2 + 1));
    let kinds = flood(&bench, frames, usize::MAX).await;
    assert!(kinds.contains(&GOAWAY), "{kinds:?}");
    served(&bench).await;
}

#[tokio::test]
async fn check_07_an_endless_http2_header_ends_the_connection() {
    let bench = Bench::new().await;
    flood(&bench, Frames::begin().endless_header(2_000), usize::MAX).await;
    served(&bench).await;
}

#[tokio::test]
async fn check_07_many_http2_streams_and_pings_are_answered_within_limits() {
    let bench = Bench::new().await;
    let frames = (0..500).fold(Frames::begin().pings(500), |frames, n| frames.request(n * 2 + 1));
    // Settings, their acknowledgement and at least a hundred more: the gateway answers and does not fall over.
    let kinds = flood(&bench, frames, 100).await;
    assert_eq!(kinds.len(), 100);
    served(&bench).await;
}

/// The next valid request is served.
async fn served(bench: &Bench) {
    assert_eq!(bench.send(super::hubspot(super::BODY)).await.status, 204);
}
