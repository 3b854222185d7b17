//! Checks 6 to 8: bytes that come too many, too slowly, or framed to mean two things.

use headgate_gateway::config::Limits;

use super::super::harness::{Bench, HUBSPOT, NATIVE, hubspot, job_title, limits, native, post};
use super::{BODY, senders};

#[tokio::test]
async fn check_06_a_huge_body_is_refused_by_its_declared_length_and_by_what_is_read() {
    let bench = Bench::new().await;
    let declared = format!("POST {HUBSPOT} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", 20 << 20);
    assert_eq!(bench.send(declared).await.status, 413);

    let mut client = bench.connect().await;
    client.write(format!("POST {NATIVE} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")).await;
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x1_0000));
    let (mut read, mut write) = client.stream.split();
    let flood = async {
        use tokio::io::AsyncWriteExt as _;
        // Endless: only the gateway's refusal ends it.
        while write.write_all(chunk.as_bytes()).await.is_ok() {}
    };
    let answer = async {
        use tokio::io::AsyncReadExt as _;
        let mut status = [0; 12];
        read.read_exact(&mut status).await.unwrap();
        String::from_utf8_lossy(&status).into_owned()
    };
    let status = tokio::select! { status = answer => status, () = flood => "closed".to_owned() };
    assert!(status == "HTTP/1.1 413" || status == "closed", "{status}");
    bench.counted(r#"gw_rejected_total{source="native",reason="too_large"}"#, 1).await;
    assert_eq!(bench.sink.appends(), 0);
}

#[tokio::test]
async fn check_06_an_encoded_body_is_not_unpacked() {
    let bench = Bench::new().await;
    for (encoding, expected) in [("gzip", 415), ("identity, gzip", 415), ("br", 415), ("Identity", 401)] {
        let call = post(HUBSPOT, &[("Content-Encoding", encoding)], BODY);
        assert_eq!(bench.send(call).await.status, expected, "{encoding}");
    }
    for sender in senders() {
        let call = String::from_utf8(sender.call()).unwrap();
        let encoded = call.replacen("\r\n", "\r\nContent-Encoding: gzip\r\n", 1);
        assert_eq!(bench.send(encoded).await.status, 415, "{}", sender.name);
    }
    assert_eq!(bench.sink.appends(), 0);
}

#[tokio::test]
async fn check_06_a_form_in_parts_is_no_event_even_when_it_is_signed() {
    let bench = Bench::new().await;
    let form = format!("--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n{BODY}\r\n--x--\r\n");
    for call in [hubspot(&form), native("m", &form)] {
        let call = String::from_utf8(call).unwrap();
        let call = call.replace("application/json", "multipart/form-data; boundary=x");
        assert_eq!(bench.send(call).await.status, 400);
    }
    assert_eq!(bench.sink.appends(), 0);
}

#[tokio::test]
async fn paths_and_methods() {
    let bench = Bench::new().await;
    for (request, expected) in [
        ("GET /in/hubspot/x HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 405),
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 404),
        ("POST /in/zoho/x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n".to_owned(), 404),
        (format!("POST {HUBSPOT}/ HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"), 404),
    ] {
        assert_eq!(bench.send(&request).await.status, expected, "{request}");
    }
}

#[tokio::test]
async fn check_06_bytes_in_flight_are_bounded_and_overload_is_answered() {
    let bench = Bench::with(Limits { inflight_bytes: 10 << 10, ..limits() }).await;
    let large = format!("[{}]", job_title(1, 7001, 1_767_268_798_500, &"x".repeat(8 << 10)));
    let reply = bench.send(hubspot(large)).await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("5")));
    assert_eq!(bench.send(hubspot(BODY)).await.status, 204, "its bytes were given back");
}

#[tokio::test]
async fn check_07_header_floods_are_refused() {
    let bench = Bench::new().await;
    let many = "X-A: b\r\n".repeat(200);
    let long = format!("X-A: {}\r\n", "b".repeat(64 << 10));
    for headers in [many, long] {
        let mut client = bench.connect().await;
        client.write(format!("POST {HUBSPOT} HTTP/1.1\r\nHost: h\r\n{headers}\r\n")).await;
        assert_eq!(client.reply().await.status, 431);
        client.closed().await;
    }
}

#[tokio::test]
async fn check_07_two_lengths_do_not_smuggle_a_second_request() {
    let bench = Bench::new().await;
    let call = String::from_utf8(hubspot(BODY)).unwrap();
    let (head, _) = call.split_once("\r\n\r\n").unwrap();
    // By its length the second request is part of the first body; by its chunks it is a request of its own.
    let smuggled = format!("{head}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{call}");
    let mut client = bench.connect().await;
    client.write(smuggled).await;
    assert_ne!(client.reply().await.status, 204);
    assert_eq!(client.closed().await, 0, "nothing after the first answer");
    assert_eq!(bench.sink.appends(), 0);
    for bad in [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 6",
        "Content-Length: +5",
        "Content-Length: -1",
        "Content-Length: 0x5",
        "Content-Length: 99999999999999999999",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding: chunked\r\n X: y",
        "Transfer-Encoding:\u{b}chunked",
    ] {
        let reply = bench.send(format!("POST {HUBSPOT} HTTP/1.1\r\nHost: h\r\n{bad}\r\n\r\nhello")).await;
        assert_eq!(reply.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn check_07_chunks_that_lie_about_their_length_end_the_request() {
    let bench = Bench::new().await;
    for chunks in [
        "zz\r\n",
        "-1\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello world\r\n0\r\n\r\n",
        "fffffffffffffffff\r\n",
        "5\nhello\n0\n\n",
        &format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(64 << 10)),
    ] {
        let mut client = bench.connect().await;
        let head = format!("POST {HUBSPOT} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.write(format!("{head}{chunks}")).await;
        // Refused, or cut without an answer; a request of its own never comes out of it.
        let status = client.try_reply().await.map_or(400, |reply| reply.status);
        assert!((400..500).contains(&status), "{status} {chunks:.40}");
    }
    assert_eq!(bench.sink.appends(), 0);
    assert_eq!(bench.send(hubspot(BODY)).await.status, 204);
}

#[tokio::test]
async fn check_07_pipelined_requests_are_answered_in_turn() {
    let bench = Bench::new().await;
    let first = hubspot(format!("[{}]", job_title(1, 7001, 1_767_268_798_500, "CTO")));
    let second = post("/nowhere", &[], "");
    let third = hubspot(format!("[{}]", job_title(2, 7001, 1_767_268_798_501, "CEO")));
    let mut client = bench.connect().await;
    client.write([first, second, third].concat()).await;
    let statuses = [client.reply().await.status, client.reply().await.status, client.reply().await.status];
    assert_eq!(statuses, [204, 404, 204]);
    assert_eq!(bench.sink.records().len(), 2);
}
