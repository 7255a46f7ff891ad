//! A catalog of offers: `provider,instance_type,gpu,gpu_count,vcpus,memory_gib,gpu_memory_mib_each,price_usd_per_hour,
//! spot_usd_per_hour,region`. Each offer becomes an on-demand pool with its price, and a spot pool where it has a spot
//! price; each place becomes a site and each GPU model is declared.
//!
//! A catalog says neither how many instances can be had nor what grid a region hangs on: availability is unknown, the
//! grid zone is `unknown`, and a region whose name tells no country has the code ZZ, which ISO 3166 leaves to users.
//! Offers without GPUs are passed over.

use std::collections::BTreeSet;
use std::path::Path;

use solyx_schemas::events::capacity::*;
use solyx_schemas::events::facility::SiteDeclared;
use solyx_schemas::events::policy::GpuModelDeclared;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;
use solyx_schemas::validity::NODE_GPUS_MAX;

use super::decimal::Decimal;
use super::shift;
use super::sink::Rows;
use super::table::{Column, Row, Table};
use super::{BadRow, ImportError, Options, Sink};

/// Who says it.
pub const SOURCE: &str = "import/offers";
/// Largest power of one GPU by the vendors' data sheets.
const MAX_W: [(&str, i64); 14] = [
    ("V100", 300),
    ("A100", 400),
    ("A100-80GB", 400),
    ("H100", 700),
    ("H200", 700),
    ("GH200", 900),
    ("B200", 1_000),
    ("A10", 150),
    ("A40", 300),
    ("A6000", 300),
    ("RTXA6000", 300),
    ("L40S", 350),
    ("RTX3090", 350),
    ("RTX4090", 450),
];
/// Power of a model that is not in the table.
const MAX_W_ASSUMED: i64 = 300;
/// An idle GPU is taken to draw a tenth.
const IDLE_PART: i64 = 10;
/// Power usage effectiveness of a provider's site, which no catalog says: the mean of Uptime Institute's survey of 2023.
const PUE_MILLI: i64 = 1_580;
const MINIMUM_BILLING_US: i64 = 60 * SECOND_US;
const START_DELAY_US: i64 = 5 * 60 * SECOND_US;

struct Columns {
    provider: Column,
    instance_type: Column,
    gpu: Column,
    gpu_count: Column,
    vcpus: Column,
    memory_gib: Column,
    gpu_memory_mib: Column,
    price: Column,
    spot: Column,
    region: Column,
}

/// Reads the offers of the wanted regions.
pub fn import(path: &Path, options: &Options, sink: &mut Sink<'_>) -> Result<(), ImportError> {
    let mut table = Table::open(path)?;
    let columns = Columns {
        provider: table.column("provider")?,
        instance_type: table.column("instance_type")?,
        gpu: table.column("gpu")?,
        gpu_count: table.column("gpu_count")?,
        vcpus: table.column("vcpus")?,
        memory_gib: table.column("memory_gib")?,
        gpu_memory_mib: table.column("gpu_memory_mib_each")?,
        price: table.column("price_usd_per_hour")?,
        spot: table.column("spot_usd_per_hour")?,
        region: table.column("region")?,
    };
    let at = shift::start(options);
    let mut said = BTreeSet::new();
    let mut taken = 0;
    sink.table(&mut table, |row, rows| {
        let region = row.text(columns.region);
        let wanted = options.regions.is_empty() || options.regions.iter().any(|name| name == region);
        if !wanted || row.text(columns.gpu_count) == "0" {
            rows.skip();
            return Ok(true);
        }
        if options.limit.is_some_and(|limit| taken >= limit) {
            return Ok(false);
        }
        taken += 1;
        // What a bad row would have said is left to the next one that says it.
        said.extend(offer(row, &columns, at, &said, rows)?);
        Ok(true)
    })
}

