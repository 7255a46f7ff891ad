//! The GPU models and places of generated worlds. Figures are of the order of data sheets and list prices.

/// A GPU model.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) id: &'static str,
    pub(super) memory_mib: i64,
    pub(super) idle_w: i64,
    pub(super) max_w: i64,
    /// GPUs of one NVLink domain.
    pub(super) nvlink: i64,
    pub(super) speed_milli: i64,
    /// What customers pay, and what providers ask, in thousandths of a unit per GPU-hour.
    pub(super) price_milli: i64,
    pub(super) cost_milli: i64,
    /// An idle node of eight without its GPUs.
    pub(super) node_idle_w: i64,
    pub(super) asset_cost: i64,
}

pub(super) const MODELS: [Model; 4] = [
    Model {
        id: "H100",
        memory_mib: 81_920,
        idle_w: 70,
        max_w: 700,
        nvlink: 8,
        speed_milli: 2_000,
        price_milli: 3_600,
        cost_milli: 2_900,
        node_idle_w: 1_740,
        asset_cost: 290_000,
    },
    Model {
        id: "A100",
        memory_mib: 40_960,
        idle_w: 50,
        max_w: 400,
        nvlink: 8,
        speed_milli: 1_300,
        price_milli: 2_200,
        cost_milli: 1_700,
        node_idle_w: 1_300,
        asset_cost: 150_000,
    },
    Model {
        id: "L40S",
        memory_mib: 49_152,
        idle_w: 35,
        max_w: 350,
        nvlink: 1,
        speed_milli: 1_000,
        price_milli: 1_500,
        cost_milli: 1_050,
        node_idle_w: 900,
        asset_cost: 80_000,
    },
    Model {
        id: "V100",
        memory_mib: 16_384,
        idle_w: 40,
        max_w: 300,
        nvlink: 4,
        speed_milli: 600,
        price_milli: 1_000,
        cost_milli: 550,
        node_idle_w: 900,
        asset_cost: 40_000,
    },
];

/// A place where a site can stand.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) name: &'static str,
    pub(super) region: &'static str,
    pub(super) zone: &'static str,
    pub(super) country: &'static str,
    pub(super) latitude_e7: i64,
    pub(super) longitude_e7: i64,
    pub(super) pue_milli: i64,
    /// Typical price of energy, units per MWh, and carbon, grams per kWh.
    pub(super) energy_per_mwh: i64,
    pub(super) carbon_g_per_kwh: i64,
    pub(super) currency: &'static str,
}

macro_rules! place {
    ($name:literal, $region:literal, $zone:literal, $country:literal, $lat:literal, $lon:literal, $pue:literal, $energy:literal, $carbon:literal, $currency:literal) => {
        Place {
            name: $name,
            region: $region,
            zone: $zone,
            country: $country,
            latitude_e7: $lat,
            longitude_e7: $lon,
            pue_milli: $pue,
            energy_per_mwh: $energy,
            carbon_g_per_kwh: $carbon,
            currency: $currency,
        }
    };
}

/// Places of our own sites, in the order in which they are built.
pub(super) const OWN_PLACES: [Place; 4] = [
    place!("frankfurt", "aws:eu-central-1", "DE-LU", "DE", 501_100_000, 86_800_000, 1_150, 95, 380, "EUR"),
    place!("virginia", "aws:us-east-1", "US-MIDA-PJM", "US", 389_500_000, -774_500_000, 1_250, 40, 390, "USD"),
    place!("lulea", "aws:eu-north-1", "SE-1", "SE", 655_800_000, 221_500_000, 1_080, 28, 25, "EUR"),
    place!("oregon", "aws:us-west-2", "US-NW-PACW", "US", 456_000_000, -1_211_800_000, 1_120, 55, 210, "USD"),
];

/// Places of bought capacity.
pub(super) const BOUGHT_PLACES: [Place; 4] = [
    place!("ashburn", "gcp:us-east4", "US-MIDA-PJM", "US", 390_400_000, -774_900_000, 1_300, 40, 390, "USD"),
    place!("paris", "aws:eu-west-3", "FR", "FR", 488_600_000, 23_500_000, 1_300, 85, 55, "EUR"),
    place!("dallas", "gcp:us-south1", "US-TEX-ERCO", "US", 327_800_000, -968_000_000, 1_350, 48, 400, "USD"),
    place!("dublin", "aws:eu-west-1", "IE", "IE", 533_500_000, -62_600_000, 1_350, 110, 320, "EUR"),
];
