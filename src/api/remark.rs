//! What an application says of an answer that it got: `POST /v1/feedback`.

use bytes::Bytes;

use crate::api::call::{member, required_string};
use crate::api::dialect::Limits;
use crate::api::error::ReadError;
use crate::api::json::{Json, Mode, Value};

/// Longest comment, in characters.
const MAX_COMMENT: usize = 4000;
/// The most answers that one request may have asked for.
const MAX_CHOICES: u64 = 128;
/// Exactly one of these says what is said.
const WAYS: [&str; 5] = ["thumbs", "rating", "event", "demonstration", "preferred_over"];

/// One word about one answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Remark {
    /// The id that came with the answer.
    pub request_id: String,
    /// Which of its answers, counted from 0.
    pub choice: u32,
    /// What is said of it.
    pub said: Said,
    /// In words.
    pub comment: Option<String>,
}

/// What is said of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// Up or down.
    Thumbs(bool),
    /// From 1 to 5, 5 for the best.
    Rating(u8),
    /// What the person did with it.
    Did(Doing),
    /// What should have been answered.
    Demonstration(String),
    /// It is better than this one.
    Over {
        /// The other answer's request; the same where it is not said.
        request_id: Option<String>,
        /// Which of that request's answers.
        choice: u32,
    },
}

/// What a person did with an answer, without having been asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Copied it.
    Copy,
    /// Passed it on.
    Share,
    /// Took it over, into a text or a program.
    Accept,
    /// Asked for another one.
    Regenerate,
    /// Threw it away.
    Dismiss,
}

impl Doing {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Copy, Self::Share, Self::Accept, Self::Regenerate, Self::Dismiss];

    /// The word in bodies, rows and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Share => "share",
            Self::Accept => "accept",
            Self::Regenerate => "regenerate",
            Self::Dismiss => "dismiss",
        }
    }

    /// Whether it speaks for the answer.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Copy | Self::Share | Self::Accept)
    }
}

impl Remark {
    /// Reads a body strictly: one thing said, and no member that is not known.
    pub fn read(body: Bytes, limits: &Limits) -> Result<Remark, ReadError> {
        let doc = Json::parse(body, Mode::Request, limits)?;
        let root = doc.root();
        known(root, "", &[&["request_id", "choice", "comment"][..], &WAYS].concat())?;
        Ok(Remark {
            request_id: required_string(root, "request_id")?,
            choice: choice(root, "")?,
            said: said(root)?,
            comment: text(root, "comment", MAX_COMMENT)?,
        })
    }
}

fn said(root: Value<'_>) -> Result<Said, ReadError> {
    let mut ways = WAYS.into_iter().filter_map(|way| member(root, way).map(|value| (way, value)));
    let expected = "a remark with exactly one of `thumbs`, `rating`, `event`, `demonstration` and `preferred_over`";
    let (way, value) = ways.next().ok_or_else(|| ReadError::wrong_value("", root, expected))?;
    if ways.next().is_some() {
        return Err(ReadError::wrong_value("", root, expected));
    }
    match way {
        "thumbs" => match value.as_str().as_deref() {
            Some("up") => Ok(Said::Thumbs(true)),
            Some("down") => Ok(Said::Thumbs(false)),
            _ => Err(ReadError::wrong_value("thumbs", value, "`up` or `down`")),
        },
        "rating" => {
            let rating = value.as_u64().filter(|rating| (1..=5).contains(rating));
            let rating = rating.and_then(|rating| u8::try_from(rating).ok());
            rating.map(Said::Rating).ok_or_else(|| ReadError::wrong_value(way, value, "an integer from 1 to 5"))
        }
        "event" => {
            let word = value.as_str();
            let doing = Doing::ALL.into_iter().find(|doing| Some(doing.as_str()) == word.as_deref());
            let expected = "`copy`, `share`, `accept`, `regenerate` or `dismiss`";
            doing.map(Said::Did).ok_or_else(|| ReadError::wrong_value(way, value, expected))
        }
        "demonstration" => {
            let better = text(root, way, usize::MAX)?;
            better.map(Said::Demonstration).ok_or_else(|| ReadError::missing(way, root))
        }
        _ => over(value),
    }
}

fn over(value: Value<'_>) -> Result<Said, ReadError> {
    if !value.is_object() {
        let expected = "an object with `request_id`, `choice` or both: the answer that is not as good";
        return Err(ReadError::wrong_type("preferred_over", value, expected));
    }
    known(value, "preferred_over", &["request_id", "choice"])?;
    let request_id = match member(value, "request_id") {
        None => None,
        Some(id) => match id.as_str() {
            Some(id) if !id.is_empty() => Some(id.into_owned()),
            _ => return Err(ReadError::wrong_type("preferred_over.request_id", id, "a non-empty string")),
        },
    };
    Ok(Said::Over { request_id, choice: choice(value, "preferred_over.")? })
}

