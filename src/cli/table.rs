//! Tables for a terminal: columns as wide as what is in them.

/// Rows of text under a head. The first column is set left, and so is every one with a word in it; numbers are set right.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|&cell| cell.to_owned()).collect()] }
    }

    /// A row of as many cells as the head has.
    pub(super) fn row(&mut self, cells: &[&str]) {
        self.rows.push(cells.iter().map(|&cell| cell.to_owned()).collect());
    }

    /// The table, a line a row, without blanks at the ends of lines.
    pub(super) fn told(&self) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |cell: &String| cell.chars().count();
        let widths: Vec<usize> = (0..columns)
            .map(|column| self.rows.iter().filter_map(|row| row.get(column)).map(width).max().unwrap_or(0))
            .collect();
        let numeric: Vec<bool> = (0..columns)
            .map(|column| {
                let mut cells =
                    self.rows.iter().skip(1).filter_map(|row| row.get(column)).filter(|cell| !cell.is_empty());
                column > 0 && cells.clone().count() > 0 && cells.all(|cell| cell.parse::<f64>().is_ok())
            })
            .collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).zip(&numeric).map(|((cell, width), numeric)| {
                if *numeric { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
        };
        self.rows.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_under_each_other() {
        let mut table = Table::new(&["rule", "rows", "what"]);
        table.row(&["a", "7", "é"]);
        table.row(&["longer", "1234", "word"]);
        assert_eq!(table.told(), "rule    rows  what\na          7  é\nlonger  1234  word\n");
    }
}
