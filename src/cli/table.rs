//! Tables without lines, with a header in upper case.

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, Color, Table as Inner};

use super::console::Paint;

/// A table.
pub struct Table(Inner);

impl Table {
    /// A table with this header.
    pub fn new(header: &[&str], paint: Paint) -> Self {
        let mut inner = Inner::new();
        inner.load_style(NOTHING);
        if paint.0 {
            inner.enforce_styling();
        } else {
            inner.force_no_tty();
        }
        if !header.is_empty() {
            inner.set_header(header.to_vec());
        }
        Self(inner)
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.0.add_row(cells);
    }

    /// The text, lines ended.
    pub fn render(mut self) -> String {
        for column in self.0.column_iter_mut() {
            column.set_padding((0, 2));
        }
        format!("{}\n", self.0.trim_fmt())
    }
}

/// A plain cell.
pub fn cell(text: impl ToString) -> Cell {
    Cell::new(text)
}

/// A cell that may be empty.
pub fn maybe(text: Option<impl ToString>) -> Cell {
    Cell::new(text.map_or_else(|| "-".to_owned(), |text| text.to_string()))
}

/// A tenant's state, in colour where it wants attention.
pub fn state(state: &str) -> Cell {
    let cell = Cell::new(state);
    match state {
        "running" => cell.fg(Color::Green),
        "failed" => cell.fg(Color::Red),
        "restarting" | "suspended" | "terminated" => cell.fg(Color::Yellow),
        _ => cell,
    }
}
