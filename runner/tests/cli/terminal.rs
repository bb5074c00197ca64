//! What people read on a terminal holds nothing that the terminal obeys, whatever is in texts, ids and names; JSON holds
//! the data as it is.

use serde_json::{Value, json};

use crate::world::World;

/// Renames the window, clears it, goes back in the line, and reverses the order of the text.
const HOSTILE: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\r\u{9b}31m\u{202e}";

fn is_obeyed(character: char) -> bool {
    (character.is_control() && !matches!(character, '\n' | '\t')) || ('\u{202a}'..='\u{202e}').contains(&character)
}

#[test]
fn a_search_shows_the_control_characters_of_texts_ids_and_metadata() {
    let world = World::new();
    let chunk = |id: &str| json!({"id": id, "text": format!("{id} text {HOSTILE}"), "metadata": {"by": HOSTILE}});
    world.source("a.jsonl", &format!("{}\n{}", chunk(HOSTILE), chunk("second")));
    world.run(&[]).succeeded();
    let shown = world.embedrun(&["search", "-f", "run.yaml", "-k", "2", "text"]).succeeded().stdout;
    assert!(!shown.contains(is_obeyed), "{shown:?}");
    assert!(shown.contains(r"second text \u{1b}]0;owned\u{7}\u{1b}[2J\u{d}\u{9b}31m\u{202e}"), "{shown:?}");

    let lines = world.embedrun(&["search", "-f", "run.yaml", "-k", "2", "--json", "text"]).succeeded().stdout;
    let hits: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let hit = hits.iter().find(|hit| hit["id"] != "second").expect("a hit");
    assert_eq!((&hit["id"], &hit["metadata"]["by"]), (&json!(HOSTILE), &json!(HOSTILE)));
}

#[test]
fn an_error_shows_the_control_characters_of_a_field() {
    let world = World::new();
    world.ten_chunks();
    let manifest = std::fs::read_to_string(world.path("run.yaml")).expect("a manifest");
    let escaped: Vec<String> = HOSTILE.chars().map(|character| format!("\\u{:04x}", u32::from(character))).collect();
    let escaped = escaped.concat();
    world.manifest_text(&manifest.replace("{hostPath: {path: ", &format!("{{hostPath: {{\"{escaped}\": 1, path: ")));
    let ended = world.run(&[]);
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    assert!(!ended.stderr.contains(is_obeyed), "{:?}", ended.stderr);
    assert!(ended.stderr.contains(r"\u{1b}]0;owned"), "{:?}", ended.stderr);
}

#[test]
fn the_log_for_people_shows_the_control_characters_of_a_file_name() {
    let world = World::new();
    world.ten_chunks().source("of\u{9b}31m\u{202e}.svg", "no text");
    let ended = world.run(&[]).succeeded();
    assert!(!ended.stderr.contains(is_obeyed), "{:?}", ended.stderr);
    assert!(ended.stderr.contains(r"of\u{9b}31m\u{202e}.svg"), "the file that was left out: {:?}", ended.stderr);
}
