//! Commands that go on: what they print for programs, how they end, and a coordinator that restarts meanwhile.

use std::fs::File;

use containarium_proto::{
    error::{Reason, Refusal},
    v1,
};
use serde_json::Value;

use crate::support::{Coordinator, Running, Step, container, until};

type ListStep = Step<v1::ListContainersResponse>;
type EventStep = Step<v1::WatchEventsResponse>;

/// A part of a list: its users, and what comes after it.
fn part(users: &[&str], next_page_token: &str) -> ListStep {
    let containers = users.iter().map(|user| container(user, "10.100.1.2")).collect();
    Step::say(v1::ListContainersResponse { containers, next_page_token: next_page_token.into(), total_count: 0 })
}

fn list(users: &[&str]) -> ListStep {
    part(users, "")
}

fn watched(scripts: impl IntoIterator<Item = Vec<ListStep>>) -> Coordinator {
    let fleet = Coordinator::with([]);
    fleet.state().watches = scripts.into_iter().collect();
    fleet
}

/// Events with these numbers as ids; the last is where the follower is then.
fn events(numbers: &[u32]) -> EventStep {
    let event = |number: &u32| v1::Event {
        id: number.to_string(),
        at_unix_millis: 1_750_000_000_123,
        subject: "alice-container".into(),
        kind: "container.running".into(),
        message: format!("number {number}\nin one line"),
    };
    let cursor = numbers.last().map_or_else(|| "nothing yet".to_owned(), ToString::to_string);
    Step::say(v1::WatchEventsResponse { events: numbers.iter().map(event).collect(), cursor })
}

fn followed(scripts: impl IntoIterator<Item = Vec<EventStep>>) -> Coordinator {
    let fleet = Coordinator::with([]);
    fleet.state().follows = scripts.into_iter().collect();
    fleet
}

fn until_lines(running: &Running, count: usize) -> String {
    until("so many lines", || Some(running.stdout()).filter(|text| text.lines().count() >= count))
}

/// The users in each document.
fn users(lines: &str) -> Vec<String> {
    let one = |line: &str| {
        let json: Value = serde_json::from_str(line).unwrap();
        let containers = json["containers"].as_array().unwrap();
        assert_eq!(json["total_count"], containers.len());
        containers.iter().map(|c| c["user"].as_str().unwrap()).collect::<Vec<_>>().join(" ")
    };
    lines.lines().map(one).collect()
}

#[test]
fn without_a_terminal_a_watch_prints_a_line_of_json_per_change_until_ctrl_c() {
    for line in ["list --watch", "ls -w -o json", "list --watch -o wide"] {
        let script = vec![list(&[]), part(&["alice"], "alice"), part(&["bob"], ""), list(&["bob"]), Step::Hang];
        let fleet = watched([script]);
        let running = fleet.cli(line).start();
        assert_eq!(users(&until_lines(&running, 3)), ["", "alice bob", "bob"], "{line}");
        running.interrupt();
        let outcome = running.wait();
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{line}");
        assert_eq!(outcome.stdout.lines().count(), 3, "{line}");
    }
}

#[test]
fn a_watch_is_filtered_and_says_nothing_of_changes_that_are_not_wanted() {
    let script = vec![list(&["alice"]), list(&["alice", "bob"]), list(&["bob"]), Step::Hang];
    let fleet = watched([script]);
    let running = fleet.cli("list --watch --user ali").start();
    assert_eq!(users(&until_lines(&running, 2)), ["alice", ""]);
    let unknown = fleet.cli("list --watch --node jump-9").run();
    assert!(unknown.error(3).contains("jump-9"), "{unknown:?}");
}

#[test]
fn as_yaml_a_watch_is_a_stream_of_documents() {
    let fleet = watched([vec![list(&["alice"]), list(&[]), Step::Hang]]);
    let running = fleet.cli("list --watch -o yaml").start();
    let text = until("both", || Some(running.stdout()).filter(|text| text.ends_with("total_count: 0\n")));
    assert_eq!(text.matches("---\n").count(), 2, "{text}");
}

