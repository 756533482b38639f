//! Results on stdout, as people or programs want them.

use std::io::Write;

use serde::Serialize;

use crate::Failure;
use crate::cli::Output;

/// Prints a result. A reader that has gone (`portolan lab status | head -1`) has what it wanted.
pub fn print(output: Output, table: &dyn std::fmt::Display, data: &impl Serialize) -> Result<(), Failure> {
    let text = match output {
        Output::Table => table.to_string(),
        Output::Json => serde_json::to_string_pretty(data).map_err(|e| Failure::new("writing JSON", &e))? + "\n",
        Output::Yaml => serde_saphyr::to_string(data).map_err(|e| Failure::new("writing YAML", &e))?,
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::new("writing to stdout", &error)),
        _ => Ok(()),
    }
}
