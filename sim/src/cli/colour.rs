//! Colours of a trace.

use std::fmt::Write as _;
use std::io::Write as _;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

use super::args::Color;
use super::say;
use crate::trace::{Look, ShownTrace};

/// The lines of a trace, with the codes of a terminal.
pub(super) fn trace(shown: &ShownTrace<'_>) -> String {
    let mut text = String::new();
    for line in shown.lines() {
        let style = style_of(line.look());
        writeln!(text, "{style}{}{style:#}", line.text()).expect("writing to a string");
    }
    text
}

/// The last line of a trace.
pub(super) fn verdict(verdict: &str, is_violation: bool) -> String {
    let colour = if is_violation { AnsiColor::Red } else { AnsiColor::Green };
    let style = colour.on_default().bold();
    format!("{style}{verdict}{style:#}")
}

fn style_of(look: Look) -> Style {
    match look {
        Look::Plain => Style::new(),
        Look::Client => AnsiColor::Cyan.on_default(),
        Look::Report => Style::new().dimmed(),
        Look::Fault => AnsiColor::Yellow.on_default(),
        Look::Crash => AnsiColor::Red.on_default(),
        Look::Run => Style::new().bold(),
    }
}

/// Prints a text with such codes, or without them where they would only disturb.
pub(super) fn print(color: Color, text: &str) {
    let choice = match color {
        // Respects NO_COLOR, CLICOLOR_FORCE and dumb terminals.
        Color::Auto => AutoStream::choice(&std::io::stdout()),
        Color::Always => ColorChoice::AlwaysAnsi,
        Color::Never => ColorChoice::Never,
    };
    let mut out = AutoStream::new(Vec::new(), choice);
    out.write_all(text.as_bytes()).expect("writing to memory");
    let text = String::from_utf8_lossy(&out.into_inner()).into_owned();
    say::text(format_args!("{text}"));
}
