//! Log messages on standard error.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use super::CliError;

/// Why a text is not a filter of log messages.
#[derive(Debug, thiserror::Error)]
pub(super) enum ParseFilterError {
    #[error(
        "{0:?} is not a level; expected off, error, warn, info, debug or trace, or WHERE=LEVEL like stormglass=debug"
    )]
    NotALevel(String),
    #[error(transparent)]
    Filter(#[from] tracing_subscriber::filter::ParseError),
}

/// A valid filter. A single word that is not a level would be taken for a module name, and all
/// other messages would be suppressed.
pub(super) fn filter(text: &str) -> Result<String, ParseFilterError> {
    // With `=` or `[` a part names a module or a span; without, only a level makes sense.
    let mut bare_words = text.split(',').filter(|part| !part.contains(['=', '[']));
    if let Some(word) = bare_words.find(|word| word.parse::<LevelFilter>().is_err()) {
        return Err(ParseFilterError::NotALevel(word.to_owned()));
    }
    EnvFilter::try_new(text)?;
    Ok(text.to_owned())
}

pub(super) fn start(filter: &str, json: bool) -> Result<(), CliError> {
    let filter = EnvFilter::try_new(filter)?;
    let to_stderr = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if json {
        to_stderr.json().try_init()
    } else {
        // Standard output is for results. Colours would be bytes in a log file.
        to_stderr.with_target(false).with_ansi(false).try_init()
    };
    started.map_err(|error| format!("cannot log: {error}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_log_level_is_refused() {
        for text in [
            "off",
            "WARN",
            "info,stormglass=debug",
            "stormglass_node::runtime=trace",
            "warn,tokio=off",
        ] {
            assert_eq!(filter(text).expect("a filter"), text);
        }
        for text in ["banana", "info,banana", "stormglass", "stormglass=banana"] {
            filter(text).expect_err(text);
        }
    }
}