fn offer(
    row: &Row<'_>,
    columns: &Columns,
    at: TimeUs,
    said: &BTreeSet<String>,
    rows: &mut Rows<'_>,
) -> Result<BTreeSet<String>, BadRow> {
    let provider = row.required(columns.provider)?;
    let region = row.text(columns.region);
    let gpus = row.integer(columns.gpu_count, 1..=NODE_GPUS_MAX)?;
    let model = row.required(columns.gpu)?;
    let memory = MemoryMib(row.integer(columns.gpu_memory_mib, 1..=10_000_000)?);
    let site = SiteId::from(format!("{provider}/{}", slug(region)));
    let shape = InstanceShape {
        instance_type: Name::from(slug(row.required(columns.instance_type)?)),
        gpus: Count(gpus),
        cpu_milli: CpuMilli(row.positive(columns.vcpus, 1_000)?),
        memory_mib: MemoryMib(row.positive(columns.memory_gib, 1_024)?),
        gpu_memory_mib: memory,
        scratch_gib: StorageGib::ZERO,
    };
    let price = per_gpu(row, columns.price, gpus)?;
    let spot = match row.text(columns.spot) {
        "" => None,
        _ => Some(per_gpu(row, columns.spot, gpus)?).filter(|price| *price > 0),
    };
    let mut new = BTreeSet::new();
    let mut is_new = |what: String| !said.contains(&what) && new.insert(what);
    if is_new(format!("model {model}")) {
        rows.push(declared_model(model, memory, at));
    }
    if is_new(format!("site {site}")) {
        rows.push(declared_site(&site, provider, region, at));
    }
    let classes = [(CapacityClass::OnDemand, "on-demand", Some(price)), (CapacityClass::Spot, "spot", spot)];
    for (class, word, price) in classes {
        let Some(price) = price else { continue };
        let pool = PoolId::from(format!("{site}/{}/{word}", shape.instance_type));
        if !is_new(format!("pool {pool}")) {
            rows.skip();
            continue;
        }
        let lead = |kind: &str| EventId::from(format!("offers/{kind}/{pool}/{}", at.0 / SECOND_US));
        rows.push(PoolDeclared {
            event_id: lead("pool"),
            source: SourceId::from(SOURCE),
            occurred_us: at,
            pool: pool.clone(),
            provider: ProviderId::from(provider),
            site: site.clone(),
            class,
            gpu_model: GpuModelId::from(model),
            shape: shape.clone(),
            fabric: FabricKind::Ethernet,
            minimum_billing_us: DurationUs(MINIMUM_BILLING_US),
            granularity_us: DurationUs(SECOND_US),
            start_delay_us: DurationUs(START_DELAY_US),
            commitment: None,
        });
        rows.push(PoolPriced {
            event_id: lead("price"),
            source: SourceId::from(SOURCE),
            occurred_us: at,
            pool: pool.clone(),
            price_micros_per_gpu_hour: RateMicros(price),
            currency: Currency::parse("USD").unwrap_or_default(),
            effective_from_us: at,
        });
        rows.push(PoolAvailabilityReported {
            event_id: lead("availability"),
            source: SourceId::from(SOURCE),
            occurred_us: at,
            pool,
            instances: None,
        });
    }
    rows.check()?;
    Ok(new)
}

/// A price per hour of an instance as micros per GPU-hour; what does not divide is rounded up, so that no offer looks
/// cheaper than it is.
fn per_gpu(row: &Row<'_>, column: Column, gpus: i64) -> Result<i64, BadRow> {
    let micros = Decimal::parse(row.text(column)).and_then(|price| price.times(1_000_000));
    let micros = micros.map_err(|e| row.bad(column, e))?;
    if micros < 0 {
        return Err(row.bad(column, "a price that is not negative"));
    }
    Ok(micros / gpus + i64::from(micros % gpus != 0))
}

fn declared_model(model: &str, memory_mib: MemoryMib, at: TimeUs) -> GpuModelDeclared {
    let max_w = MAX_W.iter().find(|(known, _)| *known == model).map_or(MAX_W_ASSUMED, |(_, watts)| *watts);
    GpuModelDeclared {
        event_id: EventId::from(format!("offers/model/{model}/{}", at.0 / SECOND_US)),
        source: SourceId::from(SOURCE),
        occurred_us: at,
        model: GpuModelId::from(model),
        memory_mib,
        idle_w: PowerW(max_w / IDLE_PART),
        max_w: PowerW(max_w),
        nvlink_domain_size: Count(1),
        ..GpuModelDeclared::default()
    }
}

fn declared_site(site: &SiteId, provider: &str, region: &str, at: TimeUs) -> SiteDeclared {
    SiteDeclared {
        event_id: EventId::from(format!("offers/site/{site}/{}", at.0 / SECOND_US)),
        source: SourceId::from(SOURCE),
        occurred_us: at,
        site: site.clone(),
        name: format!("{provider}, {region}"),
        region: RegionId::from(format!("{provider}:{}", slug(region))),
        grid_zone: ZoneId::from("unknown"),
        country: Name::from(country(region)),
        design_pue_milli: Milli(PUE_MILLI),
        ..SiteDeclared::default()
    }
}

