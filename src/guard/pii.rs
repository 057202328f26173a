//! Built-in recognisers of personal data and secrets, under Presidio's entity names.
//!
//! A form is a regular expression for the shape, a look at what stands before and behind, and a check of what the shape
//! cannot say (check digits, ranges that were never issued). Precision comes first where a form is common in harmless
//! text: a national telephone number without its trunk 0, its area in brackets or its country code is not recognised.

use std::net::{Ipv4Addr, Ipv6Addr};

use sha2::{Digest, Sha256};

/// The names of the entities that are recognised.
pub const ENTITIES: &[&str] =
    &["EMAIL_ADDRESS", "CREDIT_CARD", "IBAN_CODE", "US_SSN", "PHONE_NUMBER", "IP_ADDRESS", "CRYPTO", "API_KEY"];

/// One shape of one entity.
#[derive(Debug)]
pub(in crate::guard) struct Form {
    pub(in crate::guard) entity: &'static str,
    pub(in crate::guard) regex: &'static str,
    /// The longest match, in bytes.
    pub(in crate::guard) max_len: usize,
    /// Whether a match may begin after these bytes. Looks at no more than the last six.
    pub(in crate::guard) before: fn(&[u8]) -> bool,
    /// Whether a match may end before these bytes; nothing if that depends on bytes that have not come.
    pub(in crate::guard) after: fn(&[u8]) -> Option<bool>,
    /// Whether the text is what its shape says.
    pub(in crate::guard) check: fn(&str) -> bool,
}

