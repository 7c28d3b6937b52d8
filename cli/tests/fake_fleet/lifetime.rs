//! `set`, and what `create`, `info` and `list` know of lifetimes.

use containarium_proto::{
    error::{Reason, Refusal},
    v1,
};
use serde_json::Value;

use crate::support::{ALICE_KEY, Coordinator, container, created};

/// A container that ends, and rests when it is idle.
fn mortal() -> v1::Container {
    v1::Container {
        expires_at_unix_millis: 1_750_000_000_123,
        idle_stop_seconds: 12 * 3600,
        idle_since_unix_millis: 1_749_999_000_000,
        ..container("alice", "10.100.1.2")
    }
}

fn with_key(container: &v1::Container) -> Coordinator {
    let fleet = Coordinator::scripted(container.clone(), [created(container)]);
    std::fs::write(fleet.dir().join("alice.pub"), ALICE_KEY).unwrap();
    fleet
}

#[test]
fn set_asks_for_what_is_given_and_nothing_else() {
    let cases = [
        ("--autostart off", (Some(false), None, None)),
        ("--autostart on --ttl 8h", (Some(true), Some(8 * 3600), None)),
        ("--ttl off --idle-stop 12h", (None, Some(0), Some(12 * 3600))),
        ("--ttl 365d", (None, Some(365 * 86400), None)),
        ("--idle-stop off", (None, None, Some(0))),
    ];
    for (flags, wanted) in cases {
        let fleet = Coordinator::with([mortal()]);
        let said = fleet.cli(&format!("set alice-container {flags}")).run().ok();
        assert_eq!(
            said,
            "alice-container: autostart on, expires 2025-06-15T15:06:40.123Z, idle stop 12h, snapshots off\n"
        );
        let state = fleet.state();
        let asked: Vec<_> = state.lifetimes.iter().map(|r| (r.autostart, r.ttl_seconds, r.idle_stop_seconds)).collect();
        assert_eq!(asked, [wanted], "{flags}");
        assert!(state.lifetimes[0].user == "alice" && !state.lifetimes[0].request_id.is_empty());
    }
}

#[test]
fn bad_input_is_refused_in_words_before_anything_is_asked() {
    let fleet = with_key(&mortal());
    let cases = [
        ("set alice", "--ttl"),
        ("set alice --autostart maybe", "maybe"),
        ("set alice --ttl 8", "such as 8h, or off"),
        ("set alice --ttl 0s", "time to live 0s is out of range: at least 1s, at most 365d"),
        ("set alice --ttl 366d", "at most 365d"),
        ("set alice --ttl=-8h", "such as 8h"),
        ("set alice --idle-stop 31d", "idle stop 31d is out of range: at least 1s, at most 30d"),
        ("set alice --idle-stop 0", "at least 1s"),
        ("set Alice --ttl 8h", "Alice"),
        ("create alice --ssh-key HERE/alice.pub --ttl 0s", "at least 1s"),
        ("create alice --ssh-key HERE/alice.pub --idle-stop 31d", "at most 30d"),
        ("create alice --ssh-key HERE/alice.pub --ttl off", "such as 8h"),
        ("create alice --ssh-key HERE/alice.pub --autostart on --no-autostart", "--no-autostart"),
    ];
    for (line, why) in cases {
        let outcome = fleet.cli(line).run();
        outcome.error(2);
        assert!(outcome.stderr.contains(why), "{line}: {outcome:?}");
    }
    let state = fleet.state();
    assert!(state.lifetimes.is_empty() && state.creates.is_empty());
}

#[test]
fn refusals_of_the_coordinator_keep_their_exit_codes() {
    let nobody = Coordinator::with([]).cli("set bob --ttl 8h").run();
    assert!(nobody.error(3).contains("bob"), "{nobody:?}");
    let away = Refusal::new(Reason::NodeUnavailable, "jump-1 does not answer").hint("nothing was changed");
    let outcome = Coordinator::refusing(away).cli("set alice --autostart off").run();
    assert_eq!(outcome.error(6), "jump-1 does not answer");
}

#[test]
fn create_says_how_long_it_lives_and_idles() {
    let cases = [
        ("", (true, None, None)),
        ("--no-autostart", (false, None, None)),
        ("--autostart off --ttl 8h", (false, Some(8 * 3600), None)),
        ("--autostart on --idle-stop 12h", (true, None, Some(12 * 3600))),
    ];
    for (flags, wanted) in cases {
        let fleet = with_key(&mortal());
        fleet.cli(&format!("create alice --ssh-key HERE/alice.pub {flags}")).run().ok();
        let state = fleet.state();
        let asked: Vec<_> = state.creates.iter().map(|r| (r.autostart, r.ttl_seconds, r.idle_stop_seconds)).collect();
        assert_eq!(asked, [wanted], "{flags}");
    }
}

#[test]
fn info_and_the_wide_list_show_it() {
    let fleet = Coordinator::with([mortal()]);
    let info = fleet.cli("info alice").run().ok();
    for line in ["Expires       2025-06-15T15:06:40.123Z", "Expired       -", "Idle stop     12h", "Idle since    2025"]
    {
        assert!(info.contains(line), "{info}");
    }
    let wide = fleet.cli("list -o wide").run().ok();
    assert!(wide.contains("EXPIRES") && wide.contains("IDLE STOP") && wide.contains(" 12h "), "{wide}");
    let json: Value = serde_json::from_str(&fleet.cli("list -o json").run().ok()).unwrap();
    assert_eq!(json["containers"][0]["expires_at"], "2025-06-15T15:06:40.123Z");
    assert_eq!(json["containers"][0]["idle_stop_seconds"], 43_200);
}
