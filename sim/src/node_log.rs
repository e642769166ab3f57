//! What nodes log with `tracing` (feature `tracing`): collected in the run that is reported, for
//! its trace, and dropped in every other.

/// One event.
#[derive(Clone, Debug)]
pub(crate) struct LogLine {
    /// `info`, for example.
    pub(crate) level: &'static str,
    /// Target, spans, message and fields, on one line.
    pub(crate) text: String,
}

#[cfg(feature = "tracing")]
pub(crate) use collecting::{collect, in_run, take};

#[cfg(not(feature = "tracing"))]
pub(crate) use absent::{collect, in_run, take};

/// Without the feature nothing is collected.
#[cfg(not(feature = "tracing"))]
mod absent {
    use super::LogLine;

    pub(crate) fn collect<T>(run: impl FnOnce() -> T) -> (T, Vec<LogLine>) {
        (run(), Vec::new())
    }

    #[inline(always)]
    pub(crate) fn in_run<T>(run: impl FnOnce() -> T) -> T {
        run()
    }

    #[inline(always)]
    pub(crate) fn take() -> Vec<LogLine> {
        Vec::new()
    }
}

#[cfg(feature = "tracing")]
mod collecting {
    use std::cell::{Cell, RefCell};
    use std::fmt::{self, Write};

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::subscriber::{NoSubscriber, with_default};
    use tracing::{Event, Level, Metadata, Subscriber};

    use super::LogLine;

    thread_local! {
        /// Whether the run in this thread is the reported one.
        static IS_REPORTED: Cell<bool> = const { Cell::new(false) };
        static LINES: RefCell<Vec<LogLine>> = const { RefCell::new(Vec::new()) };
        static SPANS: RefCell<Spans> = const { RefCell::new(Spans { all: Vec::new(), entered: Vec::new() }) };
    }

    #[derive(Default)]
    struct Spans {
        /// The text of each span, by its id - 1.
        all: Vec<String>,
        entered: Vec<u64>,
    }

    /// Runs the run that is reported. Returns also the lines that [`take`] has left.
    pub(crate) fn collect<T>(run: impl FnOnce() -> T) -> (T, Vec<LogLine>) {
        LINES.with_borrow_mut(Vec::clear);
        SPANS.with_borrow_mut(|spans| *spans = Spans::default());
        IS_REPORTED.set(true);
        let result = with_default(Collector, run);
        IS_REPORTED.set(false);
        (result, take())
    }

    /// Runs any run. A subscriber of the whole program receives nothing of it: a hunt has thousands
    /// of runs, and in none of them is it the time of that program.
    pub(crate) fn in_run<T>(run: impl FnOnce() -> T) -> T {
        if IS_REPORTED.get() { run() } else { with_default(NoSubscriber::default(), run) }
    }

    /// The lines since the last call.
    pub(crate) fn take() -> Vec<LogLine> {
        LINES.with_borrow_mut(std::mem::take)
    }

    /// All of its state belongs to the thread, as a run does.
    struct Collector;

    impl Subscriber for Collector {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            // Other subscribers of this program choose levels; a trace is filtered when it is
            // shown.
            true
        }

        fn new_span(&self, span: &Attributes<'_>) -> Id {
            let mut fields = Fields::default();
            span.record(&mut fields);
            let name = span.metadata().name();
            let text = fields.text();
            let text = if text.is_empty() { name.to_string() } else { format!("{name}{{{text}}}") };
            SPANS.with_borrow_mut(|spans| {
                spans.all.push(text);
                Id::from_u64(spans.all.len() as u64)
            })
        }

        fn record(&self, span: &Id, values: &Record<'_>) {
            let mut fields = Fields::default();
            values.record(&mut fields);
            SPANS.with_borrow_mut(|spans| {
                if let Some(text) = spans.all.get_mut(index(span)) {
                    write!(text, "{{{}}}", fields.text()).expect("writing to a string");
                }
            });
        }

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &Event<'_>) {
            let mut fields = Fields::default();
            event.record(&mut fields);
            let mut text = String::new();
            SPANS.with_borrow(|spans| {
                for id in &spans.entered {
                    let span = spans.all.get(*id as usize - 1).map_or("", String::as_str);
                    write!(text, "{span}: ").expect("writing to a string");
                }
            });
            text += &fields.text();
            let text = format!("{}: {text}", event.metadata().target()).replace('\n', " ");
            let level = level_name(*event.metadata().level());
            LINES.with_borrow_mut(|lines| lines.push(LogLine { level, text }));
        }

        fn enter(&self, span: &Id) {
            SPANS.with_borrow_mut(|spans| spans.entered.push(span.into_u64()));
        }

        fn exit(&self, span: &Id) {
            SPANS.with_borrow_mut(|spans| {
                if let Some(at) = spans.entered.iter().rposition(|id| *id == span.into_u64()) {
                    spans.entered.remove(at);
                }
            });
        }
    }

    fn index(span: &Id) -> usize {
        span.into_u64() as usize - 1
    }

    fn level_name(level: Level) -> &'static str {
        match level {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        }
    }

    /// The message and the fields of an event or a span.
    #[derive(Default)]
    struct Fields {
        message: String,
        others: String,
    }

    impl Fields {
        fn text(self) -> String {
            let separator =
                if self.message.is_empty() || self.others.is_empty() { "" } else { " " };
            self.message + separator + &self.others
        }
    }

    impl Visit for Fields {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            if field.name() == "message" {
                write!(self.message, "{value:?}")
            } else {
                let separator = if self.others.is_empty() { "" } else { " " };
                write!(self.others, "{separator}{}={value:?}", field.name())
            }
            .expect("writing to a string");
        }
    }
}
