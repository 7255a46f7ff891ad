//! `solyx backtest --base`, by the built binary over a small world on real jobs.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use common::{code, here, json, solyx, text};
use serde_json::Value;

fn done(arguments: &[&str]) -> Output {
    let output = solyx(arguments);
    assert_eq!(code(&output), 0, "{arguments:?}: {}", text(&output.stderr));
    output
}

/// Sixty jobs of one day on a part of the hybrid fleet that is too small for them, run until all have ended.
fn base() -> &'static str {
    static MADE: OnceLock<(tempfile::TempDir, String)> = OnceLock::new();
    let (_, base) = MADE.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let base = directory.path().join("base").display().to_string();
        let fleet = std::fs::read_to_string(here("fleets/hybrid.toml")).expect("the fleet");
        let small = directory.path().join("small.toml");
        std::fs::write(&small, fleet.replace("count = 30\n", "count = 2\n")).expect("it is written");
        let data = |file: &str| here(&format!("data/{file}"));
        let (prices, carbon) = (data("price_usd_per_mwh_2023.csv.gz"), data("carbon_g_per_kwh_2023.csv.gz"));
        let days = ["--from", "2023-09-04", "--to", "2023-09-08", "--log", &base];
        done(&["publish", &small.display().to_string(), "--staged", "--log", &base]);
        done(&[&["import", "energy", "--prices", &prices, "--carbon", &carbon], &days[..]].concat());
        let jobs = data("philly_jobs.csv.gz");
        done(&["import", "philly", "--jobs", &jobs, "--limit", "60", "--shift-to", "2023-09-04", "--log", &base]);
        done(&["run", "--log", &base, "--virtual", "--until-idle"]);
        (directory, base)
    });
    base
}

fn written(directory: &Path, name: &str, text: &str) -> String {
    let path: PathBuf = directory.join(name);
    std::fs::write(&path, text).expect("it is written");
    path.display().to_string()
}

#[test]
fn an_unchanged_base_comes_out_to_the_bit_and_a_variation_beside_it_with_differences() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = |name: &str| directory.path().join(name).display().to_string();
    let local = written(directory.path(), "local.toml", "name = \"alone\"\nbaseline = \"local-only\"\n");
    let same = written(directory.path(), "same.toml", "name = \"same\"\n");
    let (csv, page, keep) = (file("o.csv"), file("o.html"), file("worlds"));
    let asked = ["--json", "backtest", "--base", base(), "--vary", &local, &same, "--changed", "3"];
    let report = json(&done(&[&asked[..], &["--csv", &csv, "--page", &page, "--keep", &keep]].concat()));
    let first = &report["bases"][0];
    assert_eq!(first["reproduced"], true, "{first}");
    assert_eq!(first["chain_head"], first["recorded_chain_head"]);
    assert_eq!(first["truth"]["scripted"], 60);
    let variations = report["variations"].as_array().expect("variations");
    assert_eq!(variations.len(), 2);
    let (alone, same) = (&variations[0], &variations[1]);
    assert_eq!(same["chain_head"], first["chain_head"], "what changes nothing is the base");
    assert!(same["difference"].as_object().expect("numbers").values().all(|less| less == 0));
    assert!(same["changed"].as_array().expect("jobs").is_empty());
    assert_eq!(alone["all"]["owned_share_milli"], 1_000, "nothing is leased");
    let less = |name: &str| alone["difference"][name].as_i64().unwrap_or_else(|| panic!("no difference of {name}"));
    assert!(less("cost_micros") < 0, "what is not leased costs nothing");
    assert!(less("wait_mean_us") > 0, "and it is waited for");
    let changed = alone["changed"].as_array().expect("jobs");
    assert_eq!(changed.len(), 3);
    assert!(
        changed[0]["later_us"].as_i64().expect("a time").abs()
            >= changed[2]["later_us"].as_i64().expect("a time").abs()
    );
    assert!(changed[0]["after"]["limits"].as_object().is_some_and(|limits| !limits.is_empty()), "{}", changed[0]);
    // Tenants are all of it.
    let sum = |name: &str| -> i64 {
        let tenants = alone["tenants"].as_object().expect("tenants");
        tenants.values().map(|tenant| tenant["numbers"][name].as_i64().unwrap_or(0)).sum()
    };
    for name in ["jobs", "done", "preemptions", "placements", "revenue_micros"] {
        assert_eq!(sum(name), alone["all"][name].as_i64().expect("a number"), "{name}");
    }
    let rows = std::fs::read_to_string(&csv).expect("the CSV");
    let lines: Vec<&str> = rows.lines().collect();
    assert!(lines[0].starts_with("log,variation,seed,tenant,currency,chain_head,jobs,done,"));
    assert_eq!(lines.iter().filter(|line| line.starts_with("base,alone,,,USD,")).count(), 1);
    let page = std::fs::read_to_string(&page).expect("the page");
    assert!(page.contains("<svg") && page.contains("alone") && !page.contains("<script") && !page.contains("http://"));
    // A kept world is one like any other.
    let kept = format!("{keep}/alone");
    let audit = json(&done(&["--json", "audit", "--log", &kept]));
    assert_eq!(audit["chain_head"], alone["chain_head"]);
    let again = solyx(&["backtest", "--base", base(), "--baseline", "fifo", "--keep", &keep]);
    assert_eq!(code(&again), 2, "a world that is there is not written over");
}

