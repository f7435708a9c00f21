//! `top`: what tenants use, live on a terminal.
//! Rates are differences of two reports; the daemon counts.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::IsTerminal;
use std::time::Duration;

use comfy_table::{Cell, Color};
use serde::Serialize;

use super::args::TopArgs;
use super::client::Client;
use super::console::{Console, Paint};
use super::error::CliError;
use super::human::{age, bytes};
use super::output;
use super::table::{Table, cell, maybe, state};
use crate::api::{StorageUsage, TenantUsage, UsageReport};

/// From one look to the next.
const PAUSE: Duration = Duration::from_secs(2);

/// The first look of all has nothing to be compared with: the second comes soon.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Moves to the upper left corner and clears what is below (ECMA-48, CUP and ED).
const HOME: &str = "\u{1b}[H\u{1b}[J";

/// What a tenant uses, with its rates since the look before.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Line {
    #[serde(flatten)]
    usage: TenantUsage,
    /// Percent of one processor.
    cpu_percent: Option<f64>,
    /// Bytes read from disks per second.
    read_rate: Option<f64>,
    /// Bytes written to disks per second.
    write_rate: Option<f64>,
}

/// Runs the command until it is interrupted, or shows one look.
pub async fn run(client: &Client, console: Console, args: TopArgs) -> Result<(), CliError> {
    let path = match &args.tenant {
        Some(tenant) => format!("/v1/usage?tenant={tenant}"),
        None => "/v1/usage".to_owned(),
    };
    let mut before: UsageReport = client.get(&path).await?;
    let is_live = std::io::stdout().is_terminal() && !args.output.json;
    let mut pause = FIRST_PAUSE;
    loop {
        tokio::time::sleep(pause).await;
        pause = PAUSE;
        let now: UsageReport = client.get(&path).await?;
        let lines = lines(&before, &now);
        if args.output.json {
            // A document per look: one line each when they go on.
            let text = if args.once {
                output::json(&lines)
            } else {
                serde_json::to_string(&lines).unwrap_or_default() + "\n"
            };
            console.print(&text)?;
        } else {
            let clear = if is_live && !args.once { HOME } else { "" };
            let shown = shown(&lines, &now, console.out);
            console.print(&format!("{clear}{shown}"))?;
        }
        if args.once {
            return Ok(());
        }
        before = now;
    }
}

/// What each tenant uses, the busiest first.
fn lines(before: &UsageReport, now: &UsageReport) -> Vec<Line> {
    let seconds = now.at.duration_since(before.at).as_secs_f64();
    let earlier: BTreeMap<_, _> = before
        .tenants
        .iter()
        .map(|usage| (usage.id.as_str(), usage))
        .collect();
    let mut lines: Vec<_> = now
        .tenants
        .iter()
        .map(|usage| {
            let then = earlier.get(usage.id.as_str());
            let rate = |of: fn(&TenantUsage) -> Option<u64>| {
                // A slice that was made anew counts from zero.
                let more = of(usage)?.checked_sub(of(then?)?)?;
                (seconds > 0.0).then(|| approximate(more) / seconds)
            };
            Line {
                cpu_percent: rate(|usage| usage.cpu_us).map(|us| us / 10_000.0),
                read_rate: rate(|usage| usage.read_bytes),
                write_rate: rate(|usage| usage.written_bytes),
                usage: usage.clone(),
            }
        })
        .collect();
    // By what is shown, so that lines of the same number do not dance.
    let shown = |line: &Line| tenths(line.cpu_percent.unwrap_or(-1.0));
    lines.sort_by_key(|line| (Reverse(shown(line)), line.usage.id.clone()));
    lines
}

#[expect(
    clippy::cast_precision_loss,
    reason = "rates are shown with few digits"
)]
fn approximate(count: u64) -> f64 {
    count as f64
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "as many tenths as are shown"
)]
fn tenths(value: f64) -> i64 {
    (value * 10.0).round() as i64
}

fn shown(lines: &[Line], now: &UsageReport, paint: Paint) -> String {
    if lines.is_empty() {
        return "There are no tenants yet; `tenantd apply FILE` makes one.\n".to_owned();
    }
    let header = [
        "TENANT", "STATE", "CPU", "MEMORY", "TASKS", "PRESSURE", "READ", "WRITE", "STORAGE",
        "EGRESS",
    ];
    let mut table = Table::new(&header, paint);
    for line in lines {
        let usage = &line.usage;
        table.row(vec![
            cell(&usage.id),
            state(&usage.state),
            maybe(cpu(line)),
            of(
                usage.memory_bytes.map(bytes),
                usage.memory_limit_bytes.map(bytes),
            ),
            of(usage.pids, usage.pids_limit),
            maybe(pressure(usage)),
            maybe(line.read_rate.map(rate)),
            maybe(line.write_rate.map(rate)),
            storage(usage.storage.as_ref()),
            // Counted once there is a way out.
            maybe(None::<String>),
        ]);
    }
    let mut text = table.render();
    for line in lines {
        if let Some(sleep) = line.usage.sleep {
            let (id, tier) = (&line.usage.id, sleep.tier.as_str());
            let _ = writeln!(text, "{id}: {tier}, {}", age(now.at, sleep.since));
        }
        let old = line.usage.storage.filter(|found| !found.kept);
        if let Some(at) = old.and_then(|found| found.at) {
            let _ = writeln!(
                text,
                "{}: storage as of its newest snapshot, {}",
                line.usage.id,
                age(now.at, at)
            );
        }
    }
    text
}