fn choice(object: Value<'_>, place: &str) -> Result<u32, ReadError> {
    let Some(choice) = member(object, "choice") else { return Ok(0) };
    let number = choice.as_u64().filter(|number| *number < MAX_CHOICES).and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| ReadError::wrong_type(format!("{place}choice"), choice, "an integer from 0 to 127"))
}

/// A text that says something; none where the member is absent or null.
fn text(object: Value<'_>, key: &str, most: usize) -> Result<Option<String>, ReadError> {
    let Some(value) = member(object, key) else { return Ok(None) };
    let text = value.as_str().ok_or_else(|| ReadError::wrong_type(key, value, "a string"))?;
    if text.trim().is_empty() {
        return Err(ReadError::wrong_value(key, value, "a text, not blanks"));
    }
    if text.chars().count() > most {
        return Err(ReadError::wrong_value(key, value, &format!("at most {most} characters long")));
    }
    Ok(Some(text.into_owned()))
}

/// Refuses members that are not known: a misspelt one would be a word that nobody hears. A name of the client's making
/// is not repeated.
fn known(object: Value<'_>, place: &str, names: &[&str]) -> Result<(), ReadError> {
    if !object.is_object() {
        return Err(ReadError::wrong_type(place, object, "an object"));
    }
    for (key, value) in object.entries() {
        if !names.contains(&key.as_str().unwrap_or_default().as_ref()) {
            let expected = format!("without other members than {}", names.join(", "));
            return Err(ReadError::wrong_value(place, value, &expected));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Remark, String> {
        Remark::read(Bytes::from(body.to_owned()), &Limits::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn each_way_is_read() {
        let remark = |said: Said| Remark { request_id: "req_1".into(), choice: 0, said, comment: None };
        for (body, said) in [
            (r#""thumbs":"up""#, Said::Thumbs(true)),
            (r#""thumbs":"down","rating":null"#, Said::Thumbs(false)),
            (r#""rating":5"#, Said::Rating(5)),
            (r#""event":"regenerate""#, Said::Did(Doing::Regenerate)),
            (r#""demonstration":"Hello."#, Said::Demonstration("Hello.".into())),
            (r#""preferred_over":{"choice":1}"#, Said::Over { request_id: None, choice: 1 }),
            (r#""preferred_over":{"request_id":"req_2"}"#, Said::Over { request_id: Some("req_2".into()), choice: 0 }),
        ] {
            let end = if matches!(said, Said::Demonstration(_)) { "\"}" } else { "}" };
            assert_eq!(read(&format!(r#"{{"request_id":"req_1",{body}{end}"#)), Ok(remark(said)), "{body}");
        }
        let all = read(r#"{"request_id":"req_1","choice":2,"rating":1,"comment":"No é."}"#).unwrap();
        assert_eq!((all.choice, all.said, all.comment.as_deref()), (2, Said::Rating(1), Some("No é.")));
    }

    #[test]
    fn whatever_else_is_refused_with_its_place_and_without_its_text() {
        let long = format!(r#"{{"request_id":"r","thumbs":"up","comment":"{}"}}"#, "é".repeat(4001));
        for (body, told) in [
            ("[]", "must be an object"),
            ("{}", "request_id is missing"),
            (r#"{"request_id":""}"#, "request_id must be a non-empty string"),
            (r#"{"request_id":"r"}"#, "exactly one of `thumbs`, `rating`"),
            (r#"{"request_id":"r","comment":"secret"}"#, "exactly one of `thumbs`, `rating`"),
            (r#"{"request_id":"r","thumbs":"up","rating":4}"#, "exactly one of `thumbs`, `rating`"),
            (r#"{"request_id":"r","thumbs":"secret"}"#, "thumbs must be `up` or `down`"),
            (r#"{"request_id":"r","thumbs":true}"#, "thumbs must be `up` or `down`"),
            (r#"{"request_id":"r","rating":0}"#, "rating must be an integer from 1 to 5"),
            (r#"{"request_id":"r","rating":4.5}"#, "rating must be an integer from 1 to 5"),
            (r#"{"request_id":"r","event":"secret"}"#, "event must be `copy`, `share`"),
            (r#"{"request_id":"r","demonstration":" "}"#, "demonstration must be a text"),
            (r#"{"request_id":"r","demonstration":["secret"]}"#, "demonstration must be a string"),
            (r#"{"request_id":"r","preferred_over":"r2"}"#, "preferred_over must be an object"),
            (r#"{"request_id":"r","preferred_over":{"id":"r2"}}"#, "preferred_over must be without other members"),
            (r#"{"request_id":"r","thumbs":"up","choice":128}"#, "choice must be an integer from 0 to 127"),
            (r#"{"request_id":"r","thumbs":"up","secret":1}"#, "without other members than request_id, choice"),
            (r#"{"request_id":"r","thumbs":"up","thumbs":"down"}"#, "twice"),
            (long.as_str(), "comment must be at most 4000 characters long"),
        ] {
            let error = read(body).unwrap_err();
            assert!(error.contains(told) && !error.contains("secret"), "{body}: {error}");
        }
    }
}
