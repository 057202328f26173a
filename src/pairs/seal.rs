//! Request ids that only this gateway can have made, and users' ids that only it can tell apart.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

/// Hex digits of the seal: 96 bits, which nobody guesses at the rates that are let in.
const DIGITS: usize = 24;
/// Hex digits of a user's hash.
const USER_DIGITS: usize = 32;
const PREFIX: &str = "req_";
/// The fewest bytes of a secret that may be configured.
const LEAST_SECRET: usize = 16;

/// What request ids are sealed with, and users' ids are hashed with: keys made of one secret.
#[derive(Clone)]
pub struct Seal {
    ids: [u8; 32],
    users: [u8; 32],
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal(..)")
    }
}

/// Why no seal can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The secret can be guessed.
    #[error("expected a secret of at least {LEAST_SECRET} bytes, such as `openssl rand -hex 32` prints")]
    Short,
    /// The system has no randomness.
    #[error("the system gave no random bytes for a key")]
    Random,
}

/// Why an id is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsealed {
    /// It was not made by this gateway, or for another client.
    Forged,
    /// It is too old.
    Expired,
}

impl Seal {
    /// From a configured secret: the same on every instance and after a restart.
    pub fn of(secret: &[u8]) -> Result<Self, SealError> {
        if secret.trim_ascii().len() < LEAST_SECRET { Err(SealError::Short) } else { Ok(Self::derived(secret)) }
    }

    /// From a secret that nobody knows: its ids end with the process.
    pub fn random() -> Result<Self, SealError> {
        let mut secret = [0; 32];
        let random = rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(&mut secret);
        random.map_err(|_unspecified| SealError::Random)?;
        Ok(Self::derived(&secret))
    }

    fn derived(secret: &[u8]) -> Self {
        Self {
            ids: blake3::derive_key("wardline request ids v1", secret),
            users: blake3::derive_key("wardline users of pairs v1", secret),
        }
    }

    /// A new request id. `owner` is whoever may speak of it later: a tenant's name, or a client's key.
    pub fn issue(&self, owner: &[u8]) -> String {
        let id = Uuid::now_v7();
        let seal = self.seal(id, owner).to_hex();
        format!("{PREFIX}{}{}", id.simple(), &seal.as_str()[..DIGITS])
    }

    /// Whether an id was issued for this owner, no longer ago than `lifetime`; gives what is unique about it.
    pub fn check(&self, id: &str, owner: &[u8], now: SystemTime, lifetime: Duration) -> Result<u128, Unsealed> {
        let digits = id.strip_prefix(PREFIX).filter(|digits| digits.len() == 32 + DIGITS && digits.is_ascii());
        let (unique, seal) = digits.ok_or(Unsealed::Forged)?.split_at(32);
        let unique = Uuid::try_parse(unique).map_err(|_error| Unsealed::Forged)?;
        let expected = self.seal(unique, owner).to_hex();
        // In a time that does not depend on where they differ; capitals would be another id that means the same.
        let differs = expected.bytes().zip(seal.bytes()).fold(0, |differs, (a, b)| differs | (a ^ b));
        if differs != 0 || id.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(Unsealed::Forged);
        }
        let made = unique.get_timestamp().map(|made| made.to_unix()).ok_or(Unsealed::Forged)?;
        let made = UNIX_EPOCH + Duration::new(made.0, made.1);
        match now.duration_since(made) {
            Ok(age) if age > lifetime => Err(Unsealed::Expired),
            _ => Ok(unique.as_u128()),
        }
    }

    /// What is unique about an id of our own making.
    pub fn unique(id: &str) -> Option<u128> {
        Uuid::try_parse(id.strip_prefix(PREFIX)?.get(..32)?).ok().map(|id| id.as_u128())
    }

    /// A user's id as rows may hold it: a keyed hash, the same for the same user of the same tenant.
    pub fn user(&self, tenant: Option<&str>, user: &str) -> String {
        let mut hasher = blake3::Hasher::new_keyed(&self.users);
        let tenant = tenant.unwrap_or_default();
        hasher.update(&(tenant.len() as u64).to_le_bytes()).update(tenant.as_bytes()).update(user.as_bytes());
        hasher.finalize().to_hex().as_str()[..USER_DIGITS].to_owned()
    }

    fn seal(&self, id: Uuid, owner: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.ids);
        hasher.update(id.as_bytes()).update(owner);
        hasher.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn an_id_is_known_again_by_its_owner_until_it_expires() {
        let seal = Seal::of(b"0123456789abcdef").unwrap();
        let (id, now) = (seal.issue(b"key"), SystemTime::now());
        let unique = seal.check(&id, b"key", now, HOUR).unwrap();
        assert_eq!(seal.check(&id, b"key", now, HOUR), Ok(unique));
        assert_ne!(seal.check(&seal.issue(b"key"), b"key", now, HOUR), Ok(unique));
        assert_eq!(seal.check(&id, b"other", now, HOUR), Err(Unsealed::Forged));
        assert_eq!(seal.check(&id, b"key", now + 2 * HOUR, HOUR), Err(Unsealed::Expired));
        assert_eq!(Seal::of(b"0123456789abcdef").unwrap().check(&id, b"key", now, HOUR), Ok(unique));
        for other in [Seal::random().unwrap(), Seal::of(b"0123456789abcdeF").unwrap()] {
            assert_eq!(other.check(&id, b"key", now, HOUR), Err(Unsealed::Forged));
        }
        assert_eq!(Seal::of(b"too short").unwrap_err(), SealError::Short);
    }

    /// Whatever is changed about an id, it is no longer one.
    #[test]
    fn no_changed_id_is_taken() {
        let seal = Seal::random().unwrap();
        let (id, now) = (seal.issue(b""), SystemTime::now());
        assert!(seal.check(&id, b"", now, HOUR).is_ok());
        for at in 0..id.len() {
            let mut changed = id.clone().into_bytes();
            changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(seal.check(&changed, b"", now, HOUR), Err(Unsealed::Forged), "{changed}");
            assert_eq!(seal.check(&id[..at], b"", now, HOUR), Err(Unsealed::Forged));
        }
        for changed in
            [format!("{id}0"), id.to_uppercase(), id.replace("req_", "req-"), format!("req_{}", "é".repeat(28))]
        {
            assert_eq!(seal.check(&changed, b"", now, HOUR), Err(Unsealed::Forged), "{changed}");
        }
    }

    #[test]
    fn a_user_is_known_again_and_not_known() {
        let seal = Seal::of(b"0123456789abcdef").unwrap();
        let jane = seal.user(None, "jane@example.com");
        assert_eq!((jane.len(), &jane), (32, &seal.user(None, "jane@example.com")));
        assert_ne!(jane, seal.user(Some("acme"), "jane@example.com"));
        assert_ne!(seal.user(Some("a"), "bc"), seal.user(Some("ab"), "c"));
        assert_ne!(jane, Seal::random().unwrap().user(None, "jane@example.com"));
    }
}
