//! What librdkafka can do, this project needs, and the `rdkafka` crate does not wrap: to tell the id that a cluster gave a
//! topic when it was made, and to give a token to a client that nobody serves.
//!
//! It must not know what topic or token are for. The surprising thing is that this is a crate: no other code of this
//! workspace may be `unsafe`. Each call below is on an object that the function made, or was given, and that lives until
//! it returns.

use std::ffi::{CString, c_int};
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::bindings as c;
use rdkafka::client::{Client, OAuthToken};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// An object of librdkafka and what destroys it.
struct Owned<T> {
    object: NonNull<T>,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    fn new(object: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Option<Self> {
        NonNull::new(object).map(|object| Self { object, destroy })
    }

    const fn get(&self) -> *mut T {
        self.object.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: the object was made by the function that `destroy` belongs to, and is dropped once.
        unsafe { (self.destroy)(self.get()) }
    }
}

/// Gives a client the token it logs in with. For clients whose events are not served, as those of the admin interface:
/// others ask for one by themselves.
///
/// # Errors
/// When the token is not one, or the client logs in in another way.
pub fn give_token<C: ClientContext>(client: &Client<C>, token: OAuthToken) -> Result<(), KafkaError> {
    let refused = || KafkaError::AdminOp(RDKafkaErrorCode::InvalidArgument);
    let value = CString::new(token.token).map_err(|_| refused())?;
    let principal = CString::new(token.principal_name).map_err(|_| refused())?;
    // SAFETY: the client outlives this function; both texts end in a zero and are copied; there are no extensions, and no
    // text of an error is asked for.
    let given = unsafe {
        c::rd_kafka_oauthbearer_set_token(
            client.native_ptr(),
            value.as_ptr(),
            token.lifetime_ms,
            principal.as_ptr(),
            ptr::null_mut(),
            0,
            ptr::null_mut(),
            0,
        )
    };
    succeeded(given.into())
}

/// The id of `topic`, as 32 hexadecimal digits, all of them 0 where the brokers give topics no ids. `None` while there is
/// no such topic. Blocks for `longest` at most.
///
/// # Errors
/// When the cluster does not answer, or does not let us look.
pub fn topic_id<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    longest: Duration,
) -> Result<Option<String>, KafkaError> {
    let Some(event) = describe(client, topic, longest)? else {
        return Err(KafkaError::AdminOp(RDKafkaErrorCode::OperationTimedOut));
    };
    // SAFETY: the event is alive.
    let failed = unsafe { c::rd_kafka_event_error(event.get()) };
    succeeded(failed.into())?;
    // SAFETY: the event is alive; for one of another kind the answer is null.
    let result = unsafe { c::rd_kafka_event_DescribeTopics_result(event.get()) };
    if result.is_null() {
        return Err(KafkaError::AdminOp(RDKafkaErrorCode::BadMessage));
    }
    let mut count = 0;
    // SAFETY: the result belongs to the event, which is alive; `count` is told how many topics stand in the array.
    let topics = unsafe { c::rd_kafka_DescribeTopics_result_topics(result, &raw mut count) };
    if topics.is_null() || count != 1 {
        return Err(KafkaError::AdminOp(RDKafkaErrorCode::BadMessage));
    }
    // SAFETY: the array holds one pointer, as was just seen, and belongs to the event.
    let described = unsafe { *topics };
    // SAFETY: the description belongs to the event.
    let error = unsafe { c::rd_kafka_TopicDescription_error(described) };
    // SAFETY: the error belongs to the event; null means that there is none.
    let code: RDKafkaErrorCode = unsafe { c::rd_kafka_error_code(error) }.into();
    if matches!(code, RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) {
        return Ok(None);
    }
    succeeded(code)?;
    // SAFETY: the description belongs to the event.
    let id = unsafe { c::rd_kafka_TopicDescription_topic_id(described) };
    if id.is_null() {
        return Ok(None);
    }
    // SAFETY: the id belongs to the event.
    let most = unsafe { c::rd_kafka_Uuid_most_significant_bits(id) };
    // SAFETY: the same.
    let least = unsafe { c::rd_kafka_Uuid_least_significant_bits(id) };
    Ok(Some(format!("{most:016x}{least:016x}")))
}

