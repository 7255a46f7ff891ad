//! Prices (USD per MWh) and carbon (grams CO2e per kWh) by hour and grid zone: one column per zone, one row per hour UTC.
//!
//! Nothing knows the future: a price is day-ahead and published at 12:00 UTC the day before; carbon is published as
//! actual when its hour has passed, and as forecast for the same hour a week later at 12:00 UTC the day before that.
//! Empty cells are skipped and counted, negative prices are kept, gaps stay holes.

use std::path::Path;

use solyx_schemas::events::Event;
use solyx_schemas::events::world::*;
use solyx_schemas::ids::{EventId, SourceId, ZoneId};
use solyx_schemas::units::*;

use super::shift::Shift;
use super::sink::Rows;
use super::table::{Column, Row, Table};
use super::{BadRow, ImportError, Options, Sink};

/// Who says it.
pub const SOURCE: &str = "import/energy";
/// Column of the hour.
const HOUR: &str = "hour_utc";
/// Between a value and the hour it is a forecast for.
const FORECAST_AHEAD_US: i64 = 7 * DAY_US;

/// Reads prices, then carbon.
pub fn import(
    prices: Option<&Path>,
    carbon: Option<&Path>,
    options: &Options,
    sink: &mut Sink<'_>,
) -> Result<(), ImportError> {
    // Both files move by as much, so that the price and the carbon of an hour stay together.
    let mut shift = Shift::new(options);
    if let Some(path) = prices {
        by_zone(path, options, &mut shift, sink, |row, column, zone, hour, shift, rows| {
            if shift.wants(hour) {
                rows.cell(price(row, column, zone, hour));
            }
        })?;
    }
    if let Some(path) = carbon {
        by_zone(path, options, &mut shift, sink, |row, column, zone, hour, shift, rows| {
            if shift.wants(hour) {
                let published = TimeUs(hour.0 + HOUR_US);
                rows.cell(carbon_of(row, column, zone, hour, CarbonStatus::Actual, published));
            }
            let later = TimeUs(hour.0 + FORECAST_AHEAD_US);
            if shift.wants(later) {
                rows.cell(carbon_of(row, column, zone, later, CarbonStatus::Forecast, noon_before(later)));
            }
        })?;
    }
    Ok(())
}

/// Walks the cells of a table with a column per zone.
fn by_zone(
    path: &Path,
    options: &Options,
    shift: &mut Shift,
    sink: &mut Sink<'_>,
    mut cell: impl FnMut(&Row<'_>, Column, &ZoneId, TimeUs, &Shift, &mut Rows<'_>),
) -> Result<(), ImportError> {
    let mut table = Table::open(path)?;
    let hour_column = table.column(HOUR)?;
    let wanted = |zone: &String| zone != HOUR && (options.zones.is_empty() || options.zones.contains(zone));
    let zones: Vec<String> = table.header().iter().filter(|zone| wanted(zone)).cloned().collect();
    let mut columns = Vec::new();
    for zone in &zones {
        columns.push((table.column(zone)?, ZoneId::from(zone.as_str())));
    }
    if let Some(missing) = options.zones.iter().find(|zone| !zones.contains(zone)) {
        return Err(ImportError::Column {
            file: table.file.clone(),
            column: missing.clone(),
            found: table.header().join(","),
        });
    }
    let mut taken = 0;
    sink.table(&mut table, |row, rows| {
        let said = row.time(hour_column)?;
        if said.0 % HOUR_US != 0 {
            return Err(row.bad(hour_column, "the beginning of an hour"));
        }
        if options.limit.is_some_and(|limit| taken >= limit) {
            return Ok(false);
        }
        let hour = shift.apply(said);
        for (column, zone) in &columns {
            if row.text(*column).is_empty() {
                rows.skip();
            } else {
                cell(row, *column, zone, hour, shift, rows);
            }
        }
        // What lies outside the window counts for nothing but that.
        match rows.is_empty() {
            true => rows.skip(),
            false => taken += 1,
        }
        Ok(true)
    })
}

fn price(row: &Row<'_>, column: Column, zone: &ZoneId, hour: TimeUs) -> Result<Event, BadRow> {
    let published = noon_before(hour);
    Ok(EnergyPriced {
        event_id: EventId::from(format!("price/{zone}/{}", hour.0 / SECOND_US)),
        source: SourceId::from(SOURCE),
        occurred_us: published,
        zone: zone.clone(),
        from_us: hour,
        to_us: TimeUs(hour.0 + HOUR_US),
        price_micros_per_mwh: RateMicros(row.decimal(column, 1_000_000)?),
        currency: Currency::parse("USD").unwrap_or_default(),
        kind: PriceKind::DayAhead,
        revision: Count::ZERO,
        published_us: published,
    }
    .into())
}

