//! The report in a browser: a headless Chromium opens the file, and a page around it counts the visible elements.
//!
//! `EMBEDRUN_CHROMIUM` names the program. Without it the tests search the PATH for the usual names, and are skipped if none
//! is installed.

mod sample;

use std::{
    env, fs,
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crds::summary::ProcessingSummary;
use serde::Deserialize;
use tempfile::TempDir;

const VARIABLE: &str = "EMBEDRUN_CHROMIUM";
const USUAL_NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
const TIMEOUT: Duration = Duration::from_mins(2);
/// The message of the page around the report on the console. A missing message means that the console was not captured.
const DONE: &str = "the page has been read";

const SCREEN: u32 = 1200;
const PHONE: u32 = 390;

/// The page around the report. The report itself must not run a script, so this page inspects it from outside.
const PAGE: &str = include_str!("browser.html");

/// The visible elements that the page around the report counted.
#[derive(Debug, Deserialize)]
struct Facts {
    dark: bool,
    paper: String,
    ink: String,
    bar: String,
    tick: String,
    bars: usize,
    cut_bars: usize,
    leases: usize,
    mitigations: usize,
    charts: usize,
    fallbacks: usize,
    quality_bars: usize,
    examples: usize,
    toggles: usize,
    gate: String,
    sideways: i64,
    foreign: usize,
    requests: usize,
    harmed: bool,
}

/// The browser to test with; `None` if none is named and none is installed.
fn browser() -> Option<PathBuf> {
    if let Some(named) = env::var_os(VARIABLE) {
        return Some(named.into());
    }
    let folders: Vec<PathBuf> = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
    let found = USUAL_NAMES.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    let found = found.into_iter().find(|program| program.is_file());
    if found.is_none() {
        eprintln!("skipped: no Chromium is installed, and {VARIABLE} does not name one");
    }
    found
}

/// Opens the report of `run` in a window of `width` pixels and counts what it shows.
fn open_report(
    browser: &Path,
    run: &ProcessingSummary,
    collections: &[ProcessingSummary],
    width: u32,
    dark: bool,
) -> Facts {
    let folder = TempDir::new().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    fs::write(at("report.html"), report::html(run, collections).expect("a report")).expect("written");
    let page = PAGE.replace("WIDTH", &width.to_string()).replace("DONE", DONE);
    fs::write(at("page.html"), page).expect("written");
    let mut command = Command::new(browser);
    command
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--allow-file-access-from-files", "--enable-logging=stderr", "--window-size=1280,1000"])
        .args(dark.then_some("--force-dark-mode"))
        .arg(format!("--user-data-dir={}", at("profile").display()))
        .arg("--dump-dom")
        .arg(format!("file://{}", at("page.html").display()))
        .stdin(Stdio::null())
        .stdout(File::create(at("dom")).expect("a file"))
        .stderr(File::create(at("log")).expect("a file"));
    wait(command, browser);
    let dom = fs::read_to_string(at("dom")).expect("readable");
    let log = String::from_utf8_lossy(&fs::read(at("log")).expect("readable")).into_owned();
    let console: Vec<&str> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(console.len() == 1 && console[0].contains(DONE), "the console says {console:#?}\n{dom}");
    let facts = dom.split_once("<pre id=\"facts\">").and_then(|(_, rest)| rest.split_once("</pre>"));
    let (facts, _) = facts.expect("the page has facts");
    serde_json::from_str(facts).expect("the facts are JSON")
}

fn wait(mut command: Command, browser: &Path) {
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{} cannot be started: {error}", browser.display()));
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("the browser can be waited for") {
            assert!(status.success(), "{} ended with {status}", browser.display());
            return;
        }
        if begin.elapsed() > TIMEOUT {
            child.kill().expect("the browser can be ended");
            panic!("{} took longer than {TIMEOUT:?}", browser.display());
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn assert_counts(facts: &Facts) {
    // Two models with eight buckets each; minilm truncates those above 256 tokens, bge the one above 512.
    assert_eq!((facts.bars, facts.cut_bars), (16, 4));
    // Three passes on each of four shards, and the rerank.
    assert_eq!((facts.leases, facts.mitigations), (13, 4));
    // Two histograms and three charts over time, each in one of its widths.
    assert_eq!(facts.charts, 5);
    assert_eq!((facts.fallbacks, facts.quality_bars, facts.examples, facts.toggles), (3, 18, 5, 4));
    assert_eq!(facts.gate, "verdict bad");
    assert_eq!((facts.foreign, facts.requests), (0, 0));
}

#[test]
fn everything_is_shown_in_the_light_scheme() {
    let Some(browser) = browser() else { return };
    let facts = open_report(&browser, &sample::run(), &[sample::collection()], SCREEN, false);
    assert_counts(&facts);
    assert!(!facts.dark);
    assert_eq!((facts.paper.as_str(), facts.ink.as_str()), ("rgb(252, 252, 251)", "rgb(11, 11, 11)"));
    assert_eq!((facts.bar.as_str(), facts.tick.as_str()), ("rgb(42, 120, 214)", "rgb(82, 81, 78)"));
}

#[test]
fn the_charts_follow_the_page_into_the_dark_scheme() {
    let Some(browser) = browser() else { return };
    let facts = open_report(&browser, &sample::run(), &[sample::collection()], SCREEN, true);
    assert_counts(&facts);
    assert!(facts.dark);
    assert_eq!((facts.paper.as_str(), facts.ink.as_str()), ("rgb(26, 26, 25)", "rgb(255, 255, 255)"));
    assert_eq!((facts.bar.as_str(), facts.tick.as_str()), ("rgb(57, 135, 229)", "rgb(195, 194, 183)"));
}

#[test]
fn a_phone_does_not_scroll_sideways() {
    let Some(browser) = browser() else { return };
    let long = "an-unbroken-name-".repeat(12);
    for (run, collections) in
        [(sample::run(), vec![sample::collection()]), (sample::hostile(&long), vec![sample::hostile(&long)])]
    {
        let facts = open_report(&browser, &run, &collections, PHONE, false);
        assert_eq!((facts.sideways, facts.charts), (0, 5), "{facts:?}");
    }
}

#[test]
fn a_hostile_summary_runs_no_script() {
    let Some(browser) = browser() else { return };
    for text in [
        "<script>harmed = true; top.harmed = true</script>",
        "<img src=x onerror='harmed = true'>",
        "\"><svg onload=\"harmed = true\">",
        "</style><iframe src='javascript:top.harmed = true'></iframe>",
    ] {
        let facts = open_report(&browser, &sample::hostile(text), &[sample::hostile(text)], SCREEN, false);
        assert!(!facts.harmed && facts.foreign == 0 && facts.requests == 0, "{text}: {facts:?}");
    }
}

#[test]
fn an_empty_run_has_a_report_without_charts() {
    let Some(browser) = browser() else { return };
    let facts = open_report(&browser, &sample::empty(), &[], SCREEN, false);
    assert_eq!((facts.charts, facts.fallbacks, facts.gate.as_str()), (0, 0, ""));
}
