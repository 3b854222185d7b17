//! Who sends what is not worth reading: bodies that are huge, deep or endless, and calls with wrong signatures.
//!
//! The surprising thing: some bombs carry a valid signature. Whoever holds a secret, or found one, must not be able to
//! hurt more than itself.

use std::sync::Arc;
use std::time::Duration;

use super::super::call::{Calls, FORGED, hubspot_head, salesforce_head};
use super::super::wire::Line;
use super::{Target, WRONG, repeat, stranger};

/// Forty bombs a second from all attackers.
const BOMB_EVERY: Duration = Duration::from_millis(100);
/// Senders of wrong signatures, each at an address of its own, or the first thousand would end the attack.
pub(super) const FORGERS: u64 = 250;

/// The bombs, made once.
pub(super) fn bombs(calls: &Calls) -> Vec<Vec<u8>> {
    const MIB: usize = 1 << 20;
    let whole = |head: String, body: Vec<u8>| {
        [format!("{head}Content-Length: {}\r\n\r\n", body.len()).into_bytes(), body].concat()
    };
    let envelope = |inner: &str| {
        let text = format!(
            "<E:Envelope xmlns:E='http://schemas.xmlsoap.org/soap/envelope/'><E:Body><notifications \
             xmlns='http://soap.sforce.com/2005/09/outbound'><OrganizationId>00D5g000000ABCDEA4</OrganizationId>\
             {inner}</notifications></E:Body></E:Envelope>"
        );
        whole(salesforce_head(), text.into_bytes())
    };
    let entities: String =
        (1..10).map(|n| format!("<!ENTITY e{n} '{}'>", format!("&e{};", n - 1).repeat(10))).collect();
    let billion = format!("<?xml version='1.0'?><!DOCTYPE b [<!ENTITY e0 'x'>{entities}]><b>&e9;</b>");
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x1_0000));
    vec![
        whole(hubspot_head(), vec![b'x'; 20 * MIB]),
        format!("{}Transfer-Encoding: chunked\r\n\r\n{}", hubspot_head(), chunk.repeat(200)).into_bytes(),
        format!("{}{}\r\n", hubspot_head(), "X-Many: b\r\n".repeat(20_000)).into_bytes(),
        whole(format!("{}Content-Encoding: gzip\r\n", hubspot_head()), vec![0x1f; 64 << 10]),
        calls.signed_body(&"[".repeat(MIB)),
        calls.signed_body(&format!("[{}]", "{},".repeat(MIB / 3))),
        calls.signed_body(&format!("[{{{}}}]", (0..60_000).map(|n| format!("\"k{n}\":1,")).collect::<String>())),
        calls.signed_body(&format!("[{{\"objectId\":{}}}]", "9".repeat(MIB))),
        whole(salesforce_head(), billion.into_bytes()),
        envelope(&"<y>".repeat(MIB)),
        envelope(&"<y/>".repeat(MIB)),
        envelope(&format!("<y>{}</y>", "&amp;".repeat(MIB / 2))),
        envelope(&format!("<y {}/>", (0..200_000).map(|n| format!("a{n}='' ")).collect::<String>())),
    ]
}

/// One bomb after the other.
pub(super) async fn bomb(n: u64, target: Target, bombs: Arc<Vec<Vec<u8>>>) {
    let (target, bombs) = (&target, &bombs);
    repeat(BOMB_EVERY, |round| async move {
        let Ok(mut line) = Line::open(target.address, stranger(n)).await else { return };
        let which = usize::try_from(round * 4 + n).unwrap_or(0) % bombs.len();
        target.told.heard(line.call_until_answered(&bombs[which]).await);
    })
    .await;
}

/// Its share of the wrong signatures, spread over the time of the attack.
pub(super) async fn wrong_signatures(n: u64, target: Target) {
    let share = u32::try_from(WRONG / FORGERS).unwrap_or(1);
    let every = target.time.mul_f64(0.9) / share;
    let mut line = None;
    let mut next = tokio::time::Instant::now();
    for round in 0..u64::from(share) {
        tokio::time::sleep_until(next).await;
        next += every;
        let mut open = match line.take() {
            Some(open) => open,
            None => match Line::open(target.address, stranger(n)).await {
                Ok(open) => open,
                Err(refused) => return target.told.heard(Err(refused)),
            },
        };
        let answer = open.call(&target.calls.forged(1, FORGED + n * 1_000_000 + round)).await;
        if answer.as_ref().is_ok_and(|answer| !answer.closes) {
            line = Some(open);
        }
        target.told.heard(answer);
    }
}
