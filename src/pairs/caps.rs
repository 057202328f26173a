//! How many rows a principle may leave in a day.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: u64 = 24 * 60 * 60;

/// What each principle of each policy left today (UTC), counted from the start of the process.
#[derive(Debug, Default)]
pub(in crate::pairs) struct Caps {
    counted: Mutex<HashMap<(String, String), (u64, u32)>>,
}

impl Caps {
    /// Takes one of the day's places, if there is one left.
    pub(in crate::pairs) fn admit(&self, policy: &str, principle: &str, cap: u32, now: SystemTime) -> bool {
        let today = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs() / DAY;
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let (day, rows) = counted.entry((policy.to_owned(), principle.to_owned())).or_insert((today, 0));
        if *day != today {
            (*day, *rows) = (today, 0);
        }
        if *rows >= cap {
            return false;
        }
        *rows += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_principle_has_its_places_each_day() {
        let caps = Caps::default();
        let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(seconds);
        let take = |policy: &str, principle: &str, seconds: u64| caps.admit(policy, principle, 2, at(seconds));
        assert!(take("p", "kind", 10) && take("p", "kind", DAY - 1));
        assert!(!take("p", "kind", DAY - 1));
        assert!(take("p", "honest", DAY - 1) && take("q", "kind", DAY - 1));
        assert!(take("p", "kind", DAY) && take("p", "kind", DAY) && !take("p", "kind", DAY + 5));
        assert!(!caps.admit("p", "none", 0, at(0)));
    }
}