/// Percent of one processor, and of how many it may use.
fn cpu(line: &Line) -> Option<String> {
    let used = line.cpu_percent?;
    Some(match line.usage.cpu_limit_millis {
        Some(limit) => format!("{used:.1} of {} %", limit / 10),
        None => format!("{used:.1} %"),
    })
}

fn of(used: Option<impl ToString>, limit: Option<impl ToString>) -> Cell {
    maybe(used.map(|used| match limit {
        Some(limit) => format!("{} of {}", used.to_string(), limit.to_string()),
        None => used.to_string(),
    }))
}

/// The largest of the three, and what for: most are zero most of the time.
fn pressure(usage: &TenantUsage) -> Option<String> {
    let all = [
        ("cpu", usage.cpu_pressure),
        ("memory", usage.memory_pressure),
        ("disk", usage.io_pressure),
    ];
    let known = all
        .into_iter()
        .filter_map(|(what, some)| Some((what, some?)));
    let (what, most) = known.max_by(|(_, a), (_, b)| a.total_cmp(b))?;
    Some(if most < 0.05 {
        "0 %".to_owned()
    } else {
        format!("{what} {most:.1} %")
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is not negative, and bytes per second are whole"
)]
fn rate(per_second: f64) -> String {
    format!("{}/s", bytes(per_second as u64))
}

fn storage(storage: Option<&StorageUsage>) -> Cell {
    let Some(found) = storage else {
        return maybe(None::<String>);
    };
    let told = of(found.used_bytes.map(bytes), Some(bytes(found.limit_bytes)));
    if found.is_nearly_full() {
        told.fg(Color::Yellow)
    } else {
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::samples;

    fn usage(id: &str, cpu_us: u64) -> TenantUsage {
        TenantUsage {
            id: id.to_owned(),
            state: "running".to_owned(),
            plan: Some("pro".to_owned()),
            cpu_us: Some(cpu_us),
            cpu_limit_millis: Some(1000),
            memory_bytes: Some(316 << 20),
            memory_limit_bytes: Some(3 << 30),
            pids: Some(23),
            pids_limit: Some(1024),
            read_bytes: Some(1 << 20),
            written_bytes: Some(cpu_us),
            cpu_pressure: Some(0.0),
            memory_pressure: Some(12.34),
            io_pressure: Some(1.5),
            storage: Some(StorageUsage {
                used_bytes: Some(21 << 30),
                limit_bytes: 25 << 30,
                kept: true,
                at: Some(samples::now()),
            }),
            ..TenantUsage::default()
        }
    }

    fn report(seconds: i64, tenants: Vec<TenantUsage>) -> UsageReport {
        UsageReport {
            at: samples::now() + jiff::SignedDuration::from_secs(seconds),
            tenants,
        }
    }

    #[test]
    fn the_busiest_comes_first_with_what_it_did_since_the_last_look() {
        let idle = TenantUsage {
            id: "idle".to_owned(),
            state: "stopped".to_owned(),
            storage: Some(StorageUsage {
                used_bytes: Some(5 << 20),
                limit_bytes: 10 << 30,
                kept: false,
                at: Some(samples::at("2026-05-04T11:00:00Z")),
            }),
            ..TenantUsage::default()
        };
        let before = report(
            0,
            vec![usage("acme", 1_000_000), usage("busy", 0), idle.clone()],
        );
        let now = report(
            2,
            vec![usage("acme", 1_100_000), usage("busy", 1_900_000), idle],
        );
        let lines = lines(&before, &now);
        insta::assert_snapshot!(shown(&lines, &now, Paint(false)));
    }

    #[test]
    fn a_slice_that_was_made_anew_has_no_rate_yet() {
        let before = report(0, vec![usage("acme", 1_000_000)]);
        let now = report(2, vec![usage("acme", 10), usage("new", 10)]);
        let rates: Vec<_> = lines(&before, &now)
            .into_iter()
            .map(|line| line.cpu_percent)
            .collect();
        assert_eq!(rates, [None, None]);
    }
}
