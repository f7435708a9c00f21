//! Many files and one large database: seconds and memory are printed, what is stored is asserted.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::time::Instant;

use tenantd::backup::SnapshotOutcome;

use super::world::{World, assert_same, nodes, noise};

/// The most memory that this process ever had, in MiB.
fn peak_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        / 1024
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute and a gigabyte; `cargo test --release --test repository -- --ignored scale --nocapture`"]
async fn many_files_and_a_large_database() {
    let world = World::new();
    for directory in 0..100_u64 {
        let path = world.state().join(format!("d{directory}"));
        fs::create_dir(&path).unwrap();
        for file in 0..1000_u64 {
            let size = 1000 + usize::try_from(file * 29).unwrap();
            let mut content = noise(directory * 1000 + file, size / 3);
            content.resize(size, b'x');
            fs::write(path.join(format!("f{file}")), content).unwrap();
        }
    }
    let database = fs::File::create(world.state().join("db.sqlite")).unwrap();
    database.write_all_at(b"SQLite format 3\0", 0).unwrap();
    let size = 512 << 20;
    for block in 0..512 {
        database
            .write_all_at(&noise(block, (1 << 20) - 16), (block << 20) + 16)
            .unwrap();
    }
    println!("made, peak {} MiB", peak_mib());

    let start = Instant::now();
    let record = world.snapshot().await;
    println!(
        "first: {:?}, peak {} MiB, {record:?}",
        start.elapsed(),
        peak_mib()
    );
    let start = Instant::now();
    assert!(matches!(
        world.outcome().await,
        SnapshotOutcome::Unchanged(_)
    ));
    println!("unchanged: {:?}, peak {} MiB", start.elapsed(), peak_mib());

    for page in 0..131_u64 {
        let offset = page.wrapping_mul(0x9E37_79B9_7F4A_7C15) % (size / 4096) * 4096;
        database
            .write_all_at(&noise(page, 4096), offset.max(4096))
            .unwrap();
    }
    let start = Instant::now();
    let delta = world.snapshot().await;
    println!("0.1 % of pages: {:?}, {delta:?}", start.elapsed());
    assert!(delta.added < size / 50, "{} bytes", delta.added);

    let start = Instant::now();
    world.try_restore(None, "restored").await.unwrap();
    println!("restore: {:?}, peak {} MiB", start.elapsed(), peak_mib());
    assert_same(&nodes(&world.path.join("restored")), &nodes(&world.state()));
}
