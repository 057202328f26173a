//! Who sends a request: a tenant that the configuration knows by its keys, or by a header that it trusts.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName};
use schemars::JsonSchema;
use serde::Deserialize;

use super::select::{Key, hex, key_mistake, value_of};

/// Who sends requests, as far as the configuration knows them. Everybody else is nobody's tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tenants {
    /// Tenants by a name of your choice: up to 64 letters, digits, `-`, `_` or `.`.
    pub known: BTreeMap<String, Tenant>,
    /// A header whose value is believed to be the tenant's name, for requests whose key is nobody's. Whoever reaches the
    /// listener can send it: trust it only behind a proxy that sets it itself. It is not sent up.
    pub header: Option<String>,
    /// Whether decisions are also counted by tenant, in a metric of their own.
    pub metrics: bool,
}

/// One tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping with `keys`, or `{}` for one that only the header names")]
pub struct Tenant {
    /// Keys that its clients send (`authorization: Bearer …` or `x-api-key`), as the first 16 or more hex digits of their
    /// SHA-256: `printf %s "$KEY" | sha256sum`.
    pub keys: Vec<String>,
    /// Whether preference rows of its exchanges may be kept: `true` where a policy wants the tenant's word
    /// (`pairs: { consent: tenant }`), `false` for never. By default as the policy says.
    pub pairs: Option<bool>,
}

impl Tenants {
    /// Whose request it is: whose key, or else whom the trusted header names.
    pub fn of(&self, key: Option<Key<'_>>, headers: &HeaderMap) -> Option<&str> {
        if self.known.is_empty() {
            return None;
        }
        self.of_key(key).or_else(|| self.named(value_of(headers, self.header.as_deref()?)?))
    }

    /// The tenant that has a name, by that name.
    pub fn named(&self, name: &str) -> Option<&str> {
        self.known.get_key_value(name).map(|(name, _)| name.as_str())
    }

    /// What a tenant says of having rows kept.
    pub fn pairs(&self, name: Option<&str>) -> Option<bool> {
        self.known.get(name?)?.pairs
    }

    fn of_key(&self, key: Option<Key<'_>>) -> Option<&str> {
        let hash = match key? {
            Key::Hashed(digits) => digits.to_owned(),
            Key::Sent(key) => hex(key),
        };
        let owns = |tenant: &Tenant| tenant.keys.iter().any(|digits| hash.starts_with(digits.as_str()));
        self.known.iter().find(|(_, tenant)| owns(tenant)).map(|(name, _)| name.as_str())
    }

    /// What is wrong, as the key under `tenants` and the reason.
    pub(super) fn mistake(&self) -> Option<(String, String)> {
        if let Some(header) = &self.header
            && HeaderName::try_from(header.as_str()).is_err()
        {
            return Some(("header".to_owned(), format!("`{header}` is not the name of a header")));
        }
        if self.known.is_empty() && (self.header.is_some() || self.metrics) {
            return Some(("known".to_owned(), "expected the tenants that there are, by name".to_owned()));
        }
        for (at, (name, tenant)) in self.known.iter().enumerate() {
            let place = |key: &str| format!("known.{name}{key}");
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || name.len() > 64 || !name.chars().all(plain) {
                let reason =
                    "expected a name of up to 64 letters, digits, `-`, `_` or `.`, starting with a letter or digit";
                return Some((place(""), reason.to_owned()));
            }
            if let Some(reason) = key_mistake(&tenant.keys) {
                return Some((place(".keys"), reason.to_owned()));
            }
            if tenant.keys.is_empty() && self.header.is_none() {
                let reason = "nothing shows who this tenant is: expected `keys`, or a `tenants.header` to believe";
                return Some((place(""), reason.to_owned()));
            }
            let before = self.known.iter().take(at);
            let mut claimed = before.flat_map(|(other, known)| known.keys.iter().map(move |key| (other, key)));
            let same =
                |key: &String| tenant.keys.iter().any(|own| own.starts_with(key) || key.starts_with(own.as_str()));
            if let Some((other, _)) = claimed.find(|(_, key)| same(key)) {
                return Some((place(".keys"), format!("a key of `{other}` too: a key is one tenant's")));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn tenants() -> Tenants {
        let acme = Tenant { keys: vec![hex(b"secret")[..16].to_owned()], pairs: None };
        let known = BTreeMap::from([("acme".to_owned(), acme), ("globex".to_owned(), Tenant::default())]);
        Tenants { known, header: Some("X-Tenant".to_owned()), metrics: false }
    }

    fn headers(values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (HeaderName::from_static("x-tenant"), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_key_says_whose_request_it_is_and_else_the_header_if_it_is_trusted() {
        let tenants = tenants();
        let key = Some(Key::Sent(b"secret"));
        assert_eq!(tenants.of(key, &headers(&[])), Some("acme"));
        assert_eq!(tenants.of(key, &headers(&["globex"])), Some("acme"), "a key is proof, a header is a word");
        assert_eq!(tenants.of(Some(Key::Sent(b"other")), &headers(&["globex"])), Some("globex"));
        assert_eq!(tenants.of(Some(Key::Hashed(&hex(b"secret"))), &headers(&[])), Some("acme"));
        for nobody in [headers(&[]), headers(&["initech"]), headers(&["globex", "acme"]), headers(&[""])] {
            assert_eq!(tenants.of(None, &nobody), None, "{nobody:?}");
        }
        let untrusting = Tenants { header: None, ..tenants };
        assert_eq!(untrusting.of(None, &headers(&["globex"])), None);
    }

    #[test]
    fn lists_that_make_no_sense_are_told() {
        assert_eq!(tenants().mistake(), None);
        let mistake = |change: &dyn Fn(&mut Tenants)| {
            let mut tenants = tenants();
            change(&mut tenants);
            tenants.mistake().unwrap()
        };
        assert_eq!(mistake(&|all| all.header = Some("x tenant".to_owned())).0, "header");
        assert_eq!(mistake(&|all| all.known.clear()).0, "known");
        let (key, reason) = mistake(&|all| all.header = None);
        assert!(key == "known.globex" && reason.contains("expected `keys`"), "{key}: {reason}");
        let shared = Tenant { keys: vec![hex(b"secret")], pairs: None };
        let (key, reason) = mistake(&|all| drop(all.known.insert("globex".to_owned(), shared.clone())));
        assert!(key == "known.globex.keys" && reason.contains("`acme`"), "{key}: {reason}");
        let raw = Tenant { keys: vec!["sk-live-0123456789abcdef".to_owned()], pairs: None };
        let (key, reason) = mistake(&|all| drop(all.known.insert("globex".to_owned(), raw.clone())));
        assert!(key == "known.globex.keys" && !reason.contains("sk-live"), "{key}: {reason}");
        assert_eq!(mistake(&|all| drop(all.known.insert("a b".to_owned(), Tenant::default()))).0, "known.a b");
    }
}
