//! What operators and sensors say of sites: declarations, power, temperature, cooling.

use crate::events::common::Label;
use crate::ids::*;
use crate::units::*;

symbols! { "solyx.facility";
    /// Kind of an element of the power tree.
    ElementKind {
        /// where the utility enters
        UtilityFeed = "UTILITY_FEED",
        /// a generator
        Generator = "GENERATOR",
        /// an uninterruptible supply
        Ups = "UPS",
        /// a switchboard
        Switchboard = "SWITCHBOARD",
        /// a power distribution unit
        Pdu = "PDU",
        /// a panel
        Panel = "PANEL",
        /// a rack
        Rack = "RACK",
    }
    /// State of an element of the power tree.
    ElementState {
        /// carries load
        InService = "IN_SERVICE",
        /// taken out on purpose
        Maintenance = "MAINTENANCE",
        /// lost
        Failed = "FAILED",
    }
    /// What a power reading is of.
    MeasuredKind {
        /// an element of the power tree
        Element = "ELEMENT",
        /// a node
        Node = "NODE",
    }
}

records! { "solyx.facility";
    /// A storage tier of a site.
    StorageTier {
        /// Name of the tier.
        tier: Name,
        /// Price of keeping one GiB for a month.
        price_micros_per_gib_month: RateMicros,
        /// Its currency.
        currency: Currency,
    }
}

inputs! { "solyx.facility", Facility;
    /// A site.
    SiteDeclared key |e| e.site.as_str().into(); {
        /// The site.
        site: SiteId,
        /// Its name for people.
        name: String,
        /// Region of the network.
        region: RegionId,
        /// Grid zone.
        grid_zone: ZoneId,
        /// Country, ISO 3166-1 alpha-2.
        country: Name,
        /// Certificates it holds, as in `iso27001`.
        certificates: Vec<Name>,
        /// Latitude in 1e-7 degrees.
        latitude_e7: i64,
        /// Longitude in 1e-7 degrees.
        longitude_e7: i64,
        /// Design power usage effectiveness, thousandths.
        design_pue_milli: Milli,
        /// Storage tiers.
        storage_tiers: Vec<StorageTier>,
        /// Labels.
        labels: Vec<Label>,
    }
    /// An element of a site's power tree. Two parents mean an A and a B path.
    PowerElementDeclared key |e| e.site.as_str().into(); {
        /// The site.
        site: SiteId,
        /// The element.
        element: ElementId,
        /// What it is.
        kind: ElementKind,
        /// What feeds it: none, one, or two for A and B.
        parents: Vec<ElementId>,
        /// Rated limit.
        limit_w: PowerW,
        /// Part of the rated limit that may be used, thousandths.
        derating_milli: Milli,
        /// Elements of the same group stand in for each other; absent means alone.
        redundancy_group: Option<Name>,
    }
    /// An element of a power tree went into or out of service.
    PowerElementStateChanged key |e| e.site.as_str().into(); {
        /// The site.
        site: SiteId,
        /// The element.
        element: ElementId,
        /// Its state from now on.
        state: ElementState,
        /// Why.
        reason: String,
    }
    /// Mean power over an interval.
    PowerMeasured key |e| e.site.as_str().into(); {
        /// The site.
        site: SiteId,
        /// What was measured.
        measured: MeasuredKind,
        /// Element or node.
        subject: RefId,
        /// Mean power.
        power_w: PowerW,
        /// Start of the interval.
        from_us: TimeUs,
        /// End of the interval.
        to_us: TimeUs,
    }
    /// A temperature.
    ThermalMeasured key |e| e.site.as_str().into(); {
        /// The site.
        site: SiteId,
        /// Sensor, rack or node.
        subject: RefId,
        /// Temperature in thousandths of a degree Celsius.
        temperature_milli_c: i64,
    }
    /// Facility power beside IT power, and water.
    CoolingMeasured key |e| e.site.as_str().into(); {
        /// The site.
        site: SiteId,
        /// Power of the whole facility.
        facility_w: PowerW,
        /// Power of the IT equipment.
        it_w: PowerW,
        /// Water used in the interval, millilitres.
        water_ml: Count,
        /// Start of the interval.
        from_us: TimeUs,
        /// End of the interval.
        to_us: TimeUs,
    }
}
