//! Outcomes as tables: for a terminal, and as the report that is checked in. Text only; printing is the program's.
//!
//! The surprising thing: nothing is rounded to look well. A promise that was broken stands in the report as such.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::outcome::{Figures, Outcome};
use super::{Machine, Options};

/// The head of the columns that both tables have.
const COLUMNS: [&str; 10] =
    ["attack", "valid/s", "p50", "p95", "p99", "max", "p99 quiet", "not accepted", "memory", "CPU/event"];

/// One line per attack, then what was promised and is broken.
pub fn table(outcomes: &[Outcome]) -> String {
    let rows = outcomes.iter().map(row);
    let mut out = line(&COLUMNS.map(str::to_owned));
    for row in rows {
        out += &line(&row);
    }
    for outcome in outcomes {
        for promise in outcome.promises.iter().filter(|promise| !promise.kept) {
            let (attack, what) = (outcome.attack, promise.what);
            say(
                &mut out,
                format_args!(
                    "broken  {attack}: {what}: {} (bound {})\n",
                    figure(promise.measured),
                    figure(promise.bound)
                ),
            );
        }
    }
    out
}

/// The report: machine, command, table, every promise.
pub fn markdown(machine: &Machine, command: &str, options: &Options, outcomes: &[Outcome]) -> String {
    let Machine { processor, cores, memory_gib, kernel, commit, profile } = machine;
    let seconds = options.time.as_secs();
    let mut out = format!(
        "# The gateway under attack\n\n\
         Made by `{command}`; do not edit.\n\n\
         {cores} cores of {processor}, {memory_gib} GiB, Linux {kernel}; commit {commit}, {profile} build. Gateway (stream \
         with fsync, {} accounts behind one URL) and generator share the cores. Valid traffic: {} requests a second by \
         schedule, every tenth with 20 events, {seconds} s in quiet and {seconds} s beside the attack, longer where \
         that needs it to be whole; latencies are those from when a request was due, CPU is everything the gateway did beside the attack per accepted event. \
         Attacks have rates (`bench/src/attack/hostile`), so that the generator leaves the gateway its share of the \
         cores.\n\n\
         For the overload the gateway has the first core and the generator the others, in all phases. Every call has a \
         hundred events. The capacity is what {} connections get that send again as soon as they are answered; five \
         times that is sent by schedule over up to {}. Both take turns, {} each, and are counted until their last \
         acceptance. `p99 quiet` is that of the capacity there.\n\n",
        super::call::ACCOUNTS,
        options.rate,
        super::CAPACITY_SENDERS,
        super::OVERLOAD_SENDERS,
        super::TURNS
    );
    say(&mut out, format_args!("| {} | verdict |\n|{}\n", COLUMNS.join(" | "), "---|".repeat(COLUMNS.len() + 1)));
    for outcome in outcomes {
        let verdict = if outcome.kept() { "kept" } else { "**broken**" };
        say(&mut out, format_args!("| {} | {verdict} |\n", row(outcome).join(" | ")));
    }
    for outcome in outcomes {
        let told = statuses(&outcome.attackers_told);
        say(&mut out, format_args!("\n## {}\n\n", outcome.attack));
        say(&mut out, format_args!("Valid requests: {}. ", sentence(&outcome.attacked)));
        say(
            &mut out,
            format_args!("Attackers: {told}, {} connections cut without an answer.\n\n", outcome.attackers_cut),
        );
        out += "| promise | measured | bound | |\n|---|---|---|---|\n";
        for promise in &outcome.promises {
            let kept = if promise.kept { "kept" } else { "**broken**" };
            let (measured, bound) = (figure(promise.measured), figure(promise.bound));
            say(&mut out, format_args!("| {} | {measured} | {bound} | {kept} |\n", promise.what));
        }
    }
    out
}

fn row(outcome: &Outcome) -> [String; 10] {
    let Outcome { attack, quiet, attacked, memory_mib, .. } = outcome;
    let ms = |ms: f64| format!("{ms:.1} ms");
    [
        (*attack).to_owned(),
        format!("{:.0}", attacked.accepted_per_s),
        ms(attacked.p50_ms),
        ms(attacked.p95_ms),
        ms(attacked.p99_ms),
        ms(attacked.max_ms),
        ms(quiet.p99_ms),
        attacked.refused().to_string(),
        format!("{memory_mib:.0} MiB"),
        format!("{:.0} µs", attacked.cpu_us_per_event),
    ]
}

fn line(cells: &[String; 10]) -> String {
    let mut out = format!("{:<17}", cells[0]);
    for cell in &cells[1..] {
        say(&mut out, format_args!("{cell:>13}"));
    }
    out + "\n"
}

fn sentence(figures: &Figures) -> String {
    let Figures { due, accepted, broken, held_back, .. } = figures;
    let statuses = statuses(&figures.statuses);
    format!(
        "{due} due, {accepted} accepted ({statuses}; {broken} without an answer, {held_back} held back by their senders)"
    )
}

fn statuses(statuses: &BTreeMap<u16, u64>) -> String {
    let name = |status: &u16| if *status == 0 { "GOAWAY".to_owned() } else { status.to_string() };
    let all: Vec<String> = statuses.iter().map(|(status, count)| format!("{count} × {}", name(status))).collect();
    if all.is_empty() { "no answer".to_owned() } else { all.join(", ") }
}

/// Whole numbers as such, others with two digits.
fn figure(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

fn say(out: &mut String, text: std::fmt::Arguments<'_>) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok(), "text takes any text");
}

#[cfg(test)]
mod tests {
    use super::super::{Attack, Seen};
    use super::*;

    #[test]
    fn a_report_names_every_promise_and_a_table_what_is_broken() {
        let outcome = Outcome::of(Attack::Slow, &Seen::default());
        let text = table(std::slice::from_ref(&outcome));
        assert!(text.starts_with("attack") && text.contains("\nslow "), "{text}");
        // Nothing was measured, so the attack was not withstood.
        assert!(text.contains("broken  slow: a valid call afterwards is accepted: 0 (bound 1)"), "{text}");
        assert!(!text.contains("broken  slow: accepted events that are lost"), "{text}");
        let machine = Machine {
            processor: "Example".to_owned(),
            cores: 2,
            memory_gib: 4,
            kernel: "6.1".to_owned(),
            commit: "abc".to_owned(),
            profile: "debug",
        };
        let options = Options {
            program: super::super::Program { path: "headgate".into(), args: Vec::new() },
            folder: "data".into(),
            time: std::time::Duration::from_secs(10),
            rate: 500,
        };
        let report = markdown(&machine, "headgate bench gateway", &options, std::slice::from_ref(&outcome));
        for promise in &outcome.promises {
            assert!(report.contains(&format!("| {} |", promise.what)), "{}", promise.what);
        }
        assert!(report.contains("2 cores of Example, 4 GiB, Linux 6.1; commit abc, debug build."), "{report}");
    }
}
