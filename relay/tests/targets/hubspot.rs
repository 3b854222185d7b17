//! HubSpot: the requests that are made, and what is made of the answers.

use headgate_relay::target::{By, Disposition, ReadItem};
use headgate_schemas::{ObjectType, System, Timestamp, Value};

use crate::contract::assert_fits;
use crate::server::{Answer, Server, names, ok, read};

const FOUND: &str = r#"{"status":"COMPLETE","results":[{"id":"101","createdAt":"2026-01-01T00:00:00.000Z",
    "updatedAt":"2026-01-01T11:59:58.250Z","archived":false,"properties":{"email":"a@example.com","phone":null}}],
    "startedAt":"2026-01-01T12:00:00.000Z","completedAt":"2026-01-01T12:00:00.010Z"}"#;

#[tokio::test]
async fn a_read_by_native_id_is_one_dated_batch_call() {
    let server = Server::start(|_| ok(FOUND)).await;
    let call = read(By::NativeId, &["101", "102"], &["email", "phone"]);
    let answered = server.target(System::Hubspot, "2026-09").read(&call).await.unwrap();
    assert_eq!(
        server.request().literal(),
        concat!(
            "POST /crm/objects/2026-09/contacts/batch/read\n",
            "accept: application/json\n",
            "authorization: Bearer test-token\n",
            "content-type: application/json\n",
            "user-agent: headgate/0.1.0\n",
            r#"{"inputs":[{"id":"101"},{"id":"102"}],"properties":["email","phone","relay_id","hs_merged_object_ids"]}"#
        )
    );
    assert_fits(System::Hubspot, &server.request());
    let [ReadItem::Found(found), ReadItem::Missing { .. }] = &answered.items[..] else {
        panic!("{:?}", answered.items)
    };
    assert_eq!(found.values["email"], Value::text("a@example.com"));
    assert_eq!(found.values["phone"], Value::Null);
    assert_eq!(found.version.at, "2026-01-01T11:59:58.250Z".parse::<Timestamp>().unwrap());
    assert_eq!(answered.date, Some("2026-01-01T12:00:00Z".parse().unwrap()));
}

#[tokio::test]
async fn a_read_by_external_id_names_the_property() {
    let server = Server::start(|_| ok(r#"{"status":"COMPLETE","results":[]}"#)).await;
    let call = read(By::ExternalId, &["0190a0b0-0000-7000-8000-00000000000a"], &["email"]);
    let answered = server.target(System::Hubspot, "v3").read(&call).await.unwrap();
    assert_eq!(server.request().path, "/crm/v3/objects/contacts/batch/read");
    assert_eq!(
        server.request().body,
        r#"{"idProperty":"relay_id","inputs":[{"id":"0190a0b0-0000-7000-8000-00000000000a"}],"properties":["email","relay_id"]}"#
    );
    assert_fits(System::Hubspot, &server.request());
    assert!(matches!(answered.items[..], [ReadItem::Missing { .. }]));
}

#[tokio::test]
async fn a_full_pack_fits_the_contract_and_an_empty_one_makes_no_call() {
    let server = Server::start(|_| ok(r#"{"status":"COMPLETE","results":[]}"#)).await;
    let target = server.target(System::Hubspot, "2026-03");
    let ids: Vec<String> = (0..target.pack().read).map(|i| i.to_string()).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    target.read(&read(By::NativeId, &[], &["email"])).await.unwrap();
    let answered = target.read(&read(By::NativeId, &ids, &["email"])).await.unwrap();
    assert_eq!(answered.items.len(), 100);
    assert_eq!(server.request().path, "/crm/objects/2026-03/contacts/batch/read");
    assert_fits(System::Hubspot, &server.request());
}

#[tokio::test]
async fn an_unfinished_batch_makes_nothing_look_missing() {
    let server = Server::start(|_| ok(r#"{"status":"PENDING","results":[]}"#)).await;
    let error = server.target(System::Hubspot, "2026-09").read(&read(By::NativeId, &["1"], &[])).await.unwrap_err();
    assert_eq!((error.code.as_str(), error.disposition), ("unfinished_batch", Disposition::Retry));
}

#[tokio::test]
async fn fields_are_described_with_what_may_be_set() {
    const PROPERTIES: &str = r#"{"results":[
        {"name":"email","label":"Email","type":"string","fieldType":"text","modificationMetadata":{"readOnlyValue":false}},
        {"name":"createdate","label":"Created","type":"datetime","fieldType":"date","modificationMetadata":{"readOnlyValue":true}},
        {"name":"city","label":"City","type":"string","fieldType":"text"}]}"#;
    let server = Server::start(|request| match request.path.as_str() {
        "/crm/v3/properties/companies" => ok(PROPERTIES),
        _ => Answer::Json(404, Vec::new(), r#"{"category":"OBJECT_NOT_FOUND","message":"m"}"#.to_owned()),
    })
    .await;
    let target = server.target(System::Hubspot, "2026-09");
    let fields = target.describe(&ObjectType::COMPANY).await.unwrap().unwrap();
    let settable: Vec<_> = fields.iter().map(|f| (&*f.name, f.createable, f.updateable)).collect();
    assert_eq!(settable, [("email", true, true), ("createdate", false, false), ("city", true, true)]);
    assert_eq!(target.describe(&ObjectType::DEAL).await.unwrap(), None);
    for request in server.requests() {
        assert_fits(System::Hubspot, &request);
    }
}

#[tokio::test]
async fn it_knows_its_types() {
    let server = Server::start(|_| Answer::Cut).await;
    let target = server.target(System::Hubspot, "2026-09");
    let mut call = read(By::NativeId, &["1"], &[]);
    call.object = ObjectType::new("spaceship");
    call.fields = names(&["email"]);
    assert_eq!(target.read(&call).await.unwrap_err().code, "unsupported_object");
    assert_eq!(server.requests().len(), 0);
}
