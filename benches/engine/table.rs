//! One table of the report.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// Rows of figures under a title.
pub(crate) struct Table {
    title: String,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(title: &str, head: &[&str]) -> Table {
        let head = head.iter().map(|name| (*name).to_owned()).collect();
        Table { title: title.to_owned(), head, rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("### {}\n\n| {} |\n|", self.title, self.head.join(" | "));
        for at in 0..self.head.len() {
            text.push_str(if at == 0 { " --- |" } else { " ---: |" });
        }
        text.push('\n');
        for row in &self.rows {
            let _ = writeln!(text, "| {} |", row.join(" | "));
        }
        text
    }

    pub(crate) fn json(&self) -> Value {
        json!({ "title": self.title, "head": self.head, "rows": self.rows })
    }
}

/// Milliseconds with as many digits as mean something.
pub(crate) fn ms(value: Option<f64>) -> String {
    value.map_or_else(
        || "-".to_owned(),
        |value| if value.abs() < 10.0 { format!("{value:.2}") } else { format!("{value:.0}") },
    )
}
