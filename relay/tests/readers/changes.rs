//! `GET /v1/changes`: both forms, resuming, filters, and what becomes of readers that are slow, late or too many.

use headgate_schemas::event::Event;

use crate::support::{Desk, change, deal};

const EVENTS: [(&str, &str); 1] = [("accept", "text/event-stream")];

#[tokio::test]
async fn lines_are_events_that_say_where_to_go_on() {
    let desk = Desk::new(4);
    for n in 0..5 {
        desk.append(&change(&n.to_string(), n)).await;
    }
    let mut all = desk.follow("/v1/changes?from=start", &[]).await;
    let line = all.line().await;
    let event: Event = serde_json::from_value(line.clone()).unwrap();
    assert_eq!((event.id, event.subject.as_str()), (change("0", 0).id, "contact/0"));
    assert_eq!((line["offset"].as_u64(), line["position"].as_str()), (Some(0), Some("1")));
    assert_eq!(all.records(4).await, ["1", "2", "3", "4"]);

    for (from, first) in [("3", "3"), ("1970-01-01T00:00:02Z", "2"), ("start", "0")] {
        let mut some = desk.follow(&format!("/v1/changes?from={from}"), &[]).await;
        assert_eq!(some.records(1).await, [first], "{from}");
    }
    let mut fresh = desk.follow("/v1/changes", &[]).await;
    desk.append(&change("new", 9)).await;
    assert_eq!(fresh.records(1).await, ["new"]);
}

#[tokio::test]
async fn server_sent_events_are_resumed_after_the_last_one() {
    let desk = Desk::new(4);
    for n in 0..3 {
        desk.append(&change(&n.to_string(), n)).await;
    }
    let mut first = desk.follow("/v1/changes?from=start", &EVENTS).await;
    let block = first.block("\n\n").await.unwrap();
    let (head, data) = block.split_once("\ndata: ").unwrap();
    assert_eq!(head, "id: 1\nevent: change");
    let event: Event = serde_json::from_str(data).unwrap();
    assert_eq!(event.subject, "contact/0");

    let resumed = [EVENTS[0], ("last-event-id", "1")];
    let mut second = desk.follow("/v1/changes?from=start", &resumed).await;
    assert!(second.block("\n\n").await.unwrap().contains("\"subject\":\"contact/1\""));
}

#[tokio::test]
async fn only_what_is_asked_for_comes() {
    let desk = Desk::new(8);
    desk.append(&change("1", 1)).await;
    desk.append(&deal("2", 2)).await;
    let mut globex = change("3", 3);
    globex.tenant = "globex".to_owned();
    desk.append(&globex).await;
    desk.append(&change("4", 4)).await;
    let table = [
        ("tenant=acme", &["1", "2", "4"][..]),
        ("tenant=globex", &["3"]),
        ("object=deal", &["2"]),
        ("kind=updated&tenant=acme", &["1", "4"]),
        ("record=4,1", &["1", "4"]),
        ("system=hubspot&account=5550123", &["1", "2", "3", "4"]),
    ];
    for (query, expected) in table {
        let mut reader = desk.follow(&format!("/v1/changes?from=start&{query}"), &[]).await;
        assert_eq!(reader.records(expected.len()).await, expected, "{query}");
    }
}

#[tokio::test]
async fn what_means_nothing_is_refused_with_the_reason() {
    let desk = Desk::new(4);
    let table = [
        ("from=yesterday", "bad_position"),
        ("from=1.2", "bad_position"),
        ("system=hubspt", "bad_filter"),
        ("kind=,", "bad_filter"),
        ("tennant=acme", "bad_query"),
    ];
    for (query, code) in table {
        assert_eq!(desk.refused(&format!("/v1/changes?{query}"), &[]).await, (400, code.to_owned()), "{query}");
    }
    let ahead = desk.refused("/v1/changes?from=7", &[]).await;
    assert_eq!(ahead, (410, "replay_position_expired".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn silence_is_broken_by_signs_of_life_that_carry_the_position() {
    let desk = Desk::new(4);
    desk.append(&change("1", 1)).await;
    let mut events = desk.follow("/v1/changes?from=start&object=deal", &EVENTS).await;
    assert_eq!(events.block("\n\n").await.unwrap(), ": nothing new\nid: 1");
    let mut lines = desk.follow("/v1/changes?from=now", &[]).await;
    assert_eq!(lines.block("\n").await.unwrap(), "");
    desk.append(&change("2", 2)).await;
    assert_eq!(lines.records(1).await, ["2"]);
}

#[tokio::test]
async fn a_reader_that_the_log_overtook_is_told_and_the_answer_ends() {
    let desk = Desk::keeping(4, 10);
    desk.append(&change("0", 0)).await;
    let mut slow = desk.follow("/v1/changes?from=start", &[]).await;
    assert_eq!(slow.records(1).await, ["0"]);
    for n in 1..40 {
        desk.append(&change("0", n)).await;
    }
    let problem = slow.line().await;
    assert_eq!(
        (&problem["problem"]["code"], &problem["problem"]["status"]),
        (&"replay_position_expired".into(), &410.into())
    );
    assert_eq!(slow.block("\n").await, None);
    let late = desk.refused("/v1/changes?from=1", &[]).await;
    assert_eq!(late, (410, "replay_position_expired".to_owned()));
}

#[tokio::test]
async fn a_reader_too_many_is_refused_until_one_goes() {
    let desk = Desk::new(2);
    let (one, two) = (desk.follow("/v1/changes", &[]).await, desk.follow("/v1/changes", &[]).await);
    assert_eq!(desk.refused("/v1/changes", &[]).await, (503, "too_many_readers".to_owned()));
    drop(one);
    let three = desk.follow("/v1/changes", &[]).await;
    assert_eq!(desk.refused("/v1/changes", &[]).await, (503, "too_many_readers".to_owned()));
    drop((two, three));
}

#[tokio::test]
async fn answers_end_with_the_server() {
    let desk = Desk::new(1);
    desk.append(&change("1", 1)).await;
    let mut reader = desk.follow("/v1/changes?from=start", &[]).await;
    assert_eq!(reader.records(1).await, ["1"]);
    desk.shutdown.stop();
    assert_eq!(reader.block("\n").await, None);
}
