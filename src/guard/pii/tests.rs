use crate::guard::PatternSet;

use super::*;

fn redact(entity: &str, text: &str) -> String {
    let set = PatternSet::compile(&[entity.to_owned()], &[]).unwrap();
    set.redact(text).unwrap_or_else(|| text.to_owned())
}

#[track_caller]
fn found(entity: &str, texts: &[&str]) {
    for text in texts {
        for (left, right) in [("", ""), ("it is ", "."), ("(", ")"), ("x=", ", b"), ("\"", "\""), ("好", "好")] {
            assert_eq!(redact(entity, &format!("{left}{text}{right}")), format!("{left}[{entity}]{right}"), "{text}");
        }
    }
}

#[track_caller]
fn left_alone(entity: &str, texts: &[&str]) {
    for text in texts {
        assert_eq!(&redact(entity, text), text);
    }
}

#[test]
fn every_entity_has_a_form_and_every_form_an_entity() {
    for entity in ENTITIES {
        assert!(FORMS.iter().any(|form| form.entity == *entity), "{entity}");
    }
    assert!(FORMS.iter().all(|form| ENTITIES.contains(&form.entity)));
    assert!(IBAN_LENGTHS.is_sorted());
}

#[test]
fn email() {
    found("EMAIL_ADDRESS", &["a@b.co", "john.o'neil+tag@mail.example.co.uk", "RENÉ@exämple.fr", "иван@почта.рф"]);
    left_alone("EMAIL_ADDRESS", &["a@b", "a @b.com", "@user.name", "x@-a.com", "a@b.c1", "price@3.50"]);
    assert_eq!(
        redact("EMAIL_ADDRESS", "foo..bar@x.com <-me@x.com> ...me@x.com"),
        "foo..[EMAIL_ADDRESS] <-[EMAIL_ADDRESS]> ...[EMAIL_ADDRESS]"
    );
    assert_eq!(redact("EMAIL_ADDRESS", "https://bob:pw@host.example.com/"), "https://bob:[EMAIL_ADDRESS]/");
}

#[test]
fn card() {
    // The card schemes' published test numbers.
    found(
        "CREDIT_CARD",
        &[
            "4111111111111111",
            "4111 1111 1111 1111",
            "4111-1111-1111-1111",
            "5555555555554444",
            "2223003122003222",
            "378282246310005",
            "3782 822463 10005",
            "6011111111111117",
            "3530111333300000",
            "30569309025904",
            "6200000000000005",
            "4222222222222",
            "6304000000000000",
        ],
    );
    left_alone(
        "CREDIT_CARD",
        &[
            "4111111111111112",
            "0000000000000000",
            "1234567812345670",
            "41111111111111111111111",
            "0.4111111111111111",
            "4111111111111111.5",
            "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
            "a4111111111111111",
            "4111111111111111e",
        ],
    );
    assert_eq!(redact("CREDIT_CARD", "4111 1111 1111 1111 12/27"), "[CREDIT_CARD] 12/27");
}

#[test]
fn luhn_catches_every_single_wrong_digit_and_mod97_too() {
    let card = b"4111111111111111".map(|b| b - b'0');
    assert!(is_luhn(&card));
    let iban = "GB82WEST12345698765432";
    assert!(is_iban(iban));
    for place in 0..card.len() {
        for digit in (0..10).filter(|&d| d != card[place]) {
            let mut wrong = card;
            wrong[place] = digit;
            assert!(!is_luhn(&wrong));
        }
    }
    for place in 8..iban.len() {
        for digit in (b'0'..=b'9').filter(|&d| d != iban.as_bytes()[place]) {
            let mut wrong = iban.as_bytes().to_vec();
            wrong[place] = digit;
            assert!(!is_iban(std::str::from_utf8(&wrong).unwrap()));
        }
    }
}

#[test]
fn iban() {
    // The registry's examples.
    found(
        "IBAN_CODE",
        &[
            "DE89370400440532013000",
            "GB29 NWBK 6016 1331 9268 19",
            "fr1420041010050500013m02606",
            "NO9386011117947",
            "MT84MALT011000012345MTLCAST001S",
            "CH93-0076-2011-6238-5295-7",
            "LC55HEMM000100010012001200023015",
        ],
    );
    left_alone(
        "IBAN_CODE",
        &["DE89370400440532013001", "DE8937040044053201300", "XX89370400440532013000", "AB12 some words here"],
    );
}