#[test]
fn what_was_written_between_two_runs_comes_late_again() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = |name: &str| directory.path().join(name).display().to_string();
    let (world, keep) = (file("twice"), file("worlds"));
    done(&["generate", "--seed", "7", "--jobs", "40", "--nodes", "6", "--days", "1", "--log", &world]);
    done(&["run", "--log", &world, "--virtual", "--until-idle"]);
    for key in ["first", "second"] {
        done(&["proofs", "keygen", "--out", &file(key)]);
        done(&["proofs", "declare", "--key", &file(&format!("{key}.pub")), "--log", &world]);
        let left = json(&done(&["--json", "audit", "--log", &world]));
        assert_eq!(left["inputs_not_taken"], 1, "{left}");
        let told = text(&done(&["audit", "--log", &world]).stdout);
        assert!(
            told.contains("input records that no epoch has taken yet, and of which nothing is said here: 1"),
            "{told}"
        );
        let run = json(&done(&["--json", "run", "--log", &world, "--virtual", "--until-idle"]));
        assert_eq!(run["epochs"], 1, "it is read in an epoch of its own");
    }
    assert_eq!(json(&done(&["--json", "audit", "--log", &world]))["inputs_not_taken"], 0);
    let asked = ["--json", "backtest", "--base", &world, "--baseline", "shortest-first,local-only", "--keep", &keep];
    let report = json(&done(&asked));
    assert_eq!(report["bases"][0]["reproduced"], true, "{}", report["bases"][0]);
    assert_eq!(report["bases"][0]["chain_head"], report["bases"][0]["recorded_chain_head"]);
    // For people, too; what is told of each tenant stays within a terminal.
    let told = text(&done(&["backtest", "--base", &world, "--baseline", "shortest-first,easy,fgd,fifo"]).stdout);
    let tenants = told.lines().skip_while(|line| !line.starts_with("tenant ")).take_while(|line| !line.is_empty());
    let tenants: Vec<&str> = tenants.collect();
    for of in ["cost:", "revenue:", "energy, MWh:", "carbon, kg CO2e:", "waiting, mean:", "request to end, mean:"] {
        assert!(tenants.iter().any(|line| line.trim_end() == of), "{of} {told}");
    }
    assert!(tenants.iter().all(|line| line.chars().count() <= 160), "{told}");
    for name in ["base", "shortest-first", "local-only"] {
        let kept = format!("{keep}/{name}");
        let audit = json(&done(&["--json", "audit", "--log", &kept]));
        assert_eq!(audit["inputs_not_taken"], 0, "{name}: both were taken");
        let policies = text(&done(&["--json", "tail", "policy", "--all", "--log", &kept]).stdout);
        assert_eq!(policies.matches("SigningKeyDeclared").count(), 2, "{name}: {policies}");
    }
}

