//! Backups and restores while the bucket does what it likes: faults drawn by lot, several at a time.

use super::Tally;
use crate::bucket::{Fault, Kind, Rule};
use crate::bucket_faults::Tenant;
use crate::world::{assert_same, nodes};

/// Backs up `rounds` times through whatever comes, and checks everything at the end.
pub async fn run(seed: u64, rounds: usize) -> Tally {
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut tenant = Tenant::with_past().await;
    let mut tally = Tally::default();
    for round in 0..rounds {
        let said = format!("round {round} of storm {seed}");
        tenant.change(dice.u8(..));
        let faults: Vec<Rule> = (0..dice.usize(..4)).map(|_| rule(&mut dice)).collect();
        tenant.bucket.fail(faults);
        // Whether it could be done is luck; what is acknowledged is remembered.
        let done = tenant.back_up().await.is_ok();
        tally.faults += tenant.bucket.mend();
        tally.backups += usize::from(done);
        if !done {
            // All is well again: so is the next one.
            tenant
                .back_up()
                .await
                .unwrap_or_else(|error| panic!("{said}: {error:?}"));
            tally.backups += 1;
        }
        if dice.u8(..4) == 0 {
            // One: of an object that is garbled whenever it is read, nobody can tell that it is good.
            let fault = read_fault(&mut dice);
            tenant
                .bucket
                .fail([Rule::at(dice.usize(..12), Kind::Get, fault)]);
            let restored = tenant.world.restored(None).await;
            assert_same(&restored, &nodes(&tenant.world.state()));
            tally.faults += tenant.bucket.mend();
            tally.restored += 1;
        }
    }
    tenant.check().await;
    tally.restored += tenant.acknowledged();
    tally
}

/// What may strike a PUT: for now, for good, before and after it took effect.
fn rule(dice: &mut fastrand::Rng) -> Rule {
    let fault = [
        Fault::Refuse(500, None),
        Fault::Refuse(503, None),
        Fault::Refuse(503, Some("0")),
        Fault::Refuse(403, None),
        Fault::CutUpload,
        Fault::CutBefore,
        Fault::CutAfter,
        Fault::SilentAfter,
        Fault::Twice,
    ];
    let fault = fault[dice.usize(..fault.len())];
    let number = dice.usize(..6);
    match fault {
        // A key that is revoked stays so until somebody sees to it.
        Fault::Refuse(403, _) => Rule::from(number, Kind::Put, fault),
        _ => Rule::at(number, Kind::Put, fault),
    }
}

/// What a restore must get over by itself.
fn read_fault(dice: &mut fastrand::Rng) -> Fault {
    let faults = [
        Fault::Refuse(500, None),
        Fault::Refuse(503, Some("0")),
        Fault::CutBefore,
        Fault::CutDownload,
        Fault::Flip,
    ];
    faults[dice.usize(..faults.len())]
}
