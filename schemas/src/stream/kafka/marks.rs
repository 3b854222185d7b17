//! Whether the log is still the one that was read: the last records read, by a hash, against what stands at their place.
//!
//! Kafka gives a topic that was deleted and made again the same name and offsets from 0 on; librdkafka reads on in it
//! without a word once it has grown past the reader. The surprising thing: the *older* marks are compared, those of the
//! last comparison or, before the first, of the first records read, because the newest may have been read from the new
//! topic already.

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
        let mark = (record.offset, print(record));
        self.newest.insert(record.partition, mark);
        self.older.entry(record.partition).or_insert(mark);
    }

    /// False when another record, or none, stands where one was read. One that retention has dropped says nothing.
    /// Blocks for some seconds at most; fails when the cluster cannot be asked.
    pub(super) fn hold(&mut self, probe: &Probe, config: &KafkaConfig) -> Result<bool, StreamError> {
        let bounds = probe.bounds()?;
        let mut wanted = BTreeMap::new();
        for (partition, (offset, print)) in &self.older {
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::Timestamp;
    use crate::stream::Record;

    #[test]
    fn before_the_first_comparison_the_first_record_of_each_partition_is_what_is_compared() {
        let mut marks = Marks::default();
        let mut prints = Vec::new();
        for (partition, offset) in [(0, 7), (1, 0), (0, 8), (0, 9)] {
            let record = Record {
                key: "acme/hubspot/5550123/contact/1".to_owned(),
                headers: Vec::new(),
                body: Bytes::from(offset.to_string()),
                at: Timestamp::from_micros(1),
            };
            let delivered = Delivered { partition, offset, record };
            prints.push(print(&delivered));
            marks.read(&delivered);
        }
        assert_eq!(marks.older, BTreeMap::from([(0, (7, prints[0])), (1, (0, prints[1]))]));
        assert_eq!(marks.newest, BTreeMap::from([(0, (9, prints[3])), (1, (0, prints[1]))]));
    }
}
