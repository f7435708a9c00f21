//! `verify`: looks whether the backups are whole, in this process, and says what is wrong.

use std::fmt::Write as _;

use super::args::VerifyArgs;
use super::console::{Console, Paint};
use super::error::CliError;
use super::human::{bytes, counted};
use super::output;
use super::progress;
use super::table::{Table, cell};
use crate::backup::Share;
use crate::daemon;
use crate::layout::Layout;
use crate::protect::{self, Verified};

/// Runs the command.
pub async fn run(console: Console, layout: &Layout, args: VerifyArgs) -> Result<(), CliError> {
    let identity = args.identity.read()?;
    let settings = daemon::read_settings(layout)?;
    let share = match (args.full, args.sample) {
        (true, _) => Share::Everything,
        (false, Some(permille)) => Share::Sample {
            permille,
            salt: protect::new_salt()?,
        },
        (false, None) => Share::Nothing,
    };
    let shown_here = progress::shown(console);
    let verified = protect::verify(
        layout,
        &settings,
        &args.tenants,
        share,
        identity.as_ref(),
        shown_here,
    )
    .await?;
    if args.output.json {
        console.print(&output::json(&verified))?;
    } else {
        console.print(&shown(&verified, console.out))?;
    }
    match verified.iter().filter(|one| !one.good).count() {
        0 => Ok(()),
        count => Err(CliError::NotVerified {
            count,
            total: verified.len(),
        }),
    }
}

/// Reads `5%`, `0.5%` or `100%` as a number of a thousand.
pub fn permille(text: &str) -> Result<u16, String> {
    let wrong = || format!("{text:?} is no share: give 0.1% to 100%");
    let number = text.strip_suffix('%').unwrap_or(text);
    let (whole, tenth) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| -> Option<u16> {
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| text.parse().ok()).flatten()
    };
    let (whole, tenth) = (digits(whole), digits(tenth).filter(|tenth| *tenth < 10));
    let (Some(whole), Some(tenth)) = (whole, tenth) else {
        return Err(wrong());
    };
    let permille = whole
        .checked_mul(10)
        .and_then(|whole| whole.checked_add(tenth));
    permille
        .filter(|permille| (1..=1000).contains(permille))
        .ok_or_else(wrong)
}

/// Faults that are shown of one repository; `--json` has them all.
const SHOWN: usize = 20;

fn shown(verified: &[Verified], paint: Paint) -> String {
    if verified.is_empty() {
        return "There are no snapshots yet; `tenantd backup` makes one.\n".to_owned();
    }
    let mut table = Table::new(
        &[
            "TENANT",
            "SNAPSHOTS",
            "PACKS",
            "SIZE",
            "LOOKED AT",
            "RESULT",
        ],
        paint,
    );
    let mut notes = String::new();
    for one in verified {
        let looked = match (one.downloaded, one.opened) {
            (0, _) => "signatures, presence, sizes".to_owned(),
            (_, false) => format!("{} by hash", bytes(one.downloaded_bytes)),
            (_, true) => format!("{} opened", bytes(one.downloaded_bytes)),
        };
        let result = if one.good {
            paint.good("good")
        } else {
            paint.bad(&counted(one.faults.len(), "fault"))
        };
        table.row(vec![
            cell(&one.tenant),
            cell(one.snapshots),
            cell(one.packs),
            cell(bytes(one.bytes)),
            cell(looked),
            cell(result),
        ]);
        for fault in one.faults.iter().take(SHOWN) {
            let _ = writeln!(notes, "{}: {}: {}", one.tenant, fault.object, fault.problem);
        }
        if one.faults.len() > SHOWN {
            let more = one.faults.len() - SHOWN;
            let _ = writeln!(notes, "{}: {more} more; --json shows all", one.tenant);
        }
        for fork in &one.forks {
            let _ = writeln!(
                notes,
                "{}: snapshot {fork} is not on the line of the newest: another node wrote it, or this \
                 node was set back",
                one.tenant
            );
        }
    }
    format!("{}{notes}", table.render())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::protect::Faulty;

    #[rstest]
    #[case("5%", Ok(50))]
    #[case("0.1%", Ok(1))]
    #[case("100", Ok(1000))]
    #[case("0%", Err(()))]
    #[case("100.1%", Err(()))]
    #[case("5.55%", Err(()))]
    #[case("-5%", Err(()))]
    #[case("%", Err(()))]
    #[case("99999%", Err(()))]
    fn a_share_is_a_percentage(#[case] text: &str, #[case] expected: Result<u16, ()>) {
        assert_eq!(permille(text).map_err(drop), expected);
    }

    #[test]
    fn what_is_wrong_is_said_below() {
        let good = Verified {
            tenant: "acme".to_owned(),
            good: true,
            snapshots: 12,
            newest: 14,
            packs: 40,
            bytes: 500 << 20,
            downloaded: 2,
            downloaded_bytes: 25 << 20,
            opened: true,
            forks: vec!["0000000001-0000000009-ab".to_owned()],
            faults: vec![],
        };
        let bad = Verified {
            tenant: "(node)".to_owned(),
            good: false,
            downloaded: 0,
            forks: vec![],
            faults: vec![Faulty {
                object: "8e/packs/00".to_owned(),
                problem: "it is missing".to_owned(),
            }],
            ..good.clone()
        };
        insta::assert_snapshot!(shown(&[good, bad], Paint(false)), @r"
        TENANT  SNAPSHOTS  PACKS  SIZE        LOOKED AT                    RESULT
        acme    12         40     500.00 MiB  25.00 MiB opened             good
        (node)  12         40     500.00 MiB  signatures, presence, sizes  1 fault
        acme: snapshot 0000000001-0000000009-ab is not on the line of the newest: another node wrote it, or this node was set back
        (node): 8e/packs/00: it is missing
        ");
    }
}
