//! A world as it is compared: its views, brought up to date, and the figures taken from them.

use std::path::Path;
use std::sync::Arc;

use solyx_projections::billing::{Billing, BillingView};
use solyx_projections::dcim::{Dcim, DcimView};
use solyx_projections::jobs::{Jobs, JobsView};
use solyx_runtime::AuditOptions;
use solyx_schemas::log::Log;

use super::figures::Figures;
use super::standing::Standing;
use crate::commands::view::up_to_date;
use crate::failure::Failure;
use crate::world;

/// A world with all that is said about it.
pub struct Stage {
    /// What is compared.
    pub figures: Figures,
    /// Money.
    pub billing: BillingView,
    /// Power and energy.
    pub dcim: DcimView,
    /// Jobs.
    pub jobs: JobsView,
    /// The log, for what only single events tell.
    pub log: Arc<dyn Log>,
}

impl Stage {
    /// Reads a world; with `audit` it is derived again.
    pub fn read(directory: &Path, audit: bool) -> Result<Self, Failure> {
        let log = world::reader(directory)?;
        let name = match world::cell_of(&*log)? {
            Some(cell) => cell.to_string(),
            None => directory.file_name().unwrap_or(directory.as_os_str()).to_string_lossy().into_owned(),
        };
        let views = directory.join("views");
        let billing = up_to_date::<Billing>(&views.join("billing"), &*log, false)?.fold().view();
        let dcim = up_to_date::<Dcim>(&views.join("dcim"), &*log, false)?.fold().view();
        // The store is closed again before an audit begins: others may want to bring it up to date.
        let (chain_head, jobs) = {
            let store = up_to_date::<Jobs>(&views.join("jobs"), &*log, false)?;
            (store.position().chain_head, store.fold().view())
        };
        if jobs.epoch < 0 {
            return Err(Failure::usage(
                format!("the world in {} has no epochs", directory.display()),
                "nothing was decided there yet",
                "`solyx run --log DIR --virtual --until-idle` runs what is staged",
            ));
        }
        let options = AuditOptions::default();
        let audit = audit.then(|| solyx_runtime::audit(&*log, &options, &mut |_| {})).transpose();
        let audit = audit.map_err(crate::commands::run::failure)?;
        let standing = Standing::read(&*log, jobs.epoch).map_err(|e| world::unreadable_history(&e))?;
        let mut figures = Figures::of(name, &billing, &dcim, &jobs, &standing);
        figures.directory = directory.display().to_string();
        figures.chain_head = chain_head;
        figures.audit = audit;
        Ok(Self { figures, billing, dcim, jobs, log })
    }
}