#[test]
fn another_fleet_and_dearer_pools_over_an_archive() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let archive = directory.path().join("archive").display().to_string();
    done(&["archive", "export", "--log", base(), "--archive", &archive]);
    let owned = format!("name = \"owned\"\nfleet = \"{}\"\n", here("fleets/metapods.toml"));
    let owned = written(directory.path(), "owned.toml", &owned);
    let dear = "name = \"dear\"\n[[pools]]\npool = \"*\"\nprice_factor = \"2\"\n[[rates]]\nfactor = \"3\"\n";
    let dear = written(directory.path(), "dear.toml", dear);
    let report = json(&done(&["--json", "backtest", "--base", &archive, "--vary", &owned, &dear]));
    let base = &report["bases"][0];
    assert_eq!(base["reproduced"], true, "{base}");
    let (owned, dear) = (&report["variations"][0]["all"], &report["variations"][1]["all"]);
    assert_eq!(owned["owned_share_milli"], 1_000, "all of it is our own");
    assert_eq!(owned["done"], 60);
    let number = |of: &Value, name: &str| of[name].as_i64().unwrap_or_else(|| panic!("no {name}"));
    assert!(number(owned, "energy_j") > number(&base["all"], "energy_j"), "more nodes of ours are idle");
    assert!(number(&base["all"], "owned_share_milli") < 1_000, "the base leases");
    assert!(number(dear, "cost_micros") > number(&base["all"], "cost_micros"));
    assert!(number(dear, "revenue_micros") > 2 * number(&base["all"], "revenue_micros"));
}

#[test]
fn a_grid_is_every_combination_for_every_seed_and_duckdb_opens_its_parquet() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let grid = written(
        directory.path(),
        "grid.toml",
        "seeds = [7, 8]\n[[axis]]\nname = \"order\"\nvalues = [{ name = \"easy\", baseline = \"easy\" }, { name = \"sjf\", policy = \
         { order_rule = \"sjf\" } }]\n[[axis]]\nname = \"carbon\"\nvalues = [{ name = \"0\", weights = { carbon_per_kg = \"0\" } }, \
         { name = \"500\", weights = { carbon_per_kg = \"0.5\" } }]\n",
    );
    let parquet = directory.path().join("o.parquet").display().to_string();
    let asked = ["--json", "backtest", "--base", base(), "--grid", &grid, "--jobs", "2", "--parquet", &parquet];
    let report = json(&done(&asked));
    let names: Vec<String> = report["variations"]
        .as_array()
        .expect("variations")
        .iter()
        .map(|case| format!("{} {}", case["variation"].as_str().expect("a name"), case["seed"]))
        .collect();
    let expected = ["easy.0 7", "easy.500 7", "sjf.0 7", "sjf.500 7", "easy.0 8", "easy.500 8", "sjf.0 8", "sjf.500 8"];
    assert_eq!(names, expected);
    // The fleet's own seed is 7: the base with it is the record.
    assert_eq!(report["bases"][0]["reproduced"], true);
    assert_eq!(report["bases"][1]["reasons"][0], "the executor draws by seed 8");
    let Some(python) = python_with("duckdb", "duckdb>=1.1,<2") else { return };
    let script = format!(
        "import duckdb\nrows = duckdb.sql(\"select variation, seed, jobs, cost_micros from '{parquet}' where tenant is null \
         order by seed, variation\").fetchall()\nfor row in rows: print(*row)"
    );
    let read = Command::new(python).args(["-c", &script]).output().expect("Python runs");
    assert!(read.status.success(), "{}", text(&read.stderr));
    let rows = text(&read.stdout);
    assert_eq!(rows.lines().count(), 10, "{rows}");
    let cost = report["bases"][0]["all"]["cost_micros"].as_i64().expect("a cost");
    assert!(rows.contains(&format!("base 7 60 {cost}")), "{rows}");
}

