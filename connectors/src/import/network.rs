//! Round-trip times, throughput and prices of traffic between cloud regions, as Skyplane measured them: one row per pair
//! and network tiers, of which the premium ones are taken.

use std::collections::BTreeMap;
use std::path::Path;

use solyx_schemas::events::world::{EgressPriced, EgressTier, LinkMeasured};
use solyx_schemas::ids::{EventId, RegionId, SourceId};
use solyx_schemas::units::*;

use super::shift;
use super::table::{Column, Row, Table};
use super::{ImportError, Options, Sink};

/// Who says it.
pub const SOURCE: &str = "import/network";
const PREMIUM: &str = "PREMIUM";

/// The files, each of which may be absent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Files<'a> {
    /// `…,min_rtt_ms,avg_rtt_ms,max_rtt_ms`.
    pub rtt: Option<&'a Path>,
    /// `…,gbps_64conn`; without round-trip times beside it, it says nothing.
    pub throughput: Option<&'a Path>,
    /// `…,usd_per_gb`.
    pub egress: Option<&'a Path>,
}

/// Reads them. Everything is said at the beginning of the run: the trace knows no times.
pub fn import(files: Files<'_>, options: &Options, sink: &mut Sink<'_>) -> Result<(), ImportError> {
    let at = shift::start(options);
    let mut throughput = BTreeMap::new();
    if let Some(path) = files.throughput {
        let (mut table, pairs) = Pairs::open(path)?;
        let gbps = table.column("gbps_64conn")?;
        sink.table(&mut table, |row, rows| {
            match pairs.of(row, options) {
                Some(pair) => drop(throughput.insert(pair, Count(row.positive(gbps, 1_000)?))),
                None => rows.skip(),
            }
            Ok(true)
        })?;
    }
    if let Some(path) = files.rtt {
        let (mut table, pairs) = Pairs::open(path)?;
        let rtt = table.column("avg_rtt_ms")?;
        sink.table(&mut table, |row, rows| {
            let Some((from, to)) = pairs.of(row, options) else {
                rows.skip();
                return Ok(true);
            };
            rows.push(LinkMeasured {
                event_id: EventId::from(format!("link/{from}/{to}/{}", at.0 / SECOND_US)),
                source: SourceId::from(SOURCE),
                occurred_us: at,
                rtt_us: DurationUs(row.positive(rtt, 1_000)?),
                throughput_mbit_s: throughput.get(&(from.clone(), to.clone())).copied(),
                from_region: from,
                to_region: to,
            });
            Ok(true)
        })?;
    }
    if let Some(path) = files.egress {
        let (mut table, pairs) = Pairs::open(path)?;
        let price = table.column("usd_per_gb")?;
        sink.table(&mut table, |row, rows| {
            let Some((from, to)) = pairs.of(row, options) else {
                rows.skip();
                return Ok(true);
            };
            let price_micros_per_gb = RateMicros(row.positive(price, 1_000_000)?);
            rows.push(EgressPriced {
                event_id: EventId::from(format!("egress/{from}/{to}/{}", at.0 / SECOND_US)),
                source: SourceId::from(SOURCE),
                occurred_us: at,
                from_region: from,
                to_region: to,
                currency: Currency::parse("USD").unwrap_or_default(),
                tiers: vec![EgressTier { up_to_gb: None, price_micros_per_gb }],
            });
            Ok(true)
        })?;
    }
    Ok(())
}

/// The columns of a pair of regions.
struct Pairs {
    from: Column,
    to: Column,
    from_tier: Column,
    to_tier: Column,
}

impl Pairs {
    fn open(path: &Path) -> Result<(Table, Self), ImportError> {
        let table = Table::open(path)?;
        let pairs = Self {
            from: table.column("src_region")?,
            to: table.column("dst_region")?,
            from_tier: table.column("src_tier")?,
            to_tier: table.column("dst_tier")?,
        };
        Ok((table, pairs))
    }

    /// The pair of a row that is wanted.
    fn of(&self, row: &Row<'_>, options: &Options) -> Option<(RegionId, RegionId)> {
        let wanted = |region: &str| options.regions.is_empty() || options.regions.iter().any(|name| name == region);
        let (from, to) = (row.text(self.from), row.text(self.to));
        let premium = row.text(self.from_tier) == PREMIUM && row.text(self.to_tier) == PREMIUM;
        (premium && wanted(from) && wanted(to)).then(|| (from.into(), to.into()))
    }
}

#[cfg(test)]
mod tests {
    use solyx_schemas::events::Event;

    use super::*;
    use crate::import::testing::{imported, trace, write};

    #[test]
    fn links_and_prices_of_premium_pairs_are_taken() {
        let head = "src_region,dst_region,src_tier,dst_tier";
        let rtt = write(
            "rtt.csv",
            format!("{head},min_rtt_ms,avg_rtt_ms,max_rtt_ms\na:x,a:y,PREMIUM,PREMIUM,1,248.7805,3\na:x,a:y,PREMIUM,STANDARD,1,2,3\na:y,a:x,PREMIUM,PREMIUM,1,,3\n").as_bytes(),
        );
        let throughput = write("gbps.csv", format!("{head},gbps_64conn\na:x,a:y,PREMIUM,PREMIUM,5.0528\n").as_bytes());
        let egress = write("egress.csv", format!("{head},usd_per_gb\na:x,a:y,PREMIUM,PREMIUM,0.147\n").as_bytes());
        let files = Files { rtt: Some(&rtt), throughput: Some(&throughput), egress: Some(&egress) };
        let (summary, events) = imported(|sink| import(files, &Options::default(), sink));
        assert_eq!((summary.rows, summary.skipped, summary.bad, summary.events), (5, 1, 1, 2));
        assert!(matches!(&events[0], Event::LinkMeasured(link)
            if link.rtt_us.0 == 248_780 && link.throughput_mbit_s == Some(Count(5_053))));
        assert!(matches!(&events[1], Event::EgressPriced(e) if e.tiers[0].price_micros_per_gb.0 == 147_000));
        let options = Options { regions: vec!["a:y".to_owned()], ..Options::default() };
        let (summary, _) = imported(|sink| import(files, &options, sink));
        assert_eq!(summary.events, 0);
    }

    #[test]
    fn the_whole_files_are_read_without_a_bad_row() {
        let (Some(rtt), Some(throughput), Some(egress)) = (
            trace("network/rtt_ms.csv.gz"),
            trace("network/throughput_gbps.csv.gz"),
            trace("network/egress_usd_per_gb.csv.gz"),
        ) else {
            return;
        };
        let files = Files { rtt: Some(&rtt), throughput: Some(&throughput), egress: Some(&egress) };
        let (summary, events) = imported(|sink| import(files, &Options::default(), sink));
        assert_eq!((summary.bad, events.len()), (0, 4_692 + 3_969), "{:?}", summary.bad_rows);
    }
}