#[test]
fn a_timeout_is_how_long_a_watch_goes_on_and_silence_all_the_time_is_a_failure() {
    let fleet = watched([vec![list(&["alice"]), Step::Hang], vec![Step::Hang]]);
    assert_eq!(users(&fleet.cli("list --watch --timeout 1s").run().ok()), ["alice"]);
    assert_eq!(fleet.cli("list --watch --timeout 1s").run().error(6), "the coordinator did not answer in time");
}

#[test]
fn a_watch_ends_when_its_reader_has_left() {
    let fleet = watched([vec![list(&["alice"]), Step::Hang]]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let outcome = fleet.cli("list --watch").start_into(writer).wait();
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    let fleet = watched([vec![list(&["alice"]), Step::Hang]]);
    let full = File::options().write(true).open("/dev/full").unwrap();
    assert!(fleet.cli("list --watch").start_into(full).wait().error(1).starts_with("writing the output"));
}

#[test]
fn a_watch_goes_on_after_the_coordinator_and_each_of_its_streams() {
    let stopping = Refusal::new(Reason::NotReady, "the coordinator is stopping");
    let scripts = [
        // Lived long enough; then a stop, a part of a list lost with it; then a kill.
        vec![list(&["alice"])],
        vec![part(&["alice"], "alice"), Step::Fail(stopping.into())],
        vec![list(&["alice"]), list(&["bob"]), Step::Hang],
        vec![list(&["bob"]), list(&["carol"]), Step::Hang],
    ];
    let mut fleet = watched(scripts);
    let running = fleet.cli("list --watch").start();
    until_lines(&running, 2);
    fleet.stop();
    until("the loss is noticed", || (running.stderr().matches("lost the coordinator").count() == 2).then_some(()));
    fleet.restart();
    assert_eq!(users(&until_lines(&running, 3)), ["alice", "bob", "carol"]);
    running.interrupt();
    let outcome = running.wait();
    assert_eq!(outcome.code, 0);
    let said: Vec<_> = outcome.stderr.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(said, ["lost", "the", "lost", "the"], "{}", outcome.stderr);
}

#[test]
fn a_watch_that_is_refused_or_never_began_ends_at_once() {
    let refused = Coordinator::refusing(Refusal::new(Reason::Busy, "too many watch already").hint("look once"));
    for line in ["list --watch", "events --follow", "top --watch"] {
        assert_eq!(refused.cli(line).run().error(4), "too many watch already", "{line}");
        let mut nobody = Coordinator::with([]);
        nobody.stop();
        assert!(nobody.cli(line).run().error(6).contains("no such socket"), "{line}");
    }
}

#[test]
fn events_are_followed_from_the_last_ones_on_and_right_after_them_when_the_coordinator_is_back() {
    let scripts = [vec![events(&[7, 8]), events(&[]), events(&[9]), Step::Hang], vec![events(&[10, 11]), Step::Hang]];
    let mut fleet = followed(scripts);
    let running = fleet.cli("events --follow --subject alice-container --limit 2 -o json").start();
    until_lines(&running, 3);
    fleet.stop();
    until("the loss is noticed", || running.stderr().contains("lost the coordinator").then_some(()));
    fleet.restart();
    let ids: Vec<String> = until_lines(&running, 5)
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids, ["7", "8", "9", "10", "11"]);
    running.interrupt();
    assert_eq!(running.wait().code, 0);
    let asked =
        |after: &str| v1::WatchEventsRequest { subject: "alice-container".into(), after: after.into(), last: 2 };
    assert_eq!(fleet.state().followed, [asked(""), asked("9")]);
}

#[test]
fn events_for_people_are_one_line_each_below_one_header() {
    let fleet = followed([vec![events(&[1]), events(&[2]), Step::Hang]]);
    let running = fleet.cli("events -f").start();
    let text = until_lines(&running, 3);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("AT  ") && lines[2].ends_with("number 2 in one line"), "{text}");
    assert_eq!(lines[0].find("MESSAGE"), lines[1].find("number"), "{text}");
    running.interrupt();
    assert_eq!(running.wait().code, 0);
    assert_eq!(fleet.state().followed[0].last, 50);
}
