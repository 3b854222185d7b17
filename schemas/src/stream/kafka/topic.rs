//! Making the topic, and looking at what it is. Used by people's commands, never by what runs.

use std::sync::Arc;

use headgate_librdkafka::give_token;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::probe::{ASK, Probe};
use super::settings::{Context, KafkaConfig, Sasl};
use super::{Kafka, OpenError};

/// A setting of the topic that is not what the configuration asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deviation {
    /// The topic's setting, by Kafka's name for it.
    pub setting: &'static str,
    /// What it is.
    pub found: String,
    /// What it should be.
    pub wanted: String,
    /// Changes would be refused or lost; otherwise there is only less safety than asked for.
    pub grave: bool,
}

impl Kafka {
    /// Makes the topic where it is missing, with its partitions, replicas and retention. True when it was made.
    ///
    /// # Errors
    /// [`OpenError`]; an existing topic with another number of partitions is one.
    pub async fn ensure(config: &KafkaConfig) -> Result<bool, OpenError> {
        match has_partitions(config).await {
            Err(OpenError::Missing { .. }) => {}
            found => return found.map(|()| false),
        }
        let admin = admin(config)?;
        let retention = config.retention.as_millis().to_string();
        let in_sync = config.min_in_sync.to_string();
        let largest = request_bytes(config).to_string();
        let wanted = NewTopic::new(
            &config.topic,
            i32::try_from(config.partitions).unwrap_or(i32::MAX),
            TopicReplication::Fixed(config.replication),
        )
        .set("retention.ms", &retention)
        .set("min.insync.replicas", &in_sync)
        .set("max.message.bytes", &largest)
        .set("cleanup.policy", "delete");
        let not_made = |reason: String| OpenError::NotMade { topic: config.topic.clone(), reason };
        let results = admin.create_topics([&wanted], &options()).await.map_err(|error| not_made(error.to_string()))?;
        match results.into_iter().next() {
            Some(Ok(_)) => Ok(true),
            // Somebody else was faster.
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => has_partitions(config).await.map(|()| false),
            Some(Err((_, code))) => Err(not_made(code.to_string())),
            None => Err(not_made("the cluster gave no answer".to_owned())),
        }
    }

    /// Compares the topic's settings with the configuration.
    ///
    /// # Errors
    /// [`OpenError`] when the topic is not there, has another number of partitions, or may not be looked at.
    pub async fn inspect(config: &KafkaConfig) -> Result<Vec<Deviation>, OpenError> {
        has_partitions(config).await?;
        let asked = [ResourceSpecifier::Topic(&config.topic)];
        let hidden = |reason: String| OpenError::Hidden { topic: config.topic.clone(), reason };
        let described = admin(config)?.describe_configs(&asked, &options()).await;
        match described.map_err(|error| hidden(error.to_string()))?.into_iter().next() {
            Some(Ok(found)) => Ok(compare(config, &found)),
            Some(Err(code)) => Err(hidden(code.to_string())),
            None => Err(OpenError::Missing { topic: config.topic.clone() }),
        }
    }
}

/// The largest request of one record: its own bytes, and what Kafka writes around them.
const fn request_bytes(config: &KafkaConfig) -> usize {
    config.max_record_bytes + (64 << 10)
}

fn compare(config: &KafkaConfig, found: &ConfigResource) -> Vec<Deviation> {
    let value = |name: &str| found.get(name).and_then(|entry| entry.value.clone()).unwrap_or_default();
    let number = |name: &str| value(name).parse::<i128>().ok();
    let mut deviations = Vec::new();
    let mut expect = |setting: &'static str, fits: bool, wanted: String, grave: bool| {
        if !fits {
            deviations.push(Deviation { setting, found: value(setting), wanted, grave });
        }
    };
    expect("cleanup.policy", value("cleanup.policy") == "delete", "delete".to_owned(), true);
    let bytes = i128::try_from(request_bytes(config)).unwrap_or(i128::MAX);
    expect("max.message.bytes", number("max.message.bytes") >= Some(bytes), format!("at least {bytes}"), true);
    let retention = i128::try_from(config.retention.as_millis()).unwrap_or(i128::MAX);
    // A negative one keeps for ever.
    let kept = number("retention.ms").is_some_and(|ms| ms < 0 || ms >= retention);
    expect("retention.ms", kept, format!("at least {retention}"), false);
    let in_sync = i128::from(config.min_in_sync);
    let safe = number("min.insync.replicas") >= Some(in_sync);
    expect("min.insync.replicas", safe, format!("at least {in_sync}"), false);
    deviations
}

/// Fails unless the topic is there and has the partitions of the configuration.
pub(super) async fn has_partitions(config: &KafkaConfig) -> Result<(), OpenError> {
    let asked = Arc::new(config.clone());
    let found = tokio::task::spawn_blocking(move || {
        let probe = Probe::new(&asked).map_err(OpenError::Settings)?;
        probe.partitions().map_err(|error| probe.unreachable(error))
    });
    config.fits(found.await.unwrap_or_else(|_| Err(OpenError::Settings(KafkaError::Canceled)))?)
}

pub(super) fn admin(config: &KafkaConfig) -> Result<AdminClient<Context>, OpenError> {
    let context = config.context();
    let admin: AdminClient<Context> =
        config.client().create_with_context(context.clone()).map_err(OpenError::Settings)?;
    if matches!(config.security.sasl, Some(Sasl::OauthBearer(_))) {
        let login = |reason: String| OpenError::Login { brokers: config.brokers.clone(), reason };
        // Nobody serves this client, so it could not ask for one. It is at hand: the question before needed it, too.
        let token = context.oauth_token().map_err(|error| login(error.to_string()))?;
        give_token(admin.inner(), token).map_err(|error| login(error.to_string()))?;
    }
    Ok(admin)
}

pub(super) fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(ASK)).operation_timeout(Some(ASK))
}
