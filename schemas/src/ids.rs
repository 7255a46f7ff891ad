//! Names of things. An id is 1 to 128 characters from `A–Z a–z 0–9 . _ : / -`.

use crate::field::FieldError;

/// The longest id, in characters.
pub const ID_LEN_MAX: usize = 128;

ids! {
    /// Id of an event, unique within its source.
    EventId "evt-0001";
    /// A producer's name.
    SourceId "example-producer";
    /// A cell: one engine with its own inputs and decisions.
    CellId "cell-a";
    /// A tenant: who asks for work and pays.
    TenantId "team-vision";
    /// A project of a tenant.
    ProjectId "detector";
    /// A job.
    JobId "job-0001";
    /// One attempt at running a job.
    RunId "job-0001/1";
    /// A site: a place with power, cooling and storage.
    SiteId "metapod-1";
    /// A region of a provider or of the network.
    RegionId "aws:eu-central-1";
    /// A grid zone, by the names of the grid's operators.
    ZoneId "DE-LU";
    /// An element of a site's power tree.
    ElementId "feed-a";
    /// A pool: one provider's capacity of one kind at one site.
    PoolId "metapod-1/h100";
    /// A provider of capacity.
    ProviderId "metapod";
    /// A node.
    NodeId "node-001";
    /// An instance leased from a provider.
    InstanceId "i-0001";
    /// A GPU model.
    GpuModelId "H100";
    /// A data set or a checkpoint's replica group.
    DatasetId "imagenet";
    /// A priority class.
    ClassId "standard";
    /// A feature of the engine.
    FeatureId "spine";
    /// A rate card, quota, budget, order, reservation or any other thing with an id of its own.
    RefId "ref-0001";
    /// A name chosen from a documented set that may grow: rules, meters, labels' keys.
    Name "solyx";
}

/// Whether an id may have a byte. Without branches, so that many are looked at together.
const fn is_of_id(byte: u8) -> bool {
    // From - to : lie the signs - . / and :, with the digits between them.
    ((byte | 0x20).wrapping_sub(b'a') < 26) | (byte.wrapping_sub(b'-') <= b':' - b'-') | (byte == b'_')
}

/// Whether `text` is an id.
pub fn check_id(text: &str) -> Result<(), FieldError> {
    if (1..=ID_LEN_MAX).contains(&text.len()) && text.bytes().fold(true, |valid, byte| valid & is_of_id(byte)) {
        return Ok(());
    }
    let shown: String = text.chars().take(ID_LEN_MAX).collect();
    Err(FieldError::here(format!("{shown:?}"), "an id: 1 to 128 characters from A-Z a-z 0-9 . _ : / -"))
}

/// An example of an id for a field of this name, where a plain one of its type would not be valid.
pub(crate) fn example_id(field: &str, plain: &'static str) -> &'static str {
    match field {
        "evidence_digest" | "model_digest" | "root" | "public_key" | "next_public_key" => {
            "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
        }
        "signature" => {
            "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\
             2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
        }
        "algorithm" | "next_algorithm" => "ed25519",
        "period" => "2023-09",
        "country" | "residency" => "DE",
        "certificates" => "iso27001",
        "topic" => "jobs",
        "order_rule" => "classic",
        "engine_version" => "0.1.0",
        "domain" => "site:metapod-1",
        "parent" => "company",
        "parents" => "ups-a",
        _ => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_of_letters_digits_and_five_signs() {
        for byte in 0..=u8::MAX {
            let expected = byte.is_ascii_alphanumeric() || b"._:/-".contains(&byte);
            assert_eq!(is_of_id(byte), expected, "{byte:#04x}");
        }
    }
}
