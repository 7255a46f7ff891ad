//! Texts are sealed, opened and erased.

use std::os::unix::fs::PermissionsExt;

use solyx_schemas::events::event_type;
use solyx_schemas::events::jobs::{JobCancelRequested, JobRequested};
use solyx_schemas::field::Field;
use solyx_schemas::ids::TenantId;

use super::*;

fn key(tenant: &str, id: &str, byte: u8) -> TenantKey {
    TenantKey::new(TenantId::from(tenant), id, [byte; KEY_LEN]).unwrap()
}

fn request(tenant: &str, label: &str) -> Event {
    let Event::JobRequested(example) = (event_type("JobRequested").unwrap().example)() else { panic!("another event") };
    let mut request: JobRequested = *example;
    request.tenant = tenant.into();
    request.labels[0].value = label.to_owned();
    request.into()
}

fn label(event: &Event) -> &str {
    let Event::JobRequested(request) = event else { panic!("another event") };
    &request.labels[0].value
}

#[test]
fn who_has_the_key_reads_it_and_nobody_else() {
    let ring = Keyring::of([key("acme", "acme/1", 7), key("beta", "beta/1", 8)]);
    let mut event = request("acme", "patient 4711");
    assert_eq!(ring.seal(&mut event).unwrap(), 1);
    let token = label(&event).to_owned();
    assert!(token.starts_with("sealed:1:acme/1:") && !token.contains("4711"), "{token}");
    assert_eq!(ring.reveal(&format!("says {token}!")), "says patient 4711!");
    assert_eq!(Keyring::default().reveal(&token), "[erased: key acme/1 is not at hand]");
    let other = Keyring::of([key("acme", "acme/1", 9)]);
    assert_eq!(other.reveal(&token), "[unreadable: key acme/1 does not open it]");
    let mut quoting = request("acme", "\"so\\ \n it is\"");
    ring.seal(&mut quoting).unwrap();
    let json = ring.reveal_json(&solyx_schemas::json::to_json(&quoting).to_string()).into_owned();
    let said: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(said["labels"][0]["value"], "\"so\\ \n it is\"");
    let mut turned = token.into_bytes();
    let last = turned.len() - 3;
    turned[last] = if turned[last] == b'A' { b'B' } else { b'A' };
    let turned = String::from_utf8(turned).unwrap();
    assert_eq!(ring.reveal(&turned), "[unreadable: key acme/1 does not open it]");
}

#[test]
fn the_same_event_is_sealed_to_the_same_bytes_and_another_to_others() {
    let ring = Keyring::of([key("acme", "acme/1", 7)]);
    let sealed = |event: &Event| {
        let mut event = event.clone();
        ring.seal(&mut event).unwrap();
        event
    };
    let once = sealed(&request("acme", "x"));
    assert_eq!(once, sealed(&request("acme", "x")));
    // What is sealed already stays.
    assert_eq!(once, sealed(&once));
    let Event::JobRequested(mut other) = request("acme", "x") else { panic!("another event") };
    other.event_id = "another".into();
    assert_ne!(label(&once), label(&sealed(&Event::JobRequested(other))));
}

#[test]
fn an_event_that_no_key_is_for_is_refused_and_not_left_open() {
    let both = Keyring::of([key("acme", "acme/1", 7), key("beta", "beta/1", 8)]);
    let error = both.seal(&mut request("gamma", "x")).unwrap_err().to_string();
    assert!(error.contains("field tenant: found gamma") && error.contains("acme/1, beta/1"), "{error}");
    let mut cancel =
        Event::from(JobCancelRequested { reason: "moved out".to_owned(), ..JobCancelRequested::example("") });
    assert!(both.seal(&mut cancel).unwrap_err().to_string().contains("does not say whose it is"));
    assert_eq!(Keyring::of([key("acme", "acme/1", 7)]).seal(&mut cancel).unwrap(), 1);
}

#[test]
fn a_file_of_a_key_is_for_its_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("acme.key");
    let made = TenantKey::generate(TenantId::from("acme"), "acme/1").unwrap();
    made.store(&file).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let ring = Keyring::load_dir(dir.path()).unwrap();
    assert_eq!(ring.get("acme/1").unwrap().bytes(), made.bytes());
    assert!(made.store(&file).unwrap_err().to_string().contains("exists"), "a key is never written over");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = TenantKey::load(&file).unwrap_err().to_string();
    assert!(error.contains("its mode is 0640, expected 0600"), "{error}");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&file, "tenant = \"acme\"\nkey_id = \"a b\"\nkey = \"00\"\n").unwrap();
    assert!(TenantKey::load(&file).unwrap_err().to_string().contains("field key: expected 64"));
    assert!(TenantKey::new(TenantId::from("acme"), "a:b", [0; KEY_LEN]).unwrap_err().contains("field key_id"));
}
