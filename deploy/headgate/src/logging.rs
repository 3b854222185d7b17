//! Logs on stderr: one JSON object per line when nobody watches (ts, level, target, msg, then the fields), readable
//! lines on a terminal. The surprise: a call site that repeats itself is cut to a few lines per second, and the next
//! line that passes says how many were left out, so that a fault in a hot path cannot fill a disk.

use std::collections::HashMap;
use std::fmt;
use std::io::{IsTerminal as _, stderr};
use std::sync::Mutex;
use std::time::Duration;

use headgate_schemas::Timestamp;
use headgate_schemas::time::now;
use serde_json::{Map, Value};
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::cli::Talk;

/// Environment variable with a filter of its own, like `headgate_relay=debug`.
pub(crate) const VARIABLE: &str = "HEADGATE_LOG";
/// Lines of one call site in one [`WINDOW`]; the rest are counted and left out.
const LINES: u32 = 50;
const WINDOW: Duration = Duration::from_secs(1);

/// Starts logging. `filter` is the value of [`VARIABLE`]; an unreadable one is reported as a line of the log.
pub(crate) fn start(talk: Talk, filter: Option<&str>) {
    let asked = filter.map(EnvFilter::try_new);
    let (filter, fault) = match asked {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new(default_filter(talk)), Some(error)),
        None => (EnvFilter::new(default_filter(talk)), None),
    };
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    if stderr().is_terminal() {
        logs.with_ansi(crate::output::colour(stderr().is_terminal())).with_target(false).init();
    } else {
        logs.fmt_fields(JsonFields::new()).event_format(JsonLines::default()).init();
    }
    if let Some(error) = fault {
        tracing::warn!(%error, "{VARIABLE} is not a filter and was left aside");
    }
}

const fn default_filter(talk: Talk) -> &'static str {
    match (talk.quiet, talk.verbose) {
        (true, _) => "error",
        (false, 0) => "info",
        (false, 1) => {
            "info,headgate=debug,headgate_gateway=debug,headgate_relay=debug,headgate_schemas=debug,headgate_bench=debug"
        }
        (false, 2) => "debug",
        (false, _) => "trace",
    }
}

/// Writes events as JSON lines.
#[derive(Default)]
struct JsonLines {
    repeats: Mutex<Repeats>,
}

impl<S> FormatEvent<S, JsonFields> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let at = now();
        let passed = self.repeats.lock().map_or(Some(0), |mut repeats| repeats.admit(event.metadata().callsite(), at));
        let Some(left_out) = passed else { return Ok(()) };
        let mut line = Line::default();
        for span in ctx.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(fields) = span.extensions().get::<FormattedFields<JsonFields>>()
                && let Ok(fields) = serde_json::from_str::<Map<String, Value>>(&fields.fields)
            {
                line.fields.extend(fields);
            }
        }
        event.record(&mut line);
        if left_out > 0 {
            line.fields.insert("left_out".to_owned(), left_out.into());
        }
        let meta = event.metadata();
        writeln!(writer, "{}", line.render(at, meta.level().as_str(), meta.target()))
    }
}

/// One line in the making.
#[derive(Default)]
struct Line {
    message: String,
    fields: Map<String, Value>,
}

impl Line {
    /// The line: the four fixed keys first, then the fields.
    fn render(&self, at: Timestamp, level: &str, target: &str) -> String {
        let text = |text: &str| Value::from(text).to_string();
        let mut line = format!(
            "{{\"ts\":{},\"level\":{},\"target\":{},\"msg\":{}",
            text(&at.to_string()),
            text(&level.to_lowercase()),
            text(target),
            text(&self.message)
        );
        for (name, value) in &self.fields {
            line.push(',');
            line.push_str(&text(name));
            line.push(':');
            line.push_str(&value.to_string());
        }
        line.push('}');
        line
    }

    fn set(&mut self, field: &Field, value: Value) {
        self.fields.insert(field.name().to_owned(), value);
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" { self.message = value.to_owned() } else { self.set(field, value.into()) }
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value.into());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value.into());
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" { self.message = text } else { self.set(field, text.into()) }
    }
}

/// Lines per call site in the current window. Grows with the call sites of the program, which are a fixed number.
#[derive(Debug, Default)]
struct Repeats {
    windows: HashMap<Identifier, Window>,
}

#[derive(Debug)]
struct Window {
    began: Timestamp,
    passed: u32,
    left_out: u64,
}

impl Repeats {
    /// Whether a line of `site` passes at `now`, and how many were left out before it.
    fn admit(&mut self, site: Identifier, now: Timestamp) -> Option<u64> {
        let window = self.windows.entry(site).or_insert(Window { began: now, passed: 0, left_out: 0 });
        if now.since(window.began) >= WINDOW {
            let left_out = window.left_out;
            *window = Window { began: now, passed: 1, left_out: 0 };
            return Some(left_out);
        }
        if window.passed < LINES {
            window.passed += 1;
            return Some(0);
        }
        window.left_out += 1;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_json_with_the_fixed_keys_first() {
        let mut line = Line { message: "say \"hi\"\n".to_owned(), ..Line::default() };
        line.fields.insert("count".to_owned(), 3.into());
        let text = line.render(Timestamp::from_secs(0), "WARN", "headgate");
        assert_eq!(
            text,
            "{\"ts\":\"1970-01-01T00:00:00.000000Z\",\"level\":\"warn\",\"target\":\"headgate\",\
             \"msg\":\"say \\\"hi\\\"\\n\",\"count\":3}"
        );
    }

    #[test]
    fn a_call_site_that_repeats_itself_is_cut_and_counted() {
        let event = tracing::callsite!(name: "test", kind: tracing::metadata::Kind::EVENT, fields: message);
        let site = || Identifier(event);
        let mut repeats = Repeats::default();
        let at = Timestamp::from_millis;
        let passed = (0..80).filter(|_| repeats.admit(site(), at(0)).is_some()).count();
        assert_eq!(passed, 50);
        assert_eq!(repeats.admit(site(), at(999)), None);
        assert_eq!(repeats.admit(site(), at(1_000)), Some(31));
        assert_eq!(repeats.admit(site(), at(1_001)), Some(0));
    }
}