pub(in crate::guard) const FORMS: &[Form] = &[
    Form {
        entity: "EMAIL_ADDRESS",
        // Letters of alphabets that put spaces between words: elsewhere a whole sentence could be a local part.
        regex: r"(?x) [0-9\p{Latin}\p{Greek}\p{Cyrillic}] [0-9\p{Latin}\p{Greek}\p{Cyrillic}._%+'-]* @
            (?: [0-9\p{Latin}\p{Greek}\p{Cyrillic}] [0-9\p{Latin}\p{Greek}\p{Cyrillic}-]* \. )+ [\p{Latin}\p{Greek}\p{Cyrillic}]{2,24}",
        max_len: 512,
        before: local_part_starts,
        after: word_ends,
        check: is_email,
    },
    Form {
        entity: "CREDIT_CARD",
        regex: r"[0-9](?:[ -]?[0-9]){12,18}",
        max_len: 37,
        before: number_starts,
        after: number_ends,
        check: is_card,
    },
    Form {
        entity: "IBAN_CODE",
        regex: r"(?i-u)[A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]{4}){2,7}(?:[ -]?[A-Z0-9]{1,3})?",
        max_len: 42,
        before: word_starts,
        after: word_ends,
        check: is_iban,
    },
    Form {
        entity: "US_SSN",
        regex: r"[0-9]{3}(?:-[0-9]{2}-|[ ][0-9]{2}[ ])[0-9]{4}",
        max_len: 11,
        before: number_starts,
        after: hyphened_number_ends,
        check: is_ssn,
    },
    Form {
        entity: "PHONE_NUMBER",
        regex: r"(?x) (?: \+ | 00 ) \x20? [1-9] (?: [\x20./-]? (?: \( [0-9]{1,4} \) | [0-9] ) ){6,16}
            (?: \x20? (?: x | ext\.? \x20? ) [0-9]{1,6} )?",
        max_len: 64,
        before: number_starts,
        after: hyphened_number_ends,
        check: is_international_phone,
    },
    Form {
        entity: "PHONE_NUMBER",
        regex: r"(?x) (?: 1 [\x20.-] )? (?: \( [2-9] [0-9]{2} \) \x20? | [2-9] [0-9]{2} [\x20.-] ) [0-9]{3} [\x20.-] [0-9]{4}
            (?: \x20? (?: x | ext\.? \x20? ) [0-9]{1,6} )?",
        max_len: 32,
        before: number_starts,
        after: hyphened_number_ends,
        check: is_north_american_phone,
    },
    Form {
        entity: "PHONE_NUMBER",
        regex: r"(?x) (?: \(0[0-9]{1,4}\) | 0[0-9]{1,4} ) (?: [\x20./-] [0-9]{2,8} ){1,5}",
        max_len: 32,
        before: number_starts,
        after: hyphened_number_ends,
        check: is_national_phone,
    },
    Form {
        entity: "IP_ADDRESS",
        regex: r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}",
        max_len: 15,
        before: number_starts,
        after: number_ends,
        check: is_ipv4,
    },
    Form {
        entity: "IP_ADDRESS",
        regex: r"(?i-u)(?:[0-9A-F]{0,4}:){2,7}(?:[0-9A-F]{0,4}|[0-9]{1,3}(?:\.[0-9]{1,3}){3})",
        max_len: 45,
        before: hextets_start,
        after: |rest| Some(!rest.first().is_some_and(|&b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')),
        check: is_ipv6,
    },
    Form {
        entity: "CRYPTO",
        regex: r"[13][1-9A-HJ-NP-Za-km-z]{25,34}",
        max_len: 35,
        before: word_starts,
        after: word_ends,
        check: is_base58_bitcoin,
    },
    Form {
        entity: "CRYPTO",
        regex: r"(?:bc1[02-9ac-hj-np-z]{11,71}|BC1[02-9AC-HJ-NP-Z]{11,71})",
        max_len: 74,
        before: word_starts,
        after: word_ends,
        check: is_bech32_bitcoin,
    },
    Form {
        entity: "API_KEY",
        regex: r"(?x) sk-[A-Za-z0-9_-]{20,} | [sr]k_live_[A-Za-z0-9]{20,} | (?:AKIA|ASIA)[A-Z2-7]{16} | AIza[A-Za-z0-9_-]{35}
            | gh[pousr]_[A-Za-z0-9]{36,} | github_pat_[A-Za-z0-9_]{22,} | glpat-[A-Za-z0-9_-]{20,} | hf_[A-Za-z0-9]{30,}
            | xox[abeoprs]-[A-Za-z0-9-]{20,} | npm_[A-Za-z0-9]{36}",
        max_len: 300,
        before: word_starts,
        after: key_ends,
        check: is_api_key,
    },
    // JSON Web Tokens. Header and claims begin with a brace and a quotation mark, which is what the letters say.
    Form {
        entity: "API_KEY",
        regex: r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
        max_len: 4095,
        before: |before| word_starts(before) && before.last() != Some(&b'-'),
        after: key_ends,
        check: |_| true,
    },
];

/// Not within a local part: what follows `rené.` or `o` was tried from further left.
fn local_part_starts(before: &[u8]) -> bool {
    match before {
        [.., b, b'.' | b'_' | b'%' | b'+' | b'-'] => !b.is_ascii_alphanumeric(),
        [.., b] if b.is_ascii() => !b.is_ascii_alphanumeric(),
        // Two bytes are U+0080 to U+07FF: Latin, Greek and Cyrillic letters among them.
        [.., lead, _] => !(0xc3..=0xd4).contains(lead),
        _ => true,
    }
}

/// Not within a word or a longer row of groups; `data:` is a word before a colon, `da7a:` would be a group.
fn hextets_start(before: &[u8]) -> bool {
    let [rest @ .., b':'] = before else { return number_starts(before) };
    let word: Vec<u8> = rest.iter().rev().take(5).take_while(|b| b.is_ascii_alphanumeric()).copied().collect();
    match word.len() {
        0 => rest.last() != Some(&b':'),
        1..=4 => !word.iter().all(u8::is_ascii_hexdigit),
        _ => true,
    }
}

fn word_starts(before: &[u8]) -> bool {
    !before.last().is_some_and(|&b| b.is_ascii_alphanumeric() || b == b'_')
}

#[expect(clippy::unnecessary_wraps, reason = "one of several looks behind, of one type")]
fn word_ends(rest: &[u8]) -> Option<bool> {
    Some(!rest.first().is_some_and(|&b| b.is_ascii_alphanumeric() || b == b'_'))
}

/// Not within a word, nor within a longer number such as `0.4111` or `12-34`.
fn number_starts(before: &[u8]) -> bool {
    match before {
        [.., digit, b'.' | b'-' | b'/' | b','] if digit.is_ascii_digit() => false,
        [.., last] => !last.is_ascii_alphanumeric() && *last != b'_' && *last != b'+',
        [] => true,
    }
}

/// Not within a word, nor before a fraction.
fn number_ends(rest: &[u8]) -> Option<bool> {
    number_ends_before(rest, b".")
}

/// As [`number_ends`], and no further group follows.
fn hyphened_number_ends(rest: &[u8]) -> Option<bool> {
    number_ends_before(rest, b".-/")
}

fn number_ends_before(rest: &[u8], joints: &[u8]) -> Option<bool> {
    match rest {
        [] => Some(true),
        [joint, more @ ..] if joints.contains(joint) => more.first().map(|b| !b.is_ascii_digit()),
        [b, ..] => Some(!b.is_ascii_alphanumeric() && *b != b'_'),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "one of several looks behind, of one type")]
fn key_ends(rest: &[u8]) -> Option<bool> {
    Some(!rest.first().is_some_and(|&b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'))
}

fn digits(text: &str) -> impl DoubleEndedIterator<Item = u8> + Clone {
    text.bytes().filter(u8::is_ascii_digit).map(|b| b - b'0')
}

/// RFC 5321 lengths, no empty label, no label with a hyphen at its edge.
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    local.chars().count() <= 64
        && !local.contains("..")
        && !local.ends_with('.')
        && domain.split('.').all(|label| label.len() <= 63 && !label.starts_with('-') && !label.ends_with('-'))
}

/// ISO/IEC 7812: known issuer range, its length, Luhn's check digit; groups of at least three digits.
fn is_card(text: &str) -> bool {
    let mut groups = text.split([' ', '-']).rev();
    groups.next();
    if groups.any(|group| group.len() < 3) || text.contains(' ') && text.contains('-') {
        return false;
    }
    let number: Vec<u8> = digits(text).collect();
    is_issued(&number) && is_luhn(&number)
}

fn is_issued(number: &[u8]) -> bool {
    let prefix = |len: usize| number.iter().take(len).fold(0u32, |n, &d| n * 10 + u32::from(d));
    let len = number.len();
    match prefix(4) {
        // American Express; JCB of old.
        3400..=3499 | 3700..=3799 | 1800 | 2131 => len == 15,
        // Mastercard.
        2221..=2720 | 5100..=5599 => len == 16,
        // Mir; JCB.
        2200..=2204 | 3528..=3589 => (16..=19).contains(&len),
        // Diners Club.
        3000..=3059 | 3095 | 3600..=3699 | 3800..=3999 => (14..=19).contains(&len),
        // Visa.
        4000..=4999 => matches!(len, 13 | 16 | 18 | 19),
        // Discover (never below sixteen), Maestro, UnionPay, RuPay.
        5000..=5099 | 5600..=6999 | 8100..=8199 => (13..=19).contains(&len) && (len >= 16 || prefix(2) != 60),
        _ => false,
    }
}

/// ISO/IEC 7812-1, annex B.
fn is_luhn(number: &[u8]) -> bool {
    let sum: u32 = number
        .iter()
        .rev()
        .enumerate()
        .map(|(i, &d)| {
            let d = u32::from(d);
            if i % 2 == 0 { d } else { d * 2 / 10 + d * 2 % 10 }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// ISO 13616: the country's length and the check digits (ISO 7064, mod 97-10).
fn is_iban(text: &str) -> bool {
    let compact: Vec<u8> = text.bytes().filter(u8::is_ascii_alphanumeric).map(|b| b.to_ascii_uppercase()).collect();
    let Ok(country) = std::str::from_utf8(&compact[..2]) else { return false };
    let Ok(known) = IBAN_LENGTHS.binary_search_by_key(&country, |&(name, _)| name) else { return false };
    if compact.len() != usize::from(IBAN_LENGTHS[known].1) {
        return false;
    }
    let rest = compact[4..].iter().chain(&compact[..4]).fold(0u32, |rest, &b| match b {
        b'0'..=b'9' => (rest * 10 + u32::from(b - b'0')) % 97,
        _ => (rest * 100 + u32::from(b - b'A') + 10) % 97,
    });
    rest == 1
}

/// The IBAN registry's countries and lengths, sorted.
#[rustfmt::skip]
const IBAN_LENGTHS: &[(&str, u8)] = &[
    ("AD", 24), ("AE", 23), ("AL", 28), ("AT", 20), ("AZ", 28), ("BA", 20), ("BE", 16), ("BG", 22), ("BH", 22),
    ("BI", 27), ("BR", 29), ("BY", 28), ("CH", 21), ("CR", 22), ("CY", 28), ("CZ", 24), ("DE", 22), ("DJ", 27),
    ("DK", 18), ("DO", 28), ("EE", 20), ("EG", 29), ("ES", 24), ("FI", 18), ("FK", 18), ("FO", 18), ("FR", 27),
    ("GB", 22), ("GE", 22), ("GI", 23), ("GL", 18), ("GR", 27), ("GT", 28), ("HN", 28), ("HR", 21), ("HU", 28),
    ("IE", 22), ("IL", 23), ("IQ", 23), ("IS", 26), ("IT", 27), ("JO", 30), ("KW", 30), ("KZ", 20), ("LB", 28),
    ("LC", 32), ("LI", 21), ("LT", 20), ("LU", 20), ("LV", 21), ("LY", 25), ("MC", 27), ("MD", 24), ("ME", 22),
    ("MK", 19), ("MN", 20), ("MR", 27), ("MT", 31), ("MU", 30), ("NI", 28), ("NL", 18), ("NO", 15), ("OM", 23),
    ("PK", 24), ("PL", 28), ("PS", 29), ("PT", 25), ("QA", 29), ("RO", 24), ("RS", 22), ("RU", 33), ("SA", 24),
    ("SC", 31), ("SD", 18), ("SE", 24), ("SI", 19), ("SK", 24), ("SM", 27), ("SO", 23), ("ST", 25), ("SV", 28),
    ("TL", 23), ("TN", 24), ("TR", 26), ("UA", 29), ("VA", 22), ("VG", 24), ("XK", 20), ("YE", 30),
];

/// Areas 000, 666 and 9xx, group 00 and serial 0000 were never issued (SSA, also after the randomisation of 2011).
fn is_ssn(text: &str) -> bool {
    let area = &text[..3];
    area != "000" && area != "666" && !area.starts_with('9') && &text[4..6] != "00" && &text[7..] != "0000"
}

/// E.164: at most fifteen digits after the prefix (a bracketed trunk 0 and an extension apart).
fn is_international_phone(text: &str) -> bool {
    let number = text.split(['x', 'e']).next().unwrap_or(text).trim_end();
    let plus = number.starts_with('+');
    let grouped = number.contains([' ', '.', '/', '-', '(']);
    let count = digits(number).count() - if plus { 0 } else { 2 } - usize::from(number.contains("(0)"));
    let least = match (plus, grouped) {
        (true, true) => 8,
        (true, false) => 9,
        (false, true) => 10,
        (false, false) => 11,
    };
    (least..=15).contains(&count)
}

/// One kind of joint throughout, unless the area is bracketed.
fn is_north_american_phone(text: &str) -> bool {
    let number = text.split(['x', 'e']).next().unwrap_or(text).trim_end();
    let mut joints = number.bytes().filter(|b| b" .-".contains(b));
    number.contains('(') || joints.next().is_some_and(|first| joints.all(|joint| joint == first))
}

/// Nine to eleven digits from the trunk 0 on; one kind of joint after the area.
fn is_national_phone(text: &str) -> bool {
    if !(9..=11).contains(&digits(text).count()) || digits(text).nth(1) == Some(0) {
        return false;
    }
    let mut groups = text.split([' ', '.', '/', '-']).skip(1);
    let (first, second) = (groups.next().map_or(0, str::len), groups.next());
    let mut joints = text.bytes().filter(|b| b" ./-".contains(b)).skip(1);
    let alike = joints.next().is_none_or(|one| joints.all(|joint| joint == one));
    alike && (second.is_some() || first >= 5)
}

/// A dotted quad that could belong to someone: neither loopback, nor unspecified, nor broadcast.
fn is_ipv4(text: &str) -> bool {
    text.parse::<Ipv4Addr>().is_ok_and(|ip| !ip.is_loopback() && !ip.is_unspecified() && !ip.is_broadcast())
}

/// As [`is_ipv4`]; short forms must not be a path of some programming language (`add::e0`).
fn is_ipv6(text: &str) -> bool {
    let Ok(ip) = text.parse::<Ipv6Addr>() else { return false };
    let groups = text.split(':').filter(|group| !group.is_empty()).count();
    let long = groups >= 3 || text.contains('.') || text.split(':').next().is_some_and(|group| group.len() == 4);
    !ip.is_loopback() && !ip.is_unspecified() && long && text.bytes().any(|b| b.is_ascii_digit())
}

/// `Base58Check` of a 21 byte payload, version 0 (P2PKH) or 5 (P2SH).
fn is_base58_bitcoin(text: &str) -> bool {
    const ALPHABET: &[u8] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let mut bytes = [0u8; 25];
    for c in text.bytes() {
        let Some(digit) = ALPHABET.iter().position(|&a| a == c) else { return false };
        let mut carry = digit;
        for byte in bytes.iter_mut().rev() {
            carry += usize::from(*byte) * 58;
            *byte = u8::try_from(carry & 0xff).unwrap_or_default();
            carry >>= 8;
        }
        if carry != 0 {
            return false;
        }
    }
    let leading = text.bytes().take_while(|&c| c == b'1').count();
    matches!(bytes[0], 0 | 5)
        && bytes.iter().take_while(|&&b| b == 0).count() == leading
        && Sha256::digest(Sha256::digest(&bytes[..21]))[..4] == bytes[21..]
}

/// BIP 173 and BIP 350, human-readable part `bc`.
fn is_bech32_bitcoin(text: &str) -> bool {
    const ALPHABET: &[u8] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    const GENERATORS: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    let step = |checksum: u32, value: u32| {
        let top = checksum >> 25;
        let shifted = ((checksum & 0x01ff_ffff) << 5) ^ value;
        GENERATORS.iter().enumerate().filter(|(i, _)| top >> i & 1 == 1).fold(shifted, |sum, (_, g)| sum ^ g)
    };
    // The expansion of "bc": high bits, zero, low bits.
    let mut checksum = [3, 3, 0, 2, 3].into_iter().fold(1, step);
    for c in text.bytes().skip(3) {
        let Some(value) = ALPHABET.iter().position(|&a| a == c.to_ascii_lowercase()) else { return false };
        checksum = step(checksum, u32::try_from(value).unwrap_or(0));
    }
    let witness = text.as_bytes()[3].to_ascii_lowercase();
    checksum == if witness == b'q' { 1 } else { 0x2bc8_30a3 }
}

/// A random part: digits and letters mixed; after `sk-` one run of sixteen, so that no hyphened words are taken.
fn is_api_key(text: &str) -> bool {
    let mixed = |part: &str| part.bytes().any(|b| b.is_ascii_digit()) && part.bytes().any(|b| b.is_ascii_alphabetic());
    match text.strip_prefix("sk-") {
        Some(rest) => mixed(rest) && rest.split(['-', '_']).any(|run| run.len() >= 16),
        None => text.starts_with("AKIA") || text.starts_with("ASIA") || mixed(text),
    }
}

#[cfg(test)]
mod tests;
