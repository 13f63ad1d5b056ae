//! What the commands print: progress on stderr, results on stdout.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use telic::returns::{PromptedReturn, RewardReturn};

/// A progress bar with an ETA, drawn only on a terminal.
pub(crate) fn progress_bar(total: u64, what: &'static str) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let style =
        ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {msg} [{elapsed} < {eta}]")
            .expect("the template is well formed");
    let bar = ProgressBar::with_draw_target(Some(total), target)
        .with_style(style)
        .with_prefix(what);
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

/// Ends the program where stdout takes nothing more, in place of a panic: quietly if nobody reads it any longer, as in
/// `telic envs | head -1`, else with a line on stderr.
pub(crate) fn leave_when_nobody_reads() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let message = panic.payload_as_str().unwrap_or_default();
        if message.starts_with("failed printing to stdout") {
            if message.contains("os error 32") {
                std::process::exit(0);
            }
            eprintln!("{message}");
            std::process::exit(1);
        }
        report(panic);
    }));
}

/// Prints one JSON document.
pub(crate) fn print_json(value: &impl Serialize) {
    println!(
        "{}",
        serde_json::to_string_pretty(value).expect("results are maps of text and numbers")
    );
}

/// Prints rows under a header, columns padded to their widest cell; the first column and those without a name are left aligned, others right.
pub(crate) fn print_table(header: &[&str], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<String> = cells
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, &width))| {
                if column == 0 || header[column].is_empty() {
                    format!("{cell:<width$}")
                } else {
                    format!("{cell:>width$}")
                }
            })
            .collect();
        println!("{}", cells.join("  ").trim_end());
    };
    line(&mut header.iter().copied());
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
}

/// A rate and its interval, in percent.
pub(crate) fn percent(rate: f64, interval: telic::interval::Interval) -> String {
    format!(
        "{:.1} % [{:.1}, {:.1}]",
        100.0 * rate,
        100.0 * interval.0,
        100.0 * interval.1
    )
}

/// An error and the causes that its message leaves out.
pub(crate) fn failure(error: &dyn std::error::Error) -> String {
    let mut text = format!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text.push_str("\ncaused by: ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}

/// A row per named reward.
pub(crate) fn print_returns(returns: &[RewardReturn], episodes: usize) {
    let rows: Vec<_> = returns
        .iter()
        .map(|row| return_cells(row, episodes))
        .collect();
    print_table(&RETURN_COLUMNS, &rows);
}

/// A row per reward that a policy was prompted with.
pub(crate) fn print_prompted_returns(returns: &[PromptedReturn], episodes: usize) {
    let rows: Vec<_> = returns
        .iter()
        .map(|row| {
            let mut cells = return_cells(&row.earned, episodes);
            cells.push(format!("{:.2}", row.r_squared));
            cells
        })
        .collect();
    let [reward, earned, count] = RETURN_COLUMNS;
    print_table(&[reward, earned, count, "R² of the prompt"], &rows);
}

const RETURN_COLUMNS: [&str; 3] = ["reward", "return [95 %]", "episodes"];

fn return_cells(row: &RewardReturn, episodes: usize) -> Vec<String> {
    let mean = row.mean;
    let interval = row.ci95.map_or(String::new(), |ci95| {
        format!(" [{:.1}, {:.1}]", ci95.0, ci95.1)
    });
    vec![
        row.reward.clone(),
        format!("{mean:.1}{interval}"),
        episodes.to_string(),
    ]
}
