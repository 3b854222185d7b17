//! Small runs by hand: a clean one, and one for each thing that can be wrong with it.

use crate::{Report, judge};

/// One contact, made in HubSpot, written to Salesforce, edited on both sides, equal in the end.
const CLEAN: &str = r#"
{"what":"pair","fields":{"hubspot":"firstname","salesforce":"FirstName"}}
{"what":"edit","at":10,"system":"hubspot","id":"7","field":"firstname","value":"Ada1","new":true}
{"what":"post","at":11,"system":"hubspot","status":503,"events":[{"id":"7","fields":{}}]}
{"what":"post","at":12,"system":"hubspot","status":200,"events":[{"id":"7","fields":{}}]}
{"what":"write","at":20,"system":"salesforce","id":"003A","field":"FirstName","old":null,"new":"Ada1"}
{"what":"edit","at":30,"system":"salesforce","id":"003A","field":"FirstName","value":"Ada2","new":false}
{"what":"post","at":31,"system":"salesforce","status":200,"events":[{"id":"003A","fields":{"FirstName":"Ada2"},"state":true}]}
{"what":"write","at":40,"system":"hubspot","id":"7","field":"firstname","old":"Ada1","new":"Ada2"}
{"what":"edit","at":50,"system":"hubspot","id":"7","field":"firstname","value":"Ada3","new":false}
{"what":"post","at":51,"system":"hubspot","status":200,"events":[{"id":"7","fields":{"firstname":"Ada3"}}]}
{"what":"write","at":60,"system":"salesforce","id":"003A","field":"FirstName","old":"Ada2","new":"Ada3"}
{"what":"change","system":"hubspot","id":"7","fields":{}}
{"what":"change","system":"salesforce","id":"003A","fields":{"FirstName":"Ada2"}}
{"what":"change","system":"hubspot","id":"7","fields":{"firstname":"Ada3"}}
{"what":"stands","system":"hubspot","id":"7","fields":{"firstname":"Ada3"}}
{"what":"stands","system":"salesforce","id":"003A","fields":{"FirstName":"Ada3"}}
{"what":"accounting","open":0,"held":0,"difference":0}
{"what":"quiet","at":70}
"#;

fn found(lines: &str) -> Vec<(&'static str, usize)> {
    let report = judge(lines).unwrap();
    report.findings().iter().filter(|(_, f)| !f.is_empty()).map(|(kind, f)| (*kind, f.len())).collect()
}

/// The clean run with further lines.
fn with(lines: &str) -> Vec<(&'static str, usize)> {
    found(&format!("{CLEAN}{lines}"))
}

/// The clean run without the lines that contain a text.
fn without(text: &str) -> String {
    assert!(CLEAN.contains(text), "{text}");
    CLEAN.lines().filter(|line| !line.contains(text)).map(|line| format!("{line}\n")).collect()
}

fn write(at: i64, old: &str, new: &str) -> String {
    format!(
        r#"{{"what":"write","at":{at},"system":"salesforce","id":"003A","field":"FirstName","old":{old},"new":{new}}}"#
    )
}

#[test]
fn a_clean_run_is_clean_and_counted() {
    let report = judge(CLEAN).unwrap();
    assert!(report.is_clean(), "{report}");
    let counted =
        Report { edits: 3, posts: 4, events: 4, accepted: 3, changes: 3, writes: 3, cells: 1, ..Report::default() };
    assert_eq!(report, counted);
}

