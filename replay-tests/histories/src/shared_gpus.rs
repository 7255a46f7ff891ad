//! A second opinion on GPUs that several runs share: instances that do not overlap, nothing beside them, tenants apart.

use std::collections::{BTreeMap, BTreeSet};

use solyx_kernel::Closed;
use solyx_kernel::rows::Run;
use solyx_kernel::state::State;
use solyx_schemas::events::Event;
use solyx_schemas::events::policy::MigProfile;
use solyx_schemas::ids::*;

/// What has a part of a GPU, and the slices that it has if it is an instance.
type Part<'a> = (&'a RunId, &'a Run, u32);

/// What was declared and asked, and what has been seen.
#[derive(Default)]
pub struct SharedBook {
    tables: BTreeMap<GpuModelId, Vec<MigProfile>>,
    asking_tenants: BTreeSet<TenantId>,
    asking_jobs: BTreeSet<JobId>,
    /// Instances placed, and those of them beside others.
    pub instances: usize,
    pub beside: usize,
    /// Times that something was placed on a GPU beside another tenant, and runs placed that ask to be apart.
    pub mixed: usize,
    pub apart: usize,
}

impl SharedBook {
    /// Takes in an epoch and checks it.
    pub fn epoch(&mut self, state: &State, counted: &[Event], closed: &Closed) {
        for event in counted {
            match event {
                Event::GpuModelDeclared(e) => {
                    self.tables.insert(e.model.clone(), e.mig_profiles.clone());
                }
                Event::TenantDeclared(e) => {
                    self.asking_tenants.remove(&e.tenant);
                    if e.gpu_of_one_tenant == Some(true) {
                        self.asking_tenants.insert(e.tenant.clone());
                    }
                }
                Event::JobRequested(e) if e.gang.gpu_of_one_tenant == Some(true) => {
                    self.asking_jobs.insert(e.job.clone());
                }
                _ => {}
            }
        }
        let placed: BTreeSet<&RunId> = closed
            .outputs
            .iter()
            .filter_map(|output| match output {
                Event::JobPlaced(e) => Some(&e.run),
                _ => None,
            })
            .collect();
        let mut gpus: BTreeMap<(&NodeId, i64), Vec<Part<'_>>> = BTreeMap::new();
        for (id, run) in state.runs.iter() {
            for (replica, own) in run.nodes.iter().enumerate() {
                for (at, gpu) in own.gpus.iter().enumerate() {
                    let slices = run.mig.as_ref().map_or(0, |mig| {
                        assert_eq!(mig.starts[replica].len(), own.gpus.len());
                        ((1_u32 << mig.slices) - 1) << mig.starts[replica][at]
                    });
                    gpus.entry((&own.node, *gpu)).or_default().push((id, run, slices));
                }
            }
            if placed.contains(id) {
                self.placed(id, run);
            }
        }
        for ((node, gpu), on_it) in &gpus {
            self.gpu(node, *gpu, on_it, &placed);
            let is_new = on_it.iter().any(|(id, run, _)| run.mig.is_some() && placed.contains(*id));
            let order = closed.outputs.iter().find_map(|output| match output {
                Event::MigOrdered(e) if e.node == **node && e.gpu_index == *gpu => Some(e),
                _ => None,
            });
            assert_eq!(is_new, order.is_some(), "{node}/{gpu} is ordered to be divided when something new is on it");
            if let Some(order) = order {
                let mut have: Vec<(u32, Name)> = on_it
                    .iter()
                    .map(|(_, run, slices)| (slices.trailing_zeros(), run.mig.clone().unwrap().profile))
                    .collect();
                have.sort();
                assert_eq!(order.profiles, have.into_iter().map(|(_, name)| name).collect::<Vec<_>>());
            }
        }
    }

    fn placed(&mut self, id: &RunId, run: &Run) {
        let shares =
            run.mig.is_some() || run.nodes.iter().any(|own| own.gpu_milli_each.0 < 1_000 && !own.gpus.is_empty());
        self.apart += usize::from(shares && self.asks(run));
        let Some(mig) = &run.mig else { return };
        let table = &self.tables[&run.model];
        let profile = table.iter().find(|profile| profile.profile == mig.profile).unwrap();
        assert_eq!(profile.slices.0, mig.slices, "{id}");
        for start in mig.starts.iter().flatten() {
            assert!(profile.starts.contains(start), "{id} has {} at {start}", mig.profile);
            self.instances += 1;
        }
    }

    fn gpu(&mut self, node: &NodeId, gpu: i64, on_it: &[Part<'_>], placed: &BTreeSet<&RunId>) {
        let divided = on_it.iter().filter(|(_, run, _)| run.mig.is_some()).count();
        assert!(divided == 0 || divided == on_it.len(), "{node}/{gpu} has instances and thousandths: {on_it:?}");
        let mut taken = 0;
        for (id, _, slices) in on_it {
            assert_eq!(taken & slices, 0, "{id} overlaps on {node}/{gpu}");
            taken |= slices;
        }
        for (id, run, _) in on_it.iter().filter(|(id, ..)| placed.contains(*id)) {
            self.beside += usize::from(divided > 1);
            for (other, beside, _) in on_it.iter().filter(|(_, other, _)| other.tenant != run.tenant) {
                assert!(!self.asks(run) && !self.asks(beside), "{id} is beside {other} on {node}/{gpu}");
                self.mixed += 1;
            }
        }
    }

    fn asks(&self, run: &Run) -> bool {
        self.asking_jobs.contains(&run.job) || self.asking_tenants.contains(&run.tenant)
    }
}
