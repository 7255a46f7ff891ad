//! The topics, in the order in which an epoch applies them, and how a key finds its partition.

/// A topic of a cell. Divided by who may write it; the order is the order of application inside an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Topic {
    /// Operators: tenants, quotas, rates, policies.
    Policy,
    /// Operators and sensors: sites, power, cooling.
    Facility,
    /// Operators: the life of hardware.
    Assets,
    /// Provider connectors: pools, prices, availability.
    Capacity,
    /// Node agents.
    Nodes,
    /// The verifier.
    Attestation,
    /// Network measurements and prices.
    Network,
    /// Energy prices and carbon.
    Energy,
    /// Data sets and replicas.
    Storage,
    /// Provider connectors: leases of instances.
    Leases,
    /// The planner.
    Plans,
    /// Tenants through the API, trusted producers.
    Jobs,
    /// Executors.
    Runs,
    /// Meters.
    Usage,
    /// The truth of a trace; never read by the kernel.
    Sim,
    /// Signed heads; never read by the kernel.
    Proofs,
    /// How far a virtual run and its executor have come; never read by the kernel.
    Cursors,
    /// Copies of records that do not count; an output.
    Quarantine,
    /// Decisions and epoch records; an output.
    Decisions,
}

impl Topic {
    /// The topics the kernel reads, in the order in which an epoch applies them.
    pub const INPUTS: [Self; 14] = [
        Self::Policy,
        Self::Facility,
        Self::Assets,
        Self::Capacity,
        Self::Nodes,
        Self::Attestation,
        Self::Network,
        Self::Energy,
        Self::Storage,
        Self::Leases,
        Self::Plans,
        Self::Jobs,
        Self::Runs,
        Self::Usage,
    ];

    /// Every topic.
    pub const ALL: [Self; 19] = [
        Self::Policy,
        Self::Facility,
        Self::Assets,
        Self::Capacity,
        Self::Nodes,
        Self::Attestation,
        Self::Network,
        Self::Energy,
        Self::Storage,
        Self::Leases,
        Self::Plans,
        Self::Jobs,
        Self::Runs,
        Self::Usage,
        Self::Sim,
        Self::Proofs,
        Self::Cursors,
        Self::Quarantine,
        Self::Decisions,
    ];

    /// The name without the cell's prefix.
    pub fn name(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Facility => "facility",
            Self::Assets => "assets",
            Self::Capacity => "capacity",
            Self::Nodes => "nodes",
            Self::Attestation => "attestation",
            Self::Network => "network",
            Self::Energy => "energy",
            Self::Storage => "storage",
            Self::Leases => "leases",
            Self::Plans => "plans",
            Self::Jobs => "jobs",
            Self::Runs => "runs",
            Self::Usage => "usage",
            Self::Sim => "sim",
            Self::Proofs => "proofs",
            Self::Cursors => "cursors",
            Self::Quarantine => "quarantine",
            Self::Decisions => "decisions",
        }
    }

    /// The topic of a name without prefix.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.name() == name)
    }

    /// Whether the kernel reads it.
    pub fn is_input(self) -> bool {
        Self::INPUTS.contains(&self)
    }

    /// Partitions of a topic when `CellDeclared` has not said otherwise.
    pub fn default_partitions(self) -> u32 {
        match self {
            Self::Jobs | Self::Runs | Self::Usage | Self::Nodes | Self::Decisions => 4,
            _ => 1,
        }
    }
}

/// A topic, or the staged twin of an input topic that only a virtual run reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct TopicName {
    /// The topic.
    pub topic: Topic,
    /// Whether this is `<prefix>.staged.<topic>`.
    pub staged: bool,
}

impl TopicName {
    /// The name without the cell's prefix: `jobs` or `staged.jobs`.
    pub fn name(self) -> String {
        if self.staged { format!("staged.{}", self.topic.name()) } else { self.topic.name().to_owned() }
    }

    /// The topic of such a name.
    pub fn parse(name: &str) -> Option<Self> {
        match name.strip_prefix("staged.") {
            Some(rest) => Topic::parse(rest).map(Self::staged),
            None => Topic::parse(name).map(Self::live),
        }
    }

    /// The topic itself.
    pub fn live(topic: Topic) -> Self {
        Self { topic, staged: false }
    }

    /// Its staged twin.
    pub fn staged(topic: Topic) -> Self {
        Self { topic, staged: true }
    }
}

impl From<Topic> for TopicName {
    fn from(topic: Topic) -> Self {
        Self::live(topic)
    }
}

/// The partition of a key among `partitions`, as Apache Kafka's default partitioner computes it (murmur2).
pub fn partition_of(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions.max(1)
}

/// MurmurHash2 with Kafka's seed (`org.apache.kafka.common.utils.Utils.murmur2`).
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut h: u32 = 0x9747_b28c ^ (data.len() as u32);
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let tail = chunks.remainder();
    if !tail.is_empty() {
        for (i, byte) in tail.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_hash_as_apache_kafka_hashes_them() {
        // Values of Apache Kafka's own UtilsTest.testMurmur2.
        let cases: [(&str, i32); 7] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
            ("", 275_646_681),
        ];
        for (key, hash) in cases {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }

    #[test]
    fn partitions_come_from_the_positive_part_of_the_hash() {
        // (hash & 0x7fffffff) % partitions with the hashes above.
        assert_eq!(partition_of(b"21", 1_000), 340);
        assert_eq!(partition_of(b"abc", 1_000), 107);
        assert_eq!(partition_of(b"", 4), 1);
        assert_eq!(partition_of(b"anything", 1), 0);
    }

    #[test]
    fn names_of_topics_are_read_back() {
        for topic in Topic::ALL {
            for name in [TopicName::live(topic), TopicName::staged(topic)] {
                assert_eq!(TopicName::parse(&name.name()), Some(name));
            }
        }
    }
}
