//! What is sent, on how many connections, and how the upstream answers it.

use std::time::Duration;

use crate::upstream::Script;

/// One row of work.
pub(crate) struct Scenario {
    /// Its name on the command line and in the report.
    pub(crate) name: &'static str,
    /// What it is, in words.
    pub(crate) what: &'static str,
    /// Kept-alive connections, each with one request under way.
    pub(crate) connections: usize,
    /// Length of the user's message; the body is about 190 bytes longer.
    pub(crate) prompt_bytes: usize,
    /// The answer asked for.
    pub(crate) kind: Kind,
    /// Whether `--quick` runs it.
    pub(crate) quick: bool,
}

/// The answer asked for.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// One JSON body of about 655 bytes.
    Whole,
    /// Events, each its own write.
    Streamed(Script),
}

impl Kind {
    /// Whether it is a stream.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self, Kind::Streamed(_))
    }
}

const SMALL: usize = 1090;
const LARGE: usize = 8900;
const AT_ONCE: Script = Script { events: 64, first: Duration::ZERO, gap: Duration::ZERO, hostile_at: None };
const PACED: Script =
    Script { events: 64, first: Duration::from_millis(30), gap: Duration::from_millis(5), hostile_at: None };

/// All scenarios, in the order of the report.
pub(crate) const SCENARIOS: [Scenario; 7] = [
    Scenario {
        name: "small_c1",
        what: "request 1.36 KB, answer 655 B, 1 connection",
        connections: 1,
        prompt_bytes: SMALL,
        kind: Kind::Whole,
        quick: true,
    },
    Scenario {
        name: "small_c32",
        what: "request 1.36 KB, answer 655 B, 32 connections",
        connections: 32,
        prompt_bytes: SMALL,
        kind: Kind::Whole,
        quick: true,
    },
    Scenario {
        name: "large_c1",
        what: "request 9 KB, answer 655 B, 1 connection",
        connections: 1,
        prompt_bytes: LARGE,
        kind: Kind::Whole,
        quick: false,
    },
    Scenario {
        name: "large_c32",
        what: "request 9 KB, answer 655 B, 32 connections",
        connections: 32,
        prompt_bytes: LARGE,
        kind: Kind::Whole,
        quick: false,
    },
    Scenario {
        name: "stream_c1",
        what: "stream of 64 content events at once, each its own write, 1 re-used connection",
        connections: 1,
        prompt_bytes: SMALL,
        kind: Kind::Streamed(AT_ONCE),
        quick: true,
    },
    Scenario {
        name: "stream_c32",
        what: "stream of 64 content events at once, each its own write, 32 re-used connections",
        connections: 32,
        prompt_bytes: SMALL,
        kind: Kind::Streamed(AT_ONCE),
        quick: false,
    },
    Scenario {
        name: "paced_c16",
        what: "stream of 64 content events, first after 30 ms, then each 5 ms, 16 re-used connections",
        connections: 16,
        prompt_bytes: SMALL,
        kind: Kind::Streamed(PACED),
        quick: false,
    },
];