#[test]
fn ssn() {
    found("US_SSN", &["123-45-6789", "123 45 6789", "899-01-0001"]);
    left_alone(
        "US_SSN",
        &[
            "000-45-6789",
            "666-45-6789",
            "923-45-6789",
            "123-00-6789",
            "123-45-0000",
            "123-45 6789",
            "123456789",
            "1123-45-6789",
            "123-45-67890",
            "123-45-6789-1",
        ],
    );
}

#[test]
fn phone() {
    found(
        "PHONE_NUMBER",
        &[
            "+44 20 7946 0958",
            "+41 (0)38 549 02 90",
            "+447700900123",
            "+1-604-696-5272x565",
            "001-253-366-9781",
            "(602)272-9781",
            "(602) 272-9781 ext. 12",
            "618-226-1460",
            "930.167.3943",
            "1-800-555-0199",
            "0341 8387176",
            "01.84.17.61.18",
            "0688 843 79 56",
            "(08) 8747 6301",
            "030/1234567",
        ],
    );
    left_alone(
        "PHONE_NUMBER",
        &[
            "2026-11-23",
            "23.11.2026",
            "01.02.2026 12:30",
            "09:15",
            "1,000,000",
            "100 200 300",
            "10.0.0.1",
            "3.141592653589793",
            "ISBN 978-3-16-148410-0",
            "+12 %",
            "0012345678",
            "1-2-3-4-5-6-7-8-9",
            "v618-226-1460",
            "123-45-6789",
        ],
    );
}

#[test]
fn ip() {
    found(
        "IP_ADDRESS",
        &[
            "48.90.248.226",
            "10.0.0.1",
            "2001:db8::1",
            "6e40:4041:c617:e898:c11:40d2:c669:2eb4",
            "::ffff:1.2.3.4",
            "fe80::1",
        ],
    );
    left_alone(
        "IP_ADDRESS",
        &[
            "127.0.0.1",
            "0.0.0.0",
            "256.1.1.1",
            "1.2.3",
            "1.2.3.4.5",
            "v1.2.3.4",
            "12:34:56",
            "::1",
            "::",
            "std::mem",
            "add::e0",
            "01.02.03.04",
        ],
    );
    assert_eq!(redact("IP_ADDRESS", "10.1.2.3."), "[IP_ADDRESS].");
    assert_eq!(redact("IP_ADDRESS", "data:2001:db8::1 ip:10.1.2.3"), "data:[IP_ADDRESS] ip:[IP_ADDRESS]");
    assert_eq!(redact("IP_ADDRESS", "1:2:3:4:5:6:7:8:9"), "1:2:3:4:5:6:7:8:9");
}

#[test]
fn bitcoin() {
    // The genesis block's address, a P2SH one, and the vectors of BIP 173 and BIP 350.
    found(
        "CRYPTO",
        &[
            "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
            "3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy",
            "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4",
            "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
        ],
    );
    left_alone(
        "CRYPTO",
        &[
            "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb",
            "3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLz",
            "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5",
            "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqh2y7hd",
        ],
    );
}

#[test]
fn api_key() {
    let long = format!("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx{}.c2lnbmF0dXJl", "Ab1_".repeat(500));
    found(
        "API_KEY",
        &[
            "sk-abcdEFGH1234abcdEFGH1234",
            "sk-ant-api03-abcdEFGH1234abcdEFGH-1234",
            "AKIAIOSFODNN7EXAMPLE",
            "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
            "glpat-abcd1234efgh5678ijkl",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0xyz.c2lnbmF0dXJl",
            &long,
        ],
    );
    left_alone(
        "API_KEY",
        &[
            "sk-learn-is-a-library-for-python-3-users",
            "sk-short1",
            "AKIA1",
            "eyJhbGciOiJIUzI1NiJ9",
            "task-abcdEFGH1234abcdEFGH1234",
        ],
    );
}
