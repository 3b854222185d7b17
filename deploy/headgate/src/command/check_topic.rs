//! The part of `headgate check --online` that looks at a Kafka topic: makes it where it is missing, and compares what is
//! there with what is asked for. It changes nothing of a topic that exists: that is for whoever owns the cluster.

use headgate_schemas::stream::kafka::{Control, Deviation, Kafka, KafkaConfig, OpenError};

use super::check::{Level, Line};
use crate::control::TOPIC;
use crate::exit::Exit;
use crate::stream::refused;

/// The lines about the topic, and the exit code they ask for.
pub(super) async fn look(config: &KafkaConfig) -> (Vec<Line>, Exit) {
    let about = format!("stream.topic[{}]", config.topic);
    let made = match Kafka::ensure(config).await {
        Ok(made) => made,
        Err(error) => return unusable(about, &error),
    };
    let deviations = match Kafka::inspect(config).await {
        Ok(deviations) => deviations,
        Err(error) => return unusable(about, &error),
    };
    let state = if made { "was made" } else { "is there" };
    let mut lines =
        vec![Line::ok(about.clone(), format!("{state}, {} partitions at {}", config.partitions, config.brokers))];
    lines.extend(deviations.iter().map(|deviation| line(&about, &config.topic, deviation)));
    let shared = format!("stream.topic[{TOPIC}]");
    match Control::ensure(config, TOPIC).await {
        Ok(made) => lines.push(Line::ok(shared, if made { "was made" } else { "is there" }.to_owned())),
        Err(error) => {
            let (more, exit) = unusable(shared, &error);
            lines.extend(more);
            return (lines, exit);
        }
    }
    let grave = deviations.iter().any(|deviation| deviation.grave);
    (lines, if grave { Exit::Configuration } else { Exit::Ok })
}

fn line(about: &str, topic: &str, deviation: &Deviation) -> Line {
    let Deviation { setting, found, wanted, grave } = deviation;
    Line {
        level: if *grave { Level::Fail } else { Level::Warn },
        about: about.to_owned(),
        found: format!("{setting} is {found:?} and should be {wanted}"),
        fix: Some(format!("set {setting} of topic {topic} in the cluster, or change [stream]")),
    }
}

fn unusable(about: String, error: &OpenError) -> (Vec<Line>, Exit) {
    let fix = match error {
        OpenError::Unreachable { .. } => "check brokers, the network, and whether the brokers want TLS: [stream.tls]",
        OpenError::Login { .. } => "check mechanism, user and password, or where tokens come from, in [stream.sasl]",
        OpenError::Tls { .. } => "name the authority of the brokers' certificate in ca_file of [stream.tls]",
        OpenError::Settings(_) => "check [stream]",
        OpenError::Missing { .. } | OpenError::NotMade { .. } => "ask whoever runs the cluster to make it",
        OpenError::Hidden { .. } => "allow this user to describe the topic",
        OpenError::Partitions { .. } => "set stream.partitions to what the topic has, or drain it and make a new one",
    };
    let line = Line { level: Level::Fail, about, found: error.to_string(), fix: Some(fix.to_owned()) };
    (vec![line], refused(error).exit)
}