fn carbon_of(
    row: &Row<'_>,
    column: Column,
    zone: &ZoneId,
    hour: TimeUs,
    status: CarbonStatus,
    published: TimeUs,
) -> Result<Event, BadRow> {
    let kind = if status == CarbonStatus::Actual { "actual" } else { "forecast" };
    Ok(CarbonReported {
        event_id: EventId::from(format!("carbon/{kind}/{zone}/{}", hour.0 / SECOND_US)),
        source: SourceId::from(SOURCE),
        occurred_us: published,
        zone: zone.clone(),
        from_us: hour,
        to_us: TimeUs(hour.0 + HOUR_US),
        mg_per_kwh: CarbonIntensityMgPerKwh(row.positive(column, 1_000)?),
        status,
        signal: CarbonSignal::Average,
        method: CarbonMethod::Location,
        revision: Count::ZERO,
        published_us: published,
    }
    .into())
}

/// 12:00 UTC of the day before an hour: when day-ahead auctions publish.
fn noon_before(hour: TimeUs) -> TimeUs {
    TimeUs((hour.0.div_euclid(DAY_US) * DAY_US - DAY_US / 2).max(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::testing::{imported, write};

    const PRICES: &str = "hour_utc,AU-VIC,DE-LU,IN-WE\n\
        2023-01-01 00:00,-30.62,-3.36,\n\
        2023-01-01 01:00,13.40,n/a,\n\
        2023-01-01 01:30,13.40,1,1\n\
        2023-01-01 05:00,1e30,7,\n";

    #[test]
    fn prices_are_published_at_noon_of_the_day_before_and_holes_stay_holes() {
        let file = write("prices.csv", PRICES.as_bytes());
        let (summary, events) = imported(|sink| import(Some(&*file), None, &Options::default(), sink));
        assert_eq!((summary.rows, summary.skipped, summary.bad), (4, 3, 3));
        let found: Vec<String> = events
            .iter()
            .map(|event| match event {
                Event::EnergyPriced(p) => {
                    format!("{} {} {} {}", p.zone, rfc3339(p.from_us), p.price_micros_per_mwh.0, rfc3339(p.occurred_us))
                }
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            found,
            [
                "AU-VIC 2023-01-01T00:00:00Z -30620000 2022-12-31T12:00:00Z",
                "DE-LU 2023-01-01T00:00:00Z -3360000 2022-12-31T12:00:00Z",
                "AU-VIC 2023-01-01T01:00:00Z 13400000 2022-12-31T12:00:00Z",
                "DE-LU 2023-01-01T05:00:00Z 7000000 2022-12-31T12:00:00Z",
            ]
        );
        assert_eq!(summary.bad_rows.iter().map(|bad| bad.line).collect::<Vec<_>>(), [3, 4, 5]);
    }

    #[test]
    fn carbon_is_known_after_its_hour_and_expected_from_a_week_before() {
        let file = write("carbon.csv", b"hour_utc,GB,KR\n2023-09-04 10:00,91.44,422.78\n2023-09-04 11:00,-1,1\n");
        let options = Options { zones: vec!["GB".to_owned()], ..Options::default() };
        let (summary, events) = imported(|sink| import(None, Some(&*file), &options, sink));
        assert_eq!((summary.bad, events.len()), (2, 2));
        let found: Vec<String> = events
            .iter()
            .map(|event| match event {
                Event::CarbonReported(c) => {
                    format!("{} {} {} {}", c.status, rfc3339(c.from_us), c.mg_per_kwh.0, rfc3339(c.published_us))
                }
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            found,
            [
                "ACTUAL 2023-09-04T10:00:00Z 91440 2023-09-04T11:00:00Z",
                "FORECAST 2023-09-11T10:00:00Z 91440 2023-09-10T12:00:00Z",
            ]
        );
    }

    #[test]
    fn a_zone_that_is_not_there_is_named() {
        let file = write("prices.csv", PRICES.as_bytes());
        let options = Options { zones: vec!["FR".to_owned()], ..Options::default() };
        let mut error = String::new();
        imported(|sink| {
            error = import(Some(&*file), None, &options, sink).expect_err("no such zone").to_string();
            Ok(())
        });
        assert!(error.contains("no column FR: it has hour_utc,AU-VIC,DE-LU,IN-WE"), "{error}");
    }

    #[test]
    fn the_whole_year_is_read_without_a_bad_row() {
        let (Some(prices), Some(carbon)) = (
            crate::import::testing::trace("energy/price_usd_per_mwh_2023.csv.gz"),
            crate::import::testing::trace("energy/carbon_g_per_kwh_2023.csv.gz"),
        ) else {
            return;
        };
        let (summary, events) = imported(|sink| import(Some(&prices), Some(&carbon), &Options::default(), sink));
        assert_eq!((summary.rows, summary.skipped, summary.bad), (17_520, 8_760, 0));
        assert_eq!(events.len(), 8_760 * 21 + 2 * 8_760 * 16);
    }
}
