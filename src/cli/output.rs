//! What most commands do with an answer: print it as it is, or as a text for people.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::client::{Client, ClientError};
use super::console::Console;
use super::error::CliError;
use crate::api::Problem;

/// Asks for a document and prints it: unchanged as JSON, or as `render` shows it.
pub async fn show<T: DeserializeOwned>(
    client: &Client,
    console: Console,
    path: &str,
    as_json: bool,
    render: impl FnOnce(T) -> String,
) -> Result<(), CliError> {
    let document: Value = client.get(path).await?;
    if as_json {
        return console.print(&json(&document));
    }
    console.print(&render(understood(document)?))
}

/// The document as this version knows it.
pub fn understood<T: DeserializeOwned>(document: Value) -> Result<T, CliError> {
    Ok(serde_json::from_value(document).map_err(ClientError::Answer)?)
}

/// A document as JSON for reading.
///
/// # Panics
/// Never: the API's documents have text keys and no values that JSON lacks.
pub fn json(document: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(document).expect("documents are plain values");
    text + "\n"
}

/// Fine if nothing failed.
pub fn all_well(failures: Vec<Problem>, total: usize) -> Result<(), CliError> {
    if failures.is_empty() {
        return Ok(());
    }
    Err(CliError::Several { failures, total })
}
