//! Named places at which a process can be made to die, for tests that kill it at every step.
//!
//! Each process keeps one list of its places in the order of its steps and calls [`pass`] at each. Without the feature
//! `failpoints` that call is an empty function and no name reaches the program; with it, whoever starts the process may
//! [`arm`] one place: its nth passage ends the process. It must not know how a process ends: that is the program's to
//! say. The surprising thing: this is no dependency, because all that is needed is a counter, and the usual crate
//! brings its own random numbers and a registry that is locked at every passage.

#[cfg(feature = "failpoints")]
pub use armed::{Armed, arm};

/// A place that a process passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Failpoint(&'static str);

impl Failpoint {
    /// A place by its name, as `relay.before_commit`.
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

/// Passes a place; ends the process if it is armed and this is the passage it was armed for.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub const fn pass(_point: Failpoint) {}

/// Passes a place; ends the process if it is armed and this is the passage it was armed for.
#[cfg(feature = "failpoints")]
pub fn pass(point: Failpoint) {
    armed::pass(point);
}

#[cfg(feature = "failpoints")]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Failpoint;

    /// The place that is armed. One per process, because a process dies once.
    static ARMED: OnceLock<(Armed, AtomicU64)> = OnceLock::new();

    /// Where, when and how the process is to end.
    #[derive(Clone, Copy, Debug)]
    pub struct Armed {
        /// The place.
        pub point: Failpoint,
        /// The passage, counted from 1.
        pub nth: u64,
        /// Ends the process.
        pub die: fn(),
    }

    /// Arms one place for the life of the process. False when one is armed already.
    pub fn arm(armed: Armed) -> bool {
        ARMED.set((armed, AtomicU64::new(0))).is_ok()
    }

    pub(super) fn pass(point: Failpoint) {
        let Some((armed, passed)) = ARMED.get() else { return };
        if armed.point == point && passed.fetch_add(1, Ordering::Relaxed) + 1 == armed.nth {
            (armed.die)();
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        static DEATHS: AtomicU64 = AtomicU64::new(0);

        #[test]
        fn the_nth_passage_of_the_armed_place_ends_the_process_and_no_other() {
            let (here, there) = (Failpoint::new("here"), Failpoint::new("there"));
            let die = || {
                DEATHS.fetch_add(1, Ordering::Relaxed);
            };
            pass(here);
            assert!(arm(Armed { point: here, nth: 2, die }));
            assert!(!arm(Armed { point: there, nth: 1, die }), "one place per process");
            let deaths = || DEATHS.load(Ordering::Relaxed);
            for (point, expected) in [(there, 0), (here, 0), (there, 0), (here, 1), (here, 1)] {
                pass(point);
                assert_eq!(deaths(), expected);
            }
        }
    }
}
