//! What a request said, so that an answer that repeats it need not be judged again.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use bytes::Bytes;

use crate::api::dialect::Limits;
use crate::api::json::{Json, Kind, Mode};

/// The strings and keys of one request as it went up, but for its `input`, which no answer repeats. Kept as keyed
/// hashes: for as long as an answer streams, eight bytes a string.
#[derive(Clone, Debug, Default)]
pub struct Echo {
    said: Arc<HashSet<u64>>,
    key: RandomState,
}

impl Echo {
    /// The strings of a body; none of one that cannot be read.
    pub fn of(body: &Bytes) -> Echo {
        let key = RandomState::new();
        let Ok(doc) = Json::parse(body.clone(), Mode::Request, &Limits::default()) else { return Echo::default() };
        let repeated = doc.root().entries().filter(|(key, _)| key.as_str().as_deref() != Some("input"));
        let nodes = repeated.flat_map(|(_, value)| value.tree());
        let strings = nodes.filter(|node| matches!(node.kind(), Kind::String | Kind::Key));
        let said = strings.filter_map(|node| Some(key.hash_one(node.as_str()?.as_ref()))).collect();
        Echo { said: Arc::new(said), key }
    }

    /// Whether exactly this string went up.
    pub(crate) fn holds(&self, text: &str) -> bool {
        !self.said.is_empty() && self.said.contains(&self.key.hash_one(text))
    }
}