#[test]
fn what_was_taken_and_is_not_in_the_stream_has_vanished() {
    let lines = without(r#""change","system":"salesforce""#);
    assert_eq!(found(&lines), [("P1 vanished", 1)]);
    let change = r#"{"what":"change","system":"hubspot","id":"7","fields":{"firstname":"Ada3"}}"#;
    let lines = CLEAN.replace(change, &change.replace("Ada3", "Ada1"));
    assert_eq!(found(&lines), [("P1 vanished", 1)], "another value is another change");
}

#[test]
fn a_change_that_nobody_posted_is_a_phantom() {
    assert_eq!(with(r#"{"what":"change","system":"hubspot","id":"8","fields":{}}"#), [("phantom", 1)]);
}

#[test]
fn an_edit_that_was_never_taken_shows_and_ends_nowhere() {
    let lines = r#"{"what":"edit","at":65,"system":"hubspot","id":"7","field":"firstname","value":"Ada4","new":false}"#;
    assert_eq!(with(lines), [("P2 lost", 1), ("unaccepted", 1)]);
}

#[test]
fn a_value_nobody_made_is_a_phantom() {
    assert_eq!(with(&write(61, "\"Ada3\"", "\"Eve\"")), [("phantom", 1)]);
    assert_eq!(with(&write(61, "\"Ada3\"", "null")), [("phantom", 1)]);
}

#[test]
fn a_value_of_another_record_is_a_phantom() {
    let lines = r#"
{"what":"edit","at":10,"system":"hubspot","id":"8","field":"firstname","value":"Bob1","new":true}
{"what":"post","at":12,"system":"hubspot","status":200,"events":[{"id":"8","fields":{}}]}
{"what":"change","system":"hubspot","id":"8","fields":{}}
{"what":"stands","system":"hubspot","id":"8","fields":{"firstname":"Bob1"}}
{"what":"stands","system":"salesforce","id":"003B","fields":{"FirstName":"Bob1"}}
{"what":"write","at":20,"system":"salesforce","id":"003B","field":"FirstName","old":null,"new":"Bob1"}
"#;
    assert_eq!(with(lines), []);
    assert_eq!(with(&format!("{lines}{}", write(61, "\"Ada3\"", "\"Bob1\""))), [("phantom", 1)]);
}

#[test]
fn a_second_record_is_a_duplicate() {
    let second =
        r#"{"what":"write","at":61,"system":"salesforce","id":"003Z","field":"FirstName","old":null,"new":"Ada3"}"#;
    assert_eq!(with(second), [("P5 duplicated", 1)]);
}

#[test]
fn a_value_written_over_itself_is_a_duplicate_unless_a_crash_lies_between() {
    let again = write(65, "\"Ada3\"", "\"Ada3\"");
    assert_eq!(with(&again), [("P5 duplicated", 1)]);
    assert_eq!(with(&format!("{again}\n{{\"what\":\"crash\",\"at\":62,\"where\":\"relay.after_write\"}}")), []);
    assert_eq!(with(&format!("{again}\n{{\"what\":\"crash\",\"at\":59,\"where\":\"relay.after_write\"}}")).len(), 1);
}

#[test]
fn an_older_value_over_a_newer_one_is_reordered() {
    let older = format!("{}\n{}", write(61, "\"Ada3\"", "\"Ada1\""), write(62, "\"Ada1\"", "\"Ada3\""));
    assert_eq!(with(&older), [("P3 reordered", 1), ("P6 looping", 1)]);
    let cut = format!("{older}\n{{\"what\":\"cut\",\"at\":40,\"until\":60}}");
    assert_eq!(with(&cut), [], "what was sent before may be sent once more when its answer was lost");
}

#[test]
fn an_older_edit_over_the_same_members_newer_one_is_reordered() {
    let lines = r#"{"what":"write","at":61,"system":"hubspot","id":"7","field":"firstname","old":"Ada3","new":"Ada1"}"#;
    assert!(with(lines).contains(&("P3 reordered", 1)));
}

#[test]
fn what_was_typed_between_a_look_and_a_write_is_counted_and_not_held_against_the_order() {
    // Salesforce holds Ada2, a person types Ada4 there, and Ada2 is written once more after HubSpot had replaced it.
    let look = |value: &str| {
        format!(r#"{{"what":"look","at":61,"system":"salesforce","id":"003A","fields":{{"FirstName":"{value}"}}}}"#)
    };
    let run = |look: &str| {
        let edit = r#"{"what":"edit","at":62,"system":"salesforce","id":"003A","field":"FirstName","value":"Ada4","new":false}"#;
        let lines = format!("{CLEAN}\n{look}\n{edit}\n{}", write(63, "\"Ada4\"", "\"Ada2\""));
        judge(&lines).unwrap()
    };
    let (unseen, seen, blind) = (run(&look("Ada3")), run(&look("Ada4")), run(""));
    assert_eq!((unseen.reordered.len(), unseen.between), (0, 1));
    assert_eq!((seen.reordered.len(), seen.between), (1, 0), "the look showed it");
    assert_eq!((blind.reordered.len(), blind.between), (1, 0), "nobody looked");
}

#[test]
fn what_a_person_typed_since_the_last_look_may_be_written_over_itself() {
    let look = |value: &str| {
        format!(r#"{{"what":"look","at":61,"system":"salesforce","id":"003A","fields":{{"FirstName":"{value}"}}}}"#)
    };
    let edit =
        r#"{"what":"edit","at":62,"system":"salesforce","id":"003A","field":"FirstName","value":"Ada4","new":false}"#;
    let run = |look: &str, again: &str| {
        let report = judge(&format!("{CLEAN}\n{look}\n{edit}\n{}{again}", write(63, "\"Ada4\"", "\"Ada4\""))).unwrap();
        (report.duplicated.len(), report.between)
    };
    assert_eq!(run(&look("Ada3"), ""), (0, 1));
    assert_eq!(run(&look("Ada4"), ""), (1, 0), "the look showed it");
    assert_eq!(run("", ""), (1, 0), "nobody looked");
    let again = format!("\n{}", write(64, "\"Ada4\"", "\"Ada4\""));
    assert_eq!(run(&look("Ada3"), &again), (1, 1), "it stands there by our own hand");
}

#[test]
fn the_last_word_of_somebody_whom_nobody_could_hear_is_the_one_before() {
    let lines = CLEAN.replace(r#""old":"Ada2","new":"Ada3""#, r#""old":"Ada4","new":"Ada3""#);
    let typed = |heard: &str| {
        format!(
            r#"{lines}
{{"what":"look","at":58,"system":"salesforce","id":"003A","fields":{{"FirstName":"Ada2"}}}}
{{"what":"edit","at":59,"system":"salesforce","id":"003A","field":"FirstName","value":"Ada4","new":false}}
{heard}"#
        )
    };
    let back = |lines: String| lines.replace("\"Ada3\"}}\n{\"what\":\"stands\"", "\"Ada2\"}}\n{\"what\":\"stands\"");
    let ends = |lines: String| lines.replace("\"Ada3\"}}\n{\"what\":\"acc", "\"Ada2\"}}\n{\"what\":\"acc");
    let lost = |lines: String| judge(&ends(back(lines))).unwrap().lost.len();
    assert_eq!(lost(typed("")), 0, "Ada2 is the last word of Salesforce that anybody heard");
    let told = r#"{"what":"post","at":60,"system":"salesforce","status":200,"events":[{"id":"003A","fields":{"FirstName":"Ada4"},"state":true}]}"#;
    assert_eq!(lost(typed(told)), 1, "a message told of Ada4");
}

#[test]
fn members_that_differ_are_found_unless_a_question_is_open() {
    let lines = CLEAN.replace(r#""003A","fields":{"FirstName":"Ada3"}"#, r#""003A","fields":{"FirstName":"Ada2"}"#);
    assert_eq!(found(&lines), [("P4 differing", 1)]);
    let open = r#"{"what":"open","system":"salesforce","id":"003A","field":"FirstName"}"#;
    assert_eq!(found(&format!("{lines}{open}")), []);
}

#[test]
fn a_value_that_was_superseded_must_not_be_the_last() {
    let lines = CLEAN.replace(r#""fields":{"FirstName":"Ada3"}}"#, r#""fields":{"FirstName":"Ada1"}}"#);
    let lines = lines.replace(
        r#"stands","system":"hubspot","id":"7","fields":{"firstname":"Ada3"}"#,
        r#"stands","system":"hubspot","id":"7","fields":{"firstname":"Ada1"}"#,
    );
    assert_eq!(found(&lines), [("P2 lost", 1)]);
}

#[test]
fn the_later_of_two_last_words_must_stand_when_they_are_far_apart() {
    let lines = CLEAN.replace("Ada3\"}}\n{\"what\":\"acc", "Ada2\"}}\n{\"what\":\"acc");
    let lines = lines.replace(
        r#"stands","system":"hubspot","id":"7","fields":{"firstname":"Ada3"}"#,
        r#"stands","system":"hubspot","id":"7","fields":{"firstname":"Ada2"}"#,
    );
    assert_eq!(found(&lines), [], "the last word of Salesforce");
    assert_eq!(found(&format!("{lines}{{\"what\":\"apart\",\"us\":20}}")), []);
    assert_eq!(found(&format!("{lines}{{\"what\":\"apart\",\"us\":19}}")), [("P2 lost", 1)]);
}

#[test]
fn a_write_after_all_was_quiet_is_a_loop() {
    assert_eq!(found(&CLEAN.replace(r#""quiet","at":70"#, r#""quiet","at":55"#)), [("P6 looping", 1)]);
}

#[test]
fn an_unbalanced_accounting_is_found() {
    let books = |text: &str| found(&CLEAN.replace(r#""open":0,"held":0,"difference":0"#, text));
    assert_eq!(books(r#""open":0,"held":0,"difference":1"#), [("P2 books", 1)]);
    assert_eq!(books(r#""open":1,"held":0,"difference":0"#), [("P2 books", 1)]);
    assert_eq!(books(r#""open":1,"held":1,"difference":0"#), [("P2 books", 1)], "no question is open");
    assert_eq!(found(&without("accounting")), [("P2 books", 1)]);
}

#[test]
fn an_edit_overwritten_unseen_needs_a_decision() {
    // A person's value in Salesforce is replaced before HubSpot had it.
    let lines = r#"
{"what":"edit","at":52,"system":"salesforce","id":"003A","field":"FirstName","value":"Ada9","new":false}
"#;
    let lines = format!("{}{lines}", CLEAN.replace(r#""old":"Ada2","new":"Ada3""#, r#""old":"Ada9","new":"Ada3""#));
    assert_eq!(found(&lines), [("silent", 1)]);
    let decided = r#"{"what":"decision","ids":["7","003A"],"field":"firstname","values":["Ada9","Ada3"]}"#;
    assert_eq!(found(&format!("{lines}{decided}")), []);
    let other = decided.replace("Ada9", "Ada1");
    assert_eq!(found(&format!("{lines}{other}")), [("silent", 1)], "a decision about another edit");
    let carried =
        r#"{"what":"write","at":90,"system":"hubspot","id":"7","field":"firstname","old":"Ada3","new":"Ada9"}"#;
    let kinds = found(&format!("{lines}{carried}"));
    assert!(!kinds.iter().any(|(kind, _)| *kind == "silent"), "the other one had it after all: {kinds:?}");
}

#[test]
fn half_a_log_is_not_judged() {
    assert_eq!(judge("{}").unwrap_err().to_string(), "line 1 of the log: \"what\" is missing");
    assert!(judge(&CLEAN[..CLEAN.len() - 5]).is_err());
}
