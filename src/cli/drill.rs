//! `drill`: brings the newest snapshots back to life apart from their tenants, in this process, and says what came of it.

use std::fmt::Write as _;

use super::args::DrillArgs;
use super::console::{Console, Paint};
use super::error::CliError;
use super::human::bytes;
use super::output;
use super::progress;
use super::table::{Table, cell};
use crate::daemon;
use crate::drill::{self, Drilled, Told};
use crate::layout::Layout;
use crate::protect::CheckOutcome;

/// Runs the command.
pub async fn run(console: Console, layout: &Layout, args: DrillArgs) -> Result<(), CliError> {
    let identity = args.identity.read()?;
    let settings = daemon::read_settings(layout)?;
    let told = Told {
        progress: progress::shown(console),
        step: Box::new(move |tenant, step| console.tell(&format!("{tenant}: {step}\n"))),
    };
    let drilled = drill::run(layout, &settings, &args.tenants, identity.as_ref(), &told).await?;
    if args.output.json {
        console.print(&output::json(&drilled))?;
    } else {
        console.print(&shown(&drilled, console.out))?;
    }
    let is_good = |one: &&Drilled| one.outcome == CheckOutcome::Good;
    match drilled.len() - drilled.iter().filter(is_good).count() {
        0 => Ok(()),
        count => Err(CliError::NotDrilled {
            count,
            total: drilled.len(),
        }),
    }
}

fn shown(drilled: &[Drilled], paint: Paint) -> String {
    if drilled.is_empty() {
        return "There are no snapshots yet; `tenantd backup` makes one.\n".to_owned();
    }
    let columns = [
        "TENANT",
        "SNAPSHOT",
        "FILES",
        "SIZE",
        "DATABASES",
        "READY AFTER",
        "RESULT",
    ];
    let mut table = Table::new(&columns, paint);
    let mut notes = String::new();
    let none = || "-".to_owned();
    for one in drilled {
        let result = match one.outcome {
            CheckOutcome::Good => paint.good("good"),
            CheckOutcome::Faulty => paint.bad("failed"),
            CheckOutcome::Skipped => paint.bad("skipped"),
        };
        let ready = one
            .ready_after_ms
            .map_or_else(none, |ms| format!("{}.{} s", ms / 1000, ms % 1000 / 100));
        table.row(vec![
            cell(&one.tenant),
            cell(one.snapshot.map_or_else(none, |number| number.to_string())),
            cell(one.files),
            cell(bytes(one.bytes)),
            cell(databases(one)),
            cell(ready),
            cell(result),
        ]);
        for problem in &one.problems {
            let _ = writeln!(notes, "{}: {problem}", one.tenant);
        }
        for finding in &one.databases.unchecked {
            let _ = writeln!(
                notes,
                "{}: {} was not checked: {}",
                one.tenant, finding.file, finding.problem
            );
        }
    }
    format!("{}{notes}", table.render())
}

fn databases(one: &Drilled) -> String {
    let broken = one.databases.faults.len();
    match (one.databases.sound, broken) {
        (0, 0) => "none".to_owned(),
        (sound, 0) => format!("{sound} sound"),
        (sound, broken) => format!("{broken} of {} broken", sound + broken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::databases::{Databases, Finding};

    #[test]
    fn what_a_drill_found_is_said_below() {
        let finding = |file: &str, problem: &str| Finding {
            file: file.to_owned(),
            problem: problem.to_owned(),
        };
        let good = Drilled {
            tenant: "acme".parse().unwrap(),
            outcome: CheckOutcome::Good,
            snapshot: Some(12),
            taken_at: None,
            files: 340,
            bytes: 25 << 20,
            databases: Databases {
                sound: 2,
                faults: vec![],
                unchecked: vec![finding("data/vectors.db", "no such collation sequence: x")],
            },
            ready_after_ms: Some(1280),
            problems: vec![],
        };
        let bad = Drilled {
            tenant: "foo-bar".parse().unwrap(),
            outcome: CheckOutcome::Faulty,
            databases: Databases {
                sound: 1,
                faults: vec![finding("data/notes.db", "malformed")],
                unchecked: vec![],
            },
            ready_after_ms: None,
            problems: vec!["data/notes.db: malformed".to_owned()],
            ..good.clone()
        };
        insta::assert_snapshot!(shown(&[good, bad], Paint(false)));
    }
}
