//! What a receipt shows of an epoch record.

use solyx_proofs::without_overcommitments;
use solyx_schemas::codec::Codec;
use solyx_schemas::events::{Event, event_type};

#[test]
fn an_epoch_record_is_shown_without_its_overcommitments_and_else_byte_by_byte() {
    let mut event = (event_type("EpochCommitted").unwrap().example)();
    let value = Codec::global().encode(&event);
    let shown = without_overcommitments(&value).unwrap();
    let Event::EpochCommitted(record) = &mut event else { panic!("the example is of another type") };
    assert!(!record.overcommitments.is_empty(), "the example has some");
    record.overcommitments.clear();
    assert_eq!(shown, Codec::global().encode(&event));
    assert_eq!(without_overcommitments(&shown).unwrap(), shown);
    assert!(without_overcommitments(&value[..value.len() - 1]).is_err());
    assert!(without_overcommitments(b"").is_err());
}
