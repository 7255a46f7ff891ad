//! Keys and signatures against vectors of others.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use solyx_proofs::{PublicKey, SecretKey};
use solyx_schemas::ids::RefId;

/// Test 1 of RFC 8032 section 7.1.
const SECRET: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
const PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

fn file(secret: &str, public: &str) -> String {
    format!(r#"{{"key_id":"k","algorithm":"ed25519","secret_key":"{secret}","public_key":"{public}"}}"#)
}

#[test]
fn signatures_are_those_of_rfc_8032() {
    let key = SecretKey::from_file(&file(SECRET, PUBLIC)).unwrap();
    let signature = key.sign("");
    assert_eq!(
        hex::encode(signature),
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    );
    assert!(key.public().verifies("", &signature));
    assert!(!key.public().verifies(" ", &signature));
}

#[test]
fn hints_and_signatures_of_notes_are_those_of_others() {
    // The example of golang.org/x/mod/sumdb/note.
    let bytes = STANDARD.decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW").unwrap();
    let key = PublicKey::parse(&RefId::from("k"), &hex::encode(&bytes[1..])).unwrap();
    assert_eq!(hex::encode(key.hint("PeterNeumann")), "c74f20a3");
    let line = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=";
    let signature = STANDARD.decode(line).unwrap()[4..].try_into().unwrap();
    let text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
    assert!(key.verifies(text, &signature));
}

#[test]
fn what_is_no_key_is_refused_and_its_secret_is_not_shown() {
    let other = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
    for text in [file(SECRET, other), file(&SECRET[1..], PUBLIC), format!("{SECRET}\n"), file(SECRET, PUBLIC) + "x"] {
        let error = SecretKey::from_file(&text).err().unwrap();
        assert!(!error.contains(&SECRET[1..20]), "{error}");
    }
    let weak = "0100000000000000000000000000000000000000000000000000000000000000";
    assert!(PublicKey::parse(&RefId::from("k"), weak).is_err());
    assert!(PublicKey::parse(&RefId::from("k"), &PUBLIC.to_uppercase()).is_err());
}

#[test]
fn a_key_comes_back_from_its_file() {
    let key = SecretKey::generate(None).unwrap();
    assert_eq!(SecretKey::from_file(&key.file()).unwrap().public(), key.public());
    assert_eq!(PublicKey::from_file(&key.public().file()).unwrap(), key.public());
    assert!(!key.public().file().contains("secret"));
    assert!(key.public().id.as_str().starts_with("ed25519-"));
}