/// Asks, and waits for the answer. `None` when it does not come in time.
fn describe<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    longest: Duration,
) -> Result<Option<Owned<c::rd_kafka_event_t>>, KafkaError> {
    let refused = || KafkaError::AdminOp(RDKafkaErrorCode::InvalidArgument);
    let name = CString::new(topic).map_err(|_| refused())?;
    let longest = c_int::try_from(longest.as_millis()).unwrap_or(c_int::MAX);
    let operation = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    // SAFETY: the client outlives this function.
    let options = unsafe { c::rd_kafka_AdminOptions_new(client.native_ptr(), operation) };
    let options = Owned::new(options, c::rd_kafka_AdminOptions_destroy).ok_or_else(refused)?;
    // SAFETY: the options are alive, and no text of an error is asked for.
    let set =
        unsafe { c::rd_kafka_AdminOptions_set_request_timeout(options.get(), longest.max(1), ptr::null_mut(), 0) };
    succeeded(set.into())?;
    let mut names = [name.as_ptr()];
    // SAFETY: the array holds one name, which ends in a zero; both are copied.
    let topics = unsafe { c::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len()) };
    let topics = Owned::new(topics, c::rd_kafka_TopicCollection_destroy).ok_or_else(refused)?;
    // SAFETY: the client outlives this function.
    let queue = unsafe { c::rd_kafka_queue_new(client.native_ptr()) };
    let queue = Owned::new(queue, c::rd_kafka_queue_destroy).ok_or_else(refused)?;
    // SAFETY: all four are alive. What the client still needs of them it copies or counts for itself.
    unsafe { c::rd_kafka_DescribeTopics(client.native_ptr(), topics.get(), options.get(), queue.get()) };
    // SAFETY: the queue is alive. An answer that comes later finds it gone and is dropped by the client.
    let event = unsafe { c::rd_kafka_queue_poll(queue.get(), longest) };
    Ok(Owned::new(event, c::rd_kafka_event_destroy))
}

fn succeeded(code: RDKafkaErrorCode) -> Result<(), KafkaError> {
    if code == RDKafkaErrorCode::NoError { Ok(()) } else { Err(KafkaError::AdminOp(code)) }
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;
    use rdkafka::consumer::{BaseConsumer, Consumer as _};

    use super::*;

    #[test]
    fn a_token_is_for_clients_that_log_in_by_one() {
        let token = |value: &str| OAuthToken {
            token: value.to_owned(),
            principal_name: "headgate".to_owned(),
            lifetime_ms: 4_102_444_800_000,
        };
        let mut config = ClientConfig::new();
        let open: BaseConsumer = config.create().unwrap();
        assert!(give_token(open.client(), token("head.claims.")).is_err(), "it has no login");
        config.set("security.protocol", "sasl_plaintext").set("sasl.mechanism", "OAUTHBEARER");
        let login: BaseConsumer = config.create().unwrap();
        assert!(give_token(login.client(), token("no\0token")).is_err());
        give_token(login.client(), token("head.claims.")).unwrap();
    }

    #[test]
    fn a_cluster_that_does_not_answer_is_an_error_in_time() {
        // Taken and let go: nobody listens there now.
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).unwrap().port();
        let broker = format!("127.0.0.1:{port}");
        let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", broker).create().unwrap();
        let asked = topic_id(consumer.client(), "changes", Duration::from_millis(300));
        assert!(matches!(asked, Err(KafkaError::AdminOp(_))), "{asked:?}");
        let asked = topic_id(consumer.client(), "no\0name", Duration::from_millis(300));
        assert!(matches!(asked, Err(KafkaError::AdminOp(RDKafkaErrorCode::InvalidArgument))), "{asked:?}");
    }
}
