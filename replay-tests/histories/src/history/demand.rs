//! What tenants ask for.

use solyx_schemas::events::Event;
use solyx_schemas::events::jobs::*;
use solyx_schemas::ids::*;
use solyx_schemas::units::*;

use super::frame::TENANTS;
use super::{Executor, Luck, Mood};
use crate::job;

impl Executor {
    pub(super) fn request(&mut self, luck: &mut Luck, now: i64) -> Event {
        self.jobs += 1;
        let name = format!("job-{}", self.jobs);
        let tenant = *luck.of(&TENANTS);
        let mut request = job(&name, tenant, 1 + luck.below(3), 1 + luck.below(4), luck.below(4));
        if luck.chance(40) {
            request.gang.gpus = Count(1);
            request.gang.gpu_milli_each = GpuMilli(100 * (1 + luck.below(9)));
        }
        if luck.chance(8) {
            request.gang.gpus = Count(0);
        }
        if luck.chance(40) {
            request.gang.replicas_max.0 += luck.below(4);
        }
        request.gang.cpu_milli = CpuMilli(luck.below(9_000));
        request.gang.memory_mib = MemoryMib(luck.below(12_000));
        request.gang.memory_max_mib = luck.chance(30).then_some(MemoryMib(20_000));
        request.gang.scratch_gib = luck.chance(30).then(|| StorageGib(luck.below(40)));
        request.gang.exclusive_node = luck.chance(8);
        if luck.chance(25) {
            let level = *luck.of(&[TopologyLevel::Leaf, TopologyLevel::NvlinkDomain, TopologyLevel::Rack]);
            request.topology = Some(Topology { required: Some(level), ..Topology::default() });
        }
        if luck.chance(25) {
            let other = luck.of(&["H100", "A100", "V100"]);
            let names = std::collections::BTreeSet::from(["H100", *other]);
            let choice = |name| ModelChoice { model: GpuModelId::from(name), speed_milli: Milli(1_000) };
            request.models = names.into_iter().rev().map(choice).collect();
        }
        if luck.chance(12) {
            let segment = 1 + luck.below(2);
            request.gang.replicas_min = Count(segment * (1 + luck.below(3)));
            request.gang.replicas_max = request.gang.replicas_min;
            let level = *luck.of(&[TopologyLevel::Leaf, TopologyLevel::Rack, TopologyLevel::NvlinkDomain]);
            let (required, segment_min) = (Some(level), Some(Count(segment)));
            request.topology = Some(Topology { required, segment_min, ..Topology::default() });
        } else if luck.chance(15) {
            let level = *luck.of(&[SpreadLevel::Node, SpreadLevel::Rack, SpreadLevel::Feed, SpreadLevel::Site]);
            let topology = request.topology.get_or_insert_default();
            (topology.spread, topology.skew_max) = (Some(level), Some(Count(luck.below(3))));
        } else if luck.chance(15) {
            let preferred = Some(*luck.of(&[TopologyLevel::Leaf, TopologyLevel::Spine]));
            request.topology.get_or_insert_default().preferred = preferred;
        }
        if self.jobs % 4 == 2 && request.gang.gpus.0 > 0 {
            let profiles = ["1g.10gb", "2g.20gb", "1g.10gb", "3g.40gb"];
            request.gang.mig_profile = Some(Name::from(profiles[(self.jobs / 4 % 4) as usize]));
            request.gang.gpus.0 = request.gang.gpus.0.min(2);
            request.gang.gpu_milli_each = GpuMilli(1_000);
        }
        request.gang.gpu_of_one_tenant = (self.jobs % 7 < 2).then_some(self.jobs % 7 == 0);
        request.project = luck.chance(30).then(|| ProjectId::from("p"));
        let pair = self.jobs / 2;
        if pair % 5 == 1 {
            request.tenant = TenantId::from(TENANTS[(pair % 4) as usize]);
            request.job_set = Some(JobSet { set: RefId::from(format!("set-{pair}")), size: Count(2) });
        }
        request.attestation_required = luck.chance(10);
        request.class = ClassId::from(*luck.of(&["standard", "standard", "urgent"]));
        if luck.chance(15) {
            request.not_before_us = Some(TimeUs(now + luck.below(HOUR_US)));
        }
        if luck.chance(10) {
            request.deadline_us = Some(TimeUs(now + 2 * HOUR_US + luck.below(8 * HOUR_US)));
        }
        if luck.chance(20) {
            request.checkpoint_interval_us = None;
        }
        request.preemptible = !luck.chance(30);
        if luck.chance(15) {
            request.reservation = Some(RefId::from(format!("reservation-{}", luck.below(3))));
        } else if luck.chance(20) {
            request.sold_lease = Some(RefId::from(format!("lease-{}", luck.below(3))));
        }
        if (request.reservation.is_some() || request.sold_lease.is_some()) && luck.chance(70) {
            // Mostly one that may draw.
            request.tenant = TenantId::from("red");
            request.gang.replicas_min = Count(1);
            request.gang.replicas_max = Count(1);
        }
        if luck.chance(10) && self.jobs > 1 {
            request.depends_on = vec![Dependency {
                job: JobId::from(format!("job-{}", 1 + luck.below(self.jobs - 1))),
                condition: *luck.of(&[DependencyCondition::Ok, DependencyCondition::Any]),
            }];
        }
        request.into()
    }

    pub(super) fn long_request(&mut self, luck: &mut Luck, now: i64) -> Event {
        let Event::JobRequested(mut request) = self.request(luck, now) else { unreachable!() };
        request.expected_work_us = Some(WorkUs((10 + luck.below(50)) * HOUR_US));
        (request.deadline_us, request.not_before_us) = (None, None);
        if self.mood == Mood::Calm {
            request.gang.gpus.0 = request.gang.gpus.0.min(2);
            request.gang.replicas_max.0 += luck.below(3);
        } else {
            if luck.chance(75) {
                (request.gang.replicas_min, request.gang.gpus) = (Count(1), Count(1));
                request.topology = None;
            } else if luck.chance(60) {
                (request.gang.replicas_min, request.gang.gpus) = (Count(1), Count(3 + luck.below(2)));
                (request.gang.gpu_milli_each, request.topology) = (GpuMilli(1_000), None);
            }
            request.preemptible = !luck.chance(10);
            request.gang.replicas_max = request.gang.replicas_min;
            request.job_set = None;
        }
        request.depends_on.clear();
        request.attestation_required = false;
        Event::JobRequested(request)
    }
}