/// The country of a region by its name: `Texas, US, NA`, or the providers' own `us-east-1`.
fn country(region: &str) -> &str {
    let code = |part: &&str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_uppercase());
    let mut parts = region.split(", ");
    if let (Some(_), Some(country), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        && code(&country)
    {
        return country;
    }
    let known =
        [("us-", "US"), ("australia-", "AU"), ("asia-northeast-", "JP"), ("asia-south-", "IN"), ("eu-north1", "FI")];
    known.iter().find(|(prefix, _)| region.starts_with(prefix)).map_or("ZZ", |(_, country)| *country)
}

/// Text with everything that an id cannot hold as a dash.
fn slug(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') {
            out.push(c);
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
    }
    let out = out.trim_end_matches('-');
    if out.is_empty() { "unknown".to_owned() } else { out.chars().take(48).collect() }
}

#[cfg(test)]
mod tests {
    use solyx_schemas::events::Event;

    use super::*;
    use crate::import::testing::{imported, trace, write};

    #[test]
    fn offers_become_pools_with_prices_per_gpu() {
        let file = write(
            "offers.csv",
            "provider,instance_type,gpu,gpu_count,vcpus,memory_gib,gpu_memory_mib_each,price_usd_per_hour,spot_usd_per_hour,region\n\
            nebius,h100 8x,H100,8,128,1600,81920,23.6,10.0,eu-north1\n\
            vast,3x,H100,3,32,64,81559,1.0,0.0,\"Hafnarfjarðarkaupstaður, IS, EU\"\n\
            lambda,cpu,,0,4,16,,0.2,,us-east-1\n\
            vast,8x,H100,8,32,64,81559,cheap,0.0,\"Vietnam, VN, AS\"\n"
                .as_bytes(),
        );
        let (summary, events) = imported(|sink| import(&file, &Options::default(), sink));
        assert_eq!((summary.rows, summary.skipped, summary.bad), (4, 1, 1));
        let prices: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::PoolPriced(p) => Some((p.pool.as_str(), p.price_micros_per_gpu_hour.0)),
                _ => None,
            })
            .collect();
        let expected = [
            ("nebius/eu-north1/h100-8x/on-demand", 2_950_000),
            ("nebius/eu-north1/h100-8x/spot", 1_250_000),
            ("vast/Hafnarfjar-arkaupsta-ur-IS-EU/3x/on-demand", 333_334),
        ];
        assert_eq!(prices, expected);
        let countries: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::SiteDeclared(site) => Some(site.country.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(countries, ["FI", "IS"]);
    }

    #[test]
    fn what_a_bad_row_would_have_declared_is_declared_by_the_next_good_one() {
        let row = |kind: &str, price: &str| format!("vast,{kind},H100,8,32,64,81559,{price},,us-east-1\n");
        // So dear that no event can say it.
        let rows = row("bad", "9000000000000000000") + &row("good", "8.0") + &row("other", "16.0");
        let header = "provider,instance_type,gpu,gpu_count,vcpus,memory_gib,gpu_memory_mib_each,price_usd_per_hour,spot_usd_per_hour,region\n";
        let file = write("offers.csv", format!("{header}{rows}").as_bytes());
        let (summary, events) = imported(|sink| import(&file, &Options::default(), sink));
        assert_eq!((summary.rows, summary.bad), (3, 1));
        let count = |is: fn(&Event) -> bool| events.iter().filter(|event| is(event)).count();
        let declared = [
            count(|event| matches!(event, Event::GpuModelDeclared(_))),
            count(|event| matches!(event, Event::SiteDeclared(_))),
            count(|event| matches!(event, Event::PoolDeclared(_))),
        ];
        assert_eq!(declared, [1, 1, 2]);
    }

    #[test]
    fn the_whole_catalog_is_read_without_a_bad_row() {
        let Some(path) = trace("catalogs/gpu_offers_skypilot_v8_snapshot.csv") else { return };
        let (summary, events) = imported(|sink| import(&path, &Options::default(), sink));
        assert_eq!((summary.rows, summary.bad), (498, 0), "{:?}", summary.bad_rows);
        let spot =
            events.iter().filter(|event| matches!(event, Event::PoolDeclared(p) if p.class == CapacityClass::Spot));
        assert_eq!(spot.count(), 10);
    }
}
