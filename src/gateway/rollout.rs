//! Roll-outs: who is in the share of a new policy.

use crate::api::{Call, Origin};
use crate::policy::{By, Key};

/// Bytes of a conversation's first message that tell it from others.
const OPENING: usize = 4096;

/// What keeps a request together with others; nothing where it has none.
pub(super) fn identity(by: By, key: Option<Key<'_>>, call: &Call, id: &str) -> Option<Vec<u8>> {
    match by {
        By::Request => Some(id.as_bytes().to_vec()),
        By::Key => key.map(|key| key.identity().into_bytes()),
        By::Conversation => {
            let first = call.segments().iter().find(|segment| segment.origin == Origin::User)?;
            let mut identity = key.map(|key| key.identity()).unwrap_or_default().into_bytes();
            identity.push(0);
            identity.extend(first.text.bytes().take(OPENING));
            Some(identity)
        }
    }
}
