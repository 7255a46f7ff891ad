//! The life of hardware, from order to retirement.

use crate::events::common::Sum;
use crate::ids::*;
use crate::units::*;

symbols! { "solyx.assets";
    /// How an asset loses value.
    DepreciationMethod {
        /// the same each day of its life
        StraightLine = "STRAIGHT_LINE",
        /// a part of what is left each year
        DecliningBalance = "DECLINING_BALANCE",
    }
}

inputs! { "solyx.assets", Assets;
    /// Hardware was ordered.
    AssetOrdered key |e| e.serial.as_str().into(); {
        /// Serial number.
        serial: RefId,
        /// Model.
        model: Name,
        /// Vendor.
        vendor: Name,
        /// Price agreed.
        cost: Sum,
        /// When it is due.
        due_us: TimeUs,
    }
    /// Hardware arrived.
    AssetReceived key |e| e.serial.as_str().into(); {
        /// Serial number.
        serial: RefId,
        /// Site it arrived at.
        site: SiteId,
        /// When.
        received_us: TimeUs,
    }
    /// Hardware was put to use; it loses value from here on.
    AssetInstalled key |e| e.serial.as_str().into(); {
        /// Serial number.
        serial: RefId,
        /// Model.
        model: Name,
        /// Vendor.
        vendor: Name,
        /// Site.
        site: SiteId,
        /// Node it is or belongs to; absent for what serves a whole site.
        node: Option<NodeId>,
        /// Rack.
        rack: Option<ElementId>,
        /// What it cost.
        cost: Sum,
        /// When it was put to use.
        installed_us: TimeUs,
        /// Useful life.
        life_us: DurationUs,
        /// What is left at its end.
        salvage: Sum,
        /// How it loses value.
        method: DepreciationMethod,
        /// Part of the value left that is lost in a year, thousandths; for the declining balance.
        declining_milli_per_year: Option<Milli>,
        /// End of warranty.
        warranty_end_us: Option<TimeUs>,
    }
    /// Hardware was moved.
    AssetMoved key |e| e.serial.as_str().into(); {
        /// Serial number.
        serial: RefId,
        /// Site.
        site: SiteId,
        /// Node.
        node: Option<NodeId>,
        /// Rack.
        rack: Option<ElementId>,
    }
    /// Hardware was repaired.
    AssetRepaired key |e| e.serial.as_str().into(); {
        /// Serial number.
        serial: RefId,
        /// What it cost.
        cost: Sum,
        /// What was done.
        description: String,
    }
    /// Hardware left the books.
    AssetRetired key |e| e.serial.as_str().into(); {
        /// Serial number.
        serial: RefId,
        /// When.
        retired_us: TimeUs,
        /// What was got for it.
        proceeds: Option<Sum>,
        /// Why.
        reason: String,
    }
}
