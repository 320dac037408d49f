//! Comparison of the public API with `dflock/public-api.txt`.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use public_api::Builder;

/// All features except the second crypto provider, which adds nothing to the API and takes minutes
/// to build.
const FEATURES: &str = "blocking,macros,metrics,server,stats,tls,tower";

#[test]
fn the_public_api_matches_its_list() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    // A separate target directory, because the environment of this build would invalidate the main
    // one.
    let target = root.join("target/public-api");
    let output = Command::new(env!("CARGO"))
        .args([
            "rustdoc",
            "-p",
            "dflock",
            "--lib",
            "--no-default-features",
            "--features",
            FEATURES,
            "--target-dir",
        ])
        .arg(&target)
        .args([
            "--",
            "-Z",
            "unstable-options",
            "--output-format",
            "json",
            "--cap-lints",
            "allow",
        ])
        .current_dir(root)
        // The JSON format depends on the toolchain, which is pinned. A nightly toolchain would
        // change daily.
        .env("RUSTC_BOOTSTRAP", "1")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );

    let api = Builder::from_rustdoc_json(target.join("doc/dflock.json"))
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()
        .unwrap();
    let now = api.to_string();
    let list = root.join("dflock/public-api.txt");
    if env::var_os("DFLOCK_UPDATE_PUBLIC_API").is_some() {
        fs::write(&list, &now).unwrap();
    }
    let recorded = fs::read_to_string(&list).unwrap();
    let only = |here: &str, there: &str, sign: char| -> Vec<String> {
        here.lines()
            .filter(|line| !there.lines().any(|other| other == *line))
            .map(|line| format!("{sign} {line}"))
            .collect()
    };
    let changes = [only(&recorded, &now, '-'), only(&now, &recorded, '+')].concat();
    assert!(
        changes.is_empty(),
        "the public API differs from dflock/public-api.txt; if that is intended, run this test \
         with DFLOCK_UPDATE_PUBLIC_API=1 and add the change to CHANGELOG.md\n{}",
        changes.join("\n")
    );
}
