//! How many rows a principle, a user and a client may leave in a day.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: u64 = 24 * 60 * 60;
/// Principles, users and clients that are counted in one day. Those beyond leave no rows where a cap holds for them:
/// whoever makes up users must not get past it.
const MOST: usize = 100_000;

/// The most rows in a day (UTC); no end where none is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Of one principle, or of a rule that has none.
    pub principle: Option<u32>,
    /// Of one user.
    pub user: Option<u32>,
    /// Of one tenant, or of one client's key where it is nobody's.
    pub client: Option<u32>,
}

/// A row that asks for its places in the day.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// The policy's name. Each policy counts for itself.
    pub policy: &'a str,
    /// The principle's id, or the rule's.
    pub principle: &'a str,
    /// The hashed user, if the request names one. Who is not named is not counted.
    pub user: Option<&'a str>,
    /// A hash of the tenant or key.
    pub client: u64,
    /// What the policy allows.
    pub limits: Limits,
}

/// Rows by kind of cap, and a hash of what it counts.
type Rows = HashMap<(&'static str, u64), u32>;

/// What was left today, counted from the start of the process.
#[derive(Debug, Default)]
pub(in crate::pairs) struct Caps {
    /// The day, and the rows in it.
    counted: Mutex<(u64, Rows)>,
}

impl Caps {
    /// Takes one of the day's places of each kind, or none; then it says of which kind there was none left.
    pub(in crate::pairs) fn admit(&self, claim: &Claim<'_>, now: SystemTime) -> Result<(), &'static str> {
        let today = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs() / DAY;
        let client = claim.client.to_le_bytes();
        let wanted = [
            ("principle", claim.limits.principle, Some(claim.principle.as_bytes())),
            ("user", claim.limits.user, claim.user.map(str::as_bytes)),
            ("client", claim.limits.client, Some(&client[..])),
        ];
        let wanted = wanted.into_iter().filter_map(|(kind, cap, what)| Some((kind, cap?, hash(claim.policy, what?))));
        let wanted: Vec<(&'static str, u32, u64)> = wanted.collect();
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.0 != today {
            *counted = (today, Rows::new());
        }
        for (kind, cap, what) in &wanted {
            let rows = counted.1.get(&(*kind, *what)).copied();
            if rows.unwrap_or_default() >= *cap || (rows.is_none() && counted.1.len() >= MOST) {
                return Err(kind);
            }
        }
        for (kind, _, what) in wanted {
            *counted.1.entry((kind, what)).or_default() += 1;
        }
        Ok(())
    }
}

fn hash(policy: &str, what: &[u8]) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key("wardline pairs caps v1");
    let mut eight = [0; 8];
    hasher.update(policy.as_bytes()).update(&[0]).update(what).finalize_xof().fill(&mut eight);
    u64::from_le_bytes(eight)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn claim<'a>(policy: &'a str, principle: &'a str, limits: Limits) -> Claim<'a> {
        Claim { policy, principle, user: None, client: 1, limits }
    }

    #[test]
    fn each_principle_has_its_places_each_day() {
        let caps = Caps::default();
        let limits = Limits { principle: Some(2), ..Limits::default() };
        let take = |policy: &str, principle: &str, seconds: u64| {
            caps.admit(&claim(policy, principle, limits), at(seconds)).is_ok()
        };
        assert!(take("p", "kind", 10) && take("p", "kind", DAY - 1));
        assert!(!take("p", "kind", DAY - 1));
        assert!(take("p", "honest", DAY - 1) && take("q", "kind", DAY - 1));
        assert!(take("p", "kind", DAY) && take("p", "kind", DAY) && !take("p", "kind", DAY + 5));
        let none = Limits { principle: Some(0), ..Limits::default() };
        assert_eq!(caps.admit(&claim("p", "none", none), at(0)), Err("principle"));
        assert_eq!(caps.admit(&claim("p", "kind", Limits::default()), at(DAY)), Ok(()));
    }

    #[test]
    fn users_and_clients_have_theirs_and_what_one_lacks_costs_no_other() {
        let caps = Caps::default();
        let limits = Limits { principle: Some(4), user: Some(1), client: Some(3) };
        let take = |user: Option<&str>, client: u64| {
            caps.admit(&Claim { user, client, ..claim("p", "kind", limits) }, at(0)).err()
        };
        assert_eq!((take(Some("jane"), 1), take(Some("jane"), 1)), (None, Some("user")));
        assert_eq!((take(Some("bob"), 1), take(None, 1)), (None, None));
        assert_eq!(take(None, 1), Some("client"));
        assert_eq!((take(None, 2), take(None, 2)), (None, Some("principle")), "refused rows took no place");
    }

    #[test]
    fn made_up_users_fill_a_table_and_not_the_memory() {
        let caps = Caps::default();
        let limits = Limits { user: Some(1), ..Limits::default() };
        let admitted = (0..MOST + 50)
            .filter(|n| caps.admit(&Claim { user: Some(&n.to_string()), ..claim("p", "kind", limits) }, at(0)).is_ok());
        assert_eq!(admitted.count(), MOST);
    }
}
