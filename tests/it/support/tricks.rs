//! Ways to write a text so that people or models still read it and keyword lists do not.

/// A name, and what it makes of a text.
pub(crate) type Trick = (&'static str, fn(&str) -> String);

/// The obfuscations that the normaliser undoes.
pub(crate) const TRICKS: &[Trick] = &[
    ("zero width", |text| between(text, '\u{200b}')),
    ("word joiners", |text| between(text, '\u{2060}')),
    ("soft hyphens", |text| between(text, '\u{ad}')),
    ("control characters", |text| between(text, '\u{1}')),
    ("combining marks", |text| text.chars().flat_map(|c| [c, '\u{335}', '\u{353}', '\u{30d}']).collect()),
    ("direction marks", |text| format!("\u{202e}{}\u{202c}", between(text, '\u{200e}'))),
    ("tag characters", |text| format!("Hello \u{1f600}{}", shifted(text, 0xe_0000))),
    ("variation selectors", |text| {
        let hidden = text.bytes().filter_map(|b| char::from_u32(0xe_0100 + u32::from(b) - 16));
        format!("Hello \u{1f600}{}", hidden.collect::<String>())
    }),
    ("selectors as noise", |text| between(text, '\u{fe0f}')),
    ("full width", |text| {
        text.chars()
            .map(|c| if c == ' ' { '\u{3000}' } else { char::from_u32(c as u32 + 0xfee0).unwrap_or(c) })
            .collect()
    }),
    ("mathematical letters", |text| styled(text, '\u{1d41a}')),
    ("circled letters", |text| styled(text, '\u{24d0}')),
    ("look-alikes", |text| mapped(text, "aceopsxyij", "асеорѕхуіј")),
    ("Greek look-alikes", |text| mapped(text, "aoeiuvp", "αοειυνρ")),
    ("small capitals", |text| mapped(text, "abcdegiklmnoprtuvwyz", "ᴀʙᴄᴅᴇɢɪᴋʟᴍɴᴏᴘʀᴛᴜᴠᴡʏᴢ")),
    ("leet", |text| mapped(text, "oiea", "01e4")),
    ("letters apart", |text| {
        let words = text.split(' ').map(|word| word.chars().map(String::from).collect::<Vec<_>>().join(" "));
        words.collect::<Vec<_>>().join("   ")
    }),
    ("letters dotted", |text| {
        let words = text.split(' ').map(|word| word.chars().map(String::from).collect::<Vec<_>>().join("."));
        words.collect::<Vec<_>>().join(" ")
    }),
    ("shuffled case", |text| {
        text.chars().enumerate().map(|(at, c)| if at % 2 == 0 { c } else { c.to_ascii_uppercase() }).collect()
    }),
    ("base64", base64),
    ("base64 twice", |text| base64(&base64(text))),
    ("hexadecimal", |text| each(text, |b| format!("{b:02x}")).concat()),
    ("hexadecimal pairs", |text| each(text, |b| format!("{b:02x}")).join(" ")),
    ("URL", |text| each(text, |b| format!("%{b:02X}")).concat()),
    ("HTML entities", |text| each(text, |b| format!("&#{b};")).concat()),
    ("escapes", |text| each(text, |b| format!("\\u{b:04x}")).concat()),
    ("rot13", |text| text.chars().map(thirteen).collect()),
    ("rot13 in base64", |text| base64(&text.chars().map(thirteen).collect::<String>())),
    ("words backwards", |text| {
        text.split(' ').map(|word| word.chars().rev().collect::<String>()).collect::<Vec<_>>().join(" ")
    }),
    ("upside down", |text| {
        mapped(&text.chars().rev().collect::<String>(), "abcdefghijklmnpqrtuvwy", "ɐqɔpǝɟƃɥᴉɾʞlɯudbɹʇnʌʍʎ")
    }),
];

fn each(text: &str, written: fn(u8) -> String) -> Vec<String> {
    text.bytes().map(written).collect()
}

fn between(text: &str, hidden: char) -> String {
    text.chars().flat_map(|c| [c, hidden]).collect()
}

fn shifted(text: &str, by: u32) -> String {
    text.chars().filter_map(|c| char::from_u32(c as u32 + by)).collect()
}

/// Small letters in the style whose `a` is given; what has no such form stays.
fn styled(text: &str, a: char) -> String {
    let style = |c: char| char::from_u32(a as u32 + c as u32 - u32::from(b'a')).unwrap_or(c);
    text.chars().map(|c| if c.is_ascii_lowercase() { style(c) } else { c }).collect()
}

fn mapped(text: &str, from: &str, to: &str) -> String {
    let map = |c: char| from.chars().position(|known| known == c).and_then(|at| to.chars().nth(at)).unwrap_or(c);
    text.chars().map(map).collect()
}

fn thirteen(c: char) -> char {
    let turn = |c: char, a: u8| char::from((c as u8 - a + 13) % 26 + a);
    match c {
        'a'..='z' => turn(c, b'a'),
        'A'..='Z' => turn(c, b'A'),
        _ => c,
    }
}

fn base64(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in text.as_bytes().chunks(3) {
        let bits = group.iter().fold(0u32, |bits, b| bits << 8 | u32::from(*b)) << (8 * (3 - group.len()));
        for at in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * at) & 63) as usize];
            out.push(if at <= group.len() { char::from(digit) } else { '=' });
        }
    }
    out
}
