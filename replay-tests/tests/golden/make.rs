//! Makes the golden logs of a release: `SOLYX_GOLDEN=0.2.0 cargo test --workspace --test golden make`.

use std::path::Path;

use solyx_connectors::log::archive::{ArchiveLog, export};
use solyx_schemas::log::Log;

use crate::{derived, home, worlds};

/// Names the release whose golden logs are made.
const RELEASE: &str = "SOLYX_GOLDEN";

/// A world as an archive and what is expected of it, beside it.
fn write(log: &dyn Log, dir: &Path) {
    export(log, dir, &|_, _| {}).unwrap();
    let archive = ArchiveLog::open(dir).unwrap();
    let expected = derived(&*archive);
    let mut text = serde_json::to_string_pretty(&expected).unwrap();
    text.push('\n');
    std::fs::write(dir.with_extension("json"), text).unwrap();
}

#[test]
fn makes_the_golden_logs_of_the_release_that_is_named() {
    let Ok(release) = std::env::var(RELEASE) else {
        return println!("{RELEASE} names no release: nothing is made");
    };
    let dir = home().join(&release);
    assert!(!dir.exists(), "{} is there; golden logs of a release are never written again", dir.display());
    std::fs::create_dir_all(&dir).unwrap();
    for (name, log) in worlds::all() {
        write(&log, &dir.join(name));
    }
}

#[test]
fn a_world_is_made_the_same_again_and_survives_its_archive() {
    let (name, log) = worlds::one("sealed");
    let dir = tempfile::tempdir().unwrap();
    let (first, again) = (dir.path().join(name), dir.path().join("again"));
    write(&log, &first);
    write(&worlds::one("sealed").1, &again);
    let text = |dir: &Path| std::fs::read_to_string(dir.with_extension("json")).unwrap();
    assert_eq!(text(&first), text(&again));
}
