//! Whether the log is still the one that was read: the last records read, by a hash, against what stands at their place.
//!
//! Kafka gives a topic that was deleted and made again the same name and offsets from 0 on; librdkafka reads on in it
//! without a word once it has grown past the reader. The surprising thing: the *older* marks are compared, those of the
//! last comparison, because the newest may have been read from the new topic already.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};

use super::consumer::delivered;
use super::probe::{Probe, unavailable};
use super::settings::{Context, KafkaConfig};
use crate::stream::{Delivered, StreamError};

/// How long the records may take to come.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two looks for one of them.
const POLL: Duration = Duration::from_millis(50);

/// The last record read of each partition: its offset and a hash of it.
#[derive(Debug, Default)]
pub(super) struct Marks {
    newest: BTreeMap<u32, (u64, u64)>,
    older: BTreeMap<u32, (u64, u64)>,
}

impl Marks {
    /// A record was read.
    pub(super) fn read(&mut self, record: &Delivered) {
        self.newest.insert(record.partition, (record.offset, print(record)));
    }

    /// False when another record, or none, stands where one was read. One that retention has dropped says nothing.
    /// Blocks for some seconds at most; fails when the cluster cannot be asked.
    pub(super) fn hold(&mut self, probe: &Probe, config: &KafkaConfig) -> Result<bool, StreamError> {
        let marks = if self.older.is_empty() { &self.newest } else { &self.older };
        let bounds = probe.bounds()?;
        let mut wanted = BTreeMap::new();
        for (partition, (offset, print)) in marks {
            let Some((start, end)) = bounds.get(*partition as usize) else { return Ok(false) };
            if *offset >= end.offset {
                return Ok(false);
            }
            if *offset >= start.offset {
                wanted.insert(*partition, (*offset, *print));
            }
        }
        let held = compare(config, wanted)?;
        if held {
            self.older = self.newest.clone();
        }
        Ok(held)
    }
}

/// Reads the records at the places in `wanted`. What does not come in time is left for the next comparison.
fn compare(config: &KafkaConfig, mut wanted: BTreeMap<u32, (u64, u64)>) -> Result<bool, StreamError> {
    if wanted.is_empty() {
        return Ok(true);
    }
    let reader: BaseConsumer<Context> =
        config.consumer().set("queued.min.messages", "1").create_with_context(config.context()).map_err(unavailable)?;
    let mut list = TopicPartitionList::with_capacity(wanted.len());
    for (partition, (offset, _)) in &wanted {
        let partition = i32::try_from(*partition).unwrap_or(i32::MAX);
        let offset = Offset::Offset(i64::try_from(*offset).unwrap_or(i64::MAX));
        list.add_partition_offset(&config.topic, partition, offset).map_err(unavailable)?;
    }
    reader.assign(&list).map_err(unavailable)?;
    let since = Instant::now();
    while !wanted.is_empty() && since.elapsed() < PATIENCE {
        let Some(Ok(message)) = reader.poll(POLL) else { continue };
        let record = delivered(&message);
        if let Some((offset, expected)) = wanted.remove(&record.partition)
            && (record.offset != offset || print(&record) != expected)
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The same for the same record, within this process.
fn print(record: &Delivered) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&record.record.key, record.record.at.micros(), &record.record.body).hash(&mut hasher);
    hasher.finish()
}