#[test]
fn two_variations_run_on_a_real_ray_cluster_as_they_do_here() {
    let Some(python) = python_with("ray", "ray>=2.40,<3") else { return };
    let python = python.display().to_string();
    let asked = ["--json", "backtest", "--base", base(), "--baseline", "easy,shortest-first"];
    let here = json(&done(&asked));
    let there = json(&done(&[&asked[..], &["--ray", "local", "--ray-python", &python]].concat()));
    assert_eq!(there["bases"][0]["reproduced"], true);
    for n in 0..2 {
        let of = |report: &Value, name: &str| report["variations"][n][name].clone();
        for name in ["variation", "chain_head", "all", "difference", "tenants", "waiting_counts"] {
            assert_eq!(of(&there, name), of(&here, name), "{name}");
        }
        assert!(of(&there, "changed").is_null(), "jobs are not compared there");
    }
}

#[test]
fn what_is_wrong_is_said_and_nothing_runs() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let wrong = written(directory.path(), "wrong.toml", "name = \"wrong\"\n[policy]\norder = \"sjf\"\n");
    let refused = |arguments: &[&str]| {
        let output = solyx(arguments);
        assert_eq!(code(&output), 2, "{arguments:?}");
        text(&output.stderr)
    };
    let said = refused(&["backtest", "--base", base(), "--vary", &wrong]);
    assert!(said.contains("wrong.toml: line 3 in [policy]: found order = \"sjf\", expected"), "{said}");
    let said = refused(&["backtest", "--base", base(), "--baseline", "luck"]);
    assert!(said.contains("found \"luck\", expected all or one of fifo, shortest-first, easy"), "{said}");
    let said = refused(&["backtest", "--base", base()]);
    assert!(said.contains("name --vary FILE, --baseline NAME or --grid FILE"), "{said}");
    let horizon = written(directory.path(), "horizon.toml", "name = \"h\"\nplanner = \"horizon\"\n");
    let said = refused(&["backtest", "--base", base(), "--vary", &horizon]);
    assert!(said.contains("which this build does not have yet"), "{said}");
    let said = refused(&["backtest", "--base", base(), "--baseline", "fifo", "--ray", "local", "--changed", "3"]);
    assert!(said.contains("jobs are not compared on a cluster") && said.contains("leave --changed out"), "{said}");
    let empty = directory.path().join("none").display().to_string();
    assert_eq!(code(&solyx(&["backtest", "--base", &empty, "--baseline", "fifo"])), 2);
}

/// A Python with a package: the one that the package's variable names (`SOLYX_PYTHON_DUCKDB`, `SOLYX_PYTHON_RAY`), otherwise one of
/// its own under the target directory, made once. Nothing, and a word about it, where the package cannot be had.
fn python_with(package: &str, requirement: &str) -> Option<PathBuf> {
    let variable = format!("SOLYX_PYTHON_{}", package.to_ascii_uppercase());
    match std::env::var(&variable).as_deref() {
        Ok("none") => {
            eprintln!("not run: {variable} is none");
            return None;
        }
        Ok(python) => return Some(python.into()),
        Err(_) => {}
    }
    let binary = Path::new(env!("CARGO_BIN_EXE_solyx"));
    let venv = binary.parent()?.parent()?.join(format!("python-{package}"));
    let python = venv.join("bin/python");
    let has = |python: &Path| {
        let import = Command::new(python).args(["-c", &format!("import {package}")]).output();
        import.is_ok_and(|output| output.status.success())
    };
    if !has(&python) {
        let made = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv).output();
        let install = ["-m", "pip", "install", "-q", "--disable-pip-version-check", requirement];
        let installed = made.is_ok_and(|made| made.status.success())
            && Command::new(&python).args(install).output().is_ok_and(|output| output.status.success());
        if !installed || !has(&python) {
            panic!(
                "{package} could not be installed from PyPI: name a Python that has it in {variable}, or set that to none"
            );
        }
    }
    Some(python)
}
