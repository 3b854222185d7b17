//! Which partitions of the stream each of several relays reads. Pure: who works and who reads what come in, what one of
//! them gives up and may take comes out.
//!
//! Everybody decides for itself by one rule from the same rows: all read as many, the oldest ones more where it does not
//! come out even. Whoever reads too many gives some up, whoever reads too few takes what nobody reads. So nothing moves
//! that need not, nothing is taken from whoever reads it, and when everybody has looked twice all is divided. The
//! surprising thing: it does no harm if two are wrong about each other, because the state gives a partition to the first.

use std::collections::BTreeMap;

/// Who works on a state, and who reads what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Crew {
    /// The workers whose leases hold, oldest first.
    pub workers: Vec<u64>,
    /// Who read a partition last; a worker that is no more reads nothing.
    pub readers: BTreeMap<u32, u64>,
}

/// What a worker is to do about the partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// What it gives up.
    pub give: Vec<u32>,
    /// What it takes, if nobody is faster.
    pub take: Vec<u32>,
}

impl Crew {
    /// The moves of one of the workers, of so many partitions. None for a worker that is no more.
    pub fn moves(&self, worker: u64, partitions: u32) -> Moves {
        let Some(place) = self.workers.iter().position(|w| *w == worker) else { return Moves::default() };
        let (place, workers) = (u32::try_from(place).unwrap_or(u32::MAX), u32::try_from(self.workers.len()));
        let workers = workers.unwrap_or(u32::MAX).max(1);
        let quota = partitions / workers + u32::from(place < partitions % workers);
        let quota = usize::try_from(quota).unwrap_or(usize::MAX);
        let mine: Vec<u32> = (0..partitions).filter(|p| self.readers.get(p) == Some(&worker)).collect();
        if mine.len() >= quota {
            return Moves { give: mine[quota..].to_vec(), take: Vec::new() };
        }
        let is_free = |p: &u32| self.readers.get(p).is_none_or(|reader| !self.workers.contains(reader));
        // Each begins elsewhere, so that those who look at the same moment seldom want the same.
        let begin = u32::try_from(u64::from(place) * u64::from(partitions) / u64::from(workers)).unwrap_or(0);
        let take = (begin..partitions).chain(0..begin).filter(is_free).take(quota - mine.len());
        Moves { give: Vec::new(), take: take.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets everybody look in turn until nobody moves; counts the partitions that were taken.
    fn settle(crew: &mut Crew, partitions: u32) -> usize {
        let mut taken = 0;
        for _ in 0..2 {
            for worker in crew.workers.clone() {
                let Moves { give, take } = crew.moves(worker, partitions);
                give.iter().for_each(|p| {
                    crew.readers.remove(p);
                });
                taken += take.len();
                crew.readers.extend(take.iter().map(|p| (*p, worker)));
            }
        }
        assert!(crew.workers.iter().all(|w| crew.moves(*w, partitions) == Moves::default()), "nobody moves any more");
        taken
    }

    fn reads(crew: &Crew, worker: u64) -> usize {
        crew.readers.values().filter(|reader| **reader == worker).count()
    }

    #[test]
    fn all_is_divided_and_nothing_moves_that_need_not() {
        let mut crew = Crew { workers: vec![3], ..Crew::default() };
        assert_eq!((settle(&mut crew, 24), reads(&crew, 3)), (24, 24));
        crew.workers = vec![3, 5];
        assert_eq!((settle(&mut crew, 24), reads(&crew, 3), reads(&crew, 5)), (12, 12, 12));
        crew.workers = vec![3, 5, 6, 9, 10];
        assert_eq!((settle(&mut crew, 24), [3, 5, 6, 9, 10].map(|w| reads(&crew, w))), (14, [5, 5, 5, 5, 4]));
        // The first is gone: the others get what it read, and keep what they have.
        crew.workers = vec![5, 6, 9, 10];
        assert_eq!((settle(&mut crew, 24), [5, 6, 9, 10].map(|w| reads(&crew, w))), (5, [6, 6, 6, 6]));
    }

    #[test]
    fn with_more_workers_than_partitions_the_youngest_read_nothing() {
        let mut crew = Crew { workers: vec![1, 2, 3], ..Crew::default() };
        settle(&mut crew, 2);
        assert_eq!([1, 2, 3].map(|worker| reads(&crew, worker)), [1, 1, 0]);
    }

    #[test]
    fn whoever_works_no_more_moves_nothing_and_has_nothing() {
        let crew = Crew { workers: vec![4], readers: BTreeMap::from([(0, 2), (1, 4)]) };
        assert_eq!(crew.moves(2, 2), Moves::default());
        assert_eq!(crew.moves(4, 2), Moves { give: vec![], take: vec![0] });
    }
}
