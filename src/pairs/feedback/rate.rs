//! How often each client speaks.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Clients that are counted apart in one minute; all others share a place.
const MOST: usize = 10_000;

/// What each client has sent in this minute.
#[derive(Debug, Default)]
pub(super) struct Rates {
    minute: Mutex<(u64, HashMap<[u8; 16], u32>)>,
}

impl Rates {
    /// Takes one of the minute's places, if this client has one left.
    pub(super) fn admit(&self, owner: &[u8], per_minute: u32, now: SystemTime) -> bool {
        let minute = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 60;
        let mut counted = self.minute.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.0 != minute {
            *counted = (minute, HashMap::new());
        }
        let mut client = [0; 16];
        blake3::Hasher::new_derive_key("wardline feedback rates v1").update(owner).finalize_xof().fill(&mut client);
        if counted.1.len() >= MOST && !counted.1.contains_key(&client) {
            client = [0; 16];
        }
        let sent = counted.1.entry(client).or_default();
        let admitted = *sent < per_minute;
        *sent += u32::from(admitted);
        admitted
    }
}
