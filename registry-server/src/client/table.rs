//! What a server said, for people: columns that stand below each other, and nothing that does something to a terminal.

use serde_json::Value;

use crate::{
    accounts::{list, scope},
    maintenance::moment,
};

/// A column: its title, the field it shows, and what stands for nothing.
#[derive(Clone, Copy)]
pub(super) struct Column {
    title: &'static str,
    field: &'static str,
    nothing: Option<&'static str>,
}

/// A column that is left out where no row has it.
pub(super) const fn column(title: &'static str, field: &'static str) -> Column {
    Column {
        title,
        field,
        nothing: None,
    }
}

impl Column {
    /// The column is there in any case, and says this where there is nothing.
    pub(super) const fn or(self, nothing: &'static str) -> Self {
        Self {
            nothing: Some(nothing),
            ..self
        }
    }

    fn of(&self, row: &Value) -> String {
        match &row[self.field] {
            Value::Null => self.nothing.unwrap_or("-").to_owned(),
            Value::String(time) if self.is_time() => plain(&moment(time)),
            value => cell(value),
        }
    }

    fn is_time(&self) -> bool {
        matches!(self.field, "at" | "since") || self.field.ends_with("_at")
    }

    fn is_shown(&self, rows: &[Value]) -> bool {
        self.nothing.is_some() || rows.iter().any(|row| !row[self.field].is_null())
    }
}

/// Rows below a line of titles.
pub(super) fn table(rows: &[Value], columns: &[Column]) -> String {
    if rows.is_empty() {
        return "there are none\n".to_owned();
    }
    let shown: Vec<&Column> = columns
        .iter()
        .filter(|column| column.is_shown(rows))
        .collect();
    let titles = shown.iter().map(|column| column.title.to_owned()).collect();
    let mut lines: Vec<Vec<String>> = vec![titles];
    lines.extend(
        rows.iter()
            .map(|row| shown.iter().map(|column| column.of(row)).collect()),
    );
    aligned(&lines)
}

/// One thing: a line for each of its fields, those that are named first in their order.
pub(super) fn fields(thing: &Value, columns: &[Column]) -> String {
    let one = std::slice::from_ref(thing);
    let shown = columns.iter().filter(|column| column.is_shown(one));
    let lines: Vec<Vec<String>> = shown
        .map(|column| vec![column.title.to_owned(), column.of(thing)])
        .collect();
    aligned(&lines)
}

fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |number: usize| {
        let cells = lines.iter().filter_map(|line| line.get(number));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let mut row = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            row.push_str(&format!("{cell:<width$}  "));
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(values) if values.is_empty() => "-".to_owned(),
        Value::Array(values) if values.iter().all(Value::is_string) => list(value),
        Value::Array(values) => values.iter().map(cell).collect::<Vec<_>>().join(" "),
        Value::Object(fields)
            if fields.contains_key("verbs") && fields.contains_key("repositories") =>
        {
            scope(value)
        }
        Value::Object(fields) if fields.values().all(Value::is_string) => {
            let pair = |(name, value)| format!("{name}={}", cell(value));
            fields.iter().map(pair).collect::<Vec<_>>().join(" ")
        }
        Value::Object(_) => value.to_string(),
    };
    match text.is_empty() {
        true => "-".to_owned(),
        false => plain(&text),
    }
}

/// A text in which what is no visible character is written out: others choose names, and terminals obey.
pub(crate) fn plain(text: &str) -> String {
    let is_odd = |character: char| {
        character.is_control()
            || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match is_odd(character) {
            true => safe.extend(character.escape_default()),
            false => safe.push(character),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COLUMNS: &[Column] = &[
        column("ID", "id"),
        column("NAME", "name"),
        column("UNTIL", "ends_at").or("for ever"),
        column("SCOPES", "scopes"),
        column("HINT", "hint"),
    ];

    #[test]
    fn columns_stand_below_each_other() {
        let rows = [
            json!({"id": 7, "name": "ä", "ends_at": null}),
            json!({"id": 12, "name": "", "ends_at": "2026-11-22T10:00:00.123456Z", "scopes": [{"verbs": ["read", "write"], "repositories": "a/**", "tags": ["v*"]}]}),
        ];
        assert_eq!(
            table(&rows, COLUMNS),
            "ID  NAME  UNTIL                 SCOPES\n\
             7   ä     for ever              -\n\
             12  -     2026-11-22T10:00:00Z  read,write:a/**:v*\n"
        );
        assert_eq!(
            fields(&rows[0], COLUMNS),
            "ID     7\nNAME   ä\nUNTIL  for ever\n"
        );
    }

    #[test]
    fn a_name_does_nothing_to_the_terminal() {
        let rows = [json!({"id": 1, "name": "\u{1b}[2Jx\ny\u{202e}z"})];
        let text = table(&rows, COLUMNS);
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("\\u{1b}[2Jx\\ny\\u{202e}z"), "{text}");
    }
}
