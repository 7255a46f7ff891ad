//! The failover view as text: one line per failure domain, then what becomes of each job that its loss would hit.

use solyx_projections::failover::{DomainKind, DomainView, FailoverView, HitCause, HitView, InformationView, Outcome};
use solyx_schemas::events::decisions::Limit;
use solyx_schemas::units::{DurationUs, TimeUs, rfc3339};

use crate::failure::one_line;
use crate::output::{decimal, duration, grouped, money, table};

/// Jobs of a domain that are shown; the rest is counted.
const JOBS_MAX: usize = 12;
const GPU_MILLI_US_PER_HOUR: i128 = 1_000 * 3_600_000_000;

/// The view as text.
pub fn text(view: &FailoverView) -> String {
    let head = format!(
        "failover as of {}, epoch {}: {} runs, {} jobs wait already",
        rfc3339(view.now_us),
        grouped(view.epoch),
        grouped(view.runs_live as u64),
        grouped(view.jobs_waiting as u64)
    );
    let mut parts = vec![head, String::new()];
    let currency = view.currency.map_or(String::new(), |currency| currency.to_string());
    let shown = |domain: &&DomainView| domain.kind != DomainKind::Fabric || matters(domain);
    parts.push(summary(view.domains.iter().filter(shown), &currency));
    let quiet = view.domains.iter().filter(|domain| !shown(domain)).count();
    if quiet > 0 {
        parts.push(format!("the loss of {} more fabric domains hits no job", grouped(quiet as u64)));
    }
    for domain in view.domains.iter().filter(|domain| matters(domain)) {
        parts.push(String::new());
        parts.push(details(domain, view.now_us));
    }
    for drill in &view.drills {
        let asked = rfc3339(drill.asked_us);
        let lost = duration(drill.duration_us.0);
        parts.push(String::new());
        parts.push(format!("drill {} of {asked}: {} lost for {lost}", drill.drill, drill.domain));
        match &drill.answer {
            Some(answer) => parts.push(details(answer, drill.asked_us)),
            None => parts.push("  no failure domain had that name then".to_owned()),
        }
    }
    parts.join("\n")
}

fn matters(domain: &DomainView) -> bool {
    domain.jobs_hit > 0 || !domain.overloads.is_empty()
}

fn summary<'v>(domains: impl Iterator<Item = &'v DomainView>, currency: &str) -> String {
    let rows = domains.map(|domain| {
        let binding: Vec<String> = domain.limits.iter().map(|l| format!("{} {}", l.jobs, words(&l.limit))).collect();
        [
            domain.domain.clone(),
            grouped(domain.nodes as u64),
            grouped(domain.jobs_hit as u64),
            gpus(domain.gpu_milli_hit),
            grouped(domain.protected as u64),
            grouped(domain.unprotected as u64),
            if binding.is_empty() { "–".to_owned() } else { binding.join(", ") },
            time(domain.worst_rto_us),
            grouped(domain.rto_missed as u64),
            time(domain.worst_rpo_us),
            grouped(domain.rpo_missed as u64),
            decimal(domain.lost_gpu_milli_us, GPU_MILLI_US_PER_HOUR, 1),
            money(domain.cost.total_difference_micros.into()),
            grouped(domain.overloads.len() as u64),
            news(&domain.information),
        ]
    });
    let cost = format!("{currency} to move");
    let head = [
        "domain",
        "nodes",
        "jobs hit",
        "GPUs",
        "protected",
        "not",
        "what binds",
        "worst RTO",
        "missed",
        "worst RPO",
        "missed",
        "GPU-h lost",
        cost.as_str(),
        "overloads",
        "news",
    ];
    table(head, &[1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13], rows)
}

fn details(domain: &DomainView, now: TimeUs) -> String {
    let mut lines = vec![format!("if {} were lost", domain.domain)];
    for over in &domain.overloads {
        let element = over.element.as_ref().map_or("the site", |element| element.as_str());
        let also = over.also_lost.as_ref().map_or(String::new(), |lost| format!(" if {lost} were lost too"));
        let (load, limit) = (grouped(over.load_w), grouped(over.limit_w));
        lines.push(format!("  {element} of {} would carry {load} W of {limit} W{also}", over.site));
    }
    for reserve in &domain.reserves {
        let (held, hit) = (gpus(reserve.held_back_milli), gpus(reserve.gpu_milli_hit));
        lines.push(format!("  {held} GPUs of {} are held back for it, {hit} are hit", reserve.gpu_model));
    }
    if !domain.jobs.is_empty() {
        // Whoever has no place is shown too, however many move.
        let (moving, others): (Vec<&HitView>, Vec<&HitView>) = domain.jobs.iter().partition(|hit| hit.protected);
        let others_shown = others.len().min(JOBS_MAX - moving.len().min(JOBS_MAX / 2));
        let shown = moving.into_iter().take(JOBS_MAX - others_shown).chain(others.into_iter().take(others_shown));
        let rows = shown.map(|hit| row(hit, now));
        let head = [
            "order",
            "job",
            "tenant",
            "GPUs",
            "from",
            "becomes",
            "start in",
            "RTO",
            "if fenced",
            "RPO",
            "work lost",
            "cost",
            "remarks",
        ];
        lines.push(table(head, &[0, 3, 6, 7, 8, 9, 10, 11], rows));
    }
    if domain.jobs.len() > JOBS_MAX {
        lines.push(format!("… {} more; --json shows all", grouped((domain.jobs.len() - JOBS_MAX) as u64)));
    }
    lines.join("\n")
}

fn row(hit: &HitView, now: TimeUs) -> [String; 13] {
    let becomes = match (hit.outcome, &hit.to_pool) {
        (Outcome::Placed, Some(pool)) => match hit.to_nodes.as_slice() {
            [] => pool.to_string(),
            [one] => format!("{pool} on {}", one.node),
            [first, rest @ ..] => format!("{pool} on {} and {} more", first.node, rest.len()),
        },
        (Outcome::Leased, Some(pool)) => format!("{} leased of {pool}", hit.instances),
        (Outcome::Deferred, Some(pool)) => format!("{pool} later"),
        (Outcome::Ends, _) => format!("ends: {}", one_line(hit.detail.as_deref().unwrap_or_default())),
        _ => format!("waits: {}", hit.limit.as_ref().map_or(String::new(), limit)),
    };
    let mut remarks = Vec::new();
    match hit.cause {
        HitCause::Lost => {}
        HitCause::Overload => remarks.push("gives way to the overload".to_owned()),
        HitCause::Preempted => remarks.push("stops for a job that is hit".to_owned()),
    }
    if hit.checkpoint_lost {
        remarks.push("checkpoint lost".to_owned());
    }
    if !hit.datasets_lost.is_empty() {
        remarks.push(format!("{} data sets lost", hit.datasets_lost.len()));
    }
    let missed = [(hit.rto_met, "RTO"), (hit.rpo_met, "RPO"), (hit.spread_met, "spread")];
    remarks.extend(missed.iter().filter(|(met, _)| *met == Some(false)).map(|(_, what)| format!("misses its {what}")));
    let start = hit.start_us.filter(|_| hit.outcome != Outcome::Ends).map(|start| start.since(now));
    [
        hit.order.map_or_else(|| "–".to_owned(), |order| order.to_string()),
        hit.job.to_string(),
        hit.tenant.to_string(),
        gpus(hit.gpu_milli),
        hit.from_pool.to_string(),
        becomes,
        time(start),
        time(hit.rto_us),
        time(hit.rto_fenced_us),
        duration(hit.rpo_us.0),
        duration(hit.work_lost_us.0),
        hit.cost.map_or_else(|| "–".to_owned(), |cost| money(cost.total_difference_micros.into())),
        remarks.join(", "),
    ]
}

fn limit(limit: &Limit) -> String {
    let mut text = words(limit.kind.as_str());
    if let Some(subject) = &limit.subject {
        text += &format!(" of {subject}");
    }
    if let (Some(asked), Some(available)) = (limit.asked, limit.available) {
        let unit = limit.unit.as_deref().unwrap_or_default();
        text += &format!(", {} of {} {unit}", grouped(asked), grouped(available));
    }
    text
}

/// A symbol as words.
fn words(symbol: &str) -> String {
    match symbol {
        "GPUS" => "GPUs".to_owned(),
        other => other.to_lowercase().replace('_', " "),
    }
}

fn gpus(milli: i64) -> String {
    decimal(milli.into(), 1_000, if milli % 1_000 == 0 { 0 } else { 3 })
}

fn time(length: Option<DurationUs>) -> String {
    length.map_or_else(|| "–".to_owned(), |length| duration(length.0))
}

/// The oldest of what is known.
fn news(information: &InformationView) -> String {
    let InformationView { node_age_us, capacity_age_us, price_age_us, stale } = information;
    let oldest = [node_age_us, capacity_age_us, price_age_us].into_iter().flatten().max();
    match (oldest, stale) {
        (None, false) => "–".to_owned(),
        (None, true) => "none: stale".to_owned(),
        (Some(age), false) => duration(age.0),
        (Some(age), true) => format!("{}: stale", duration(age.0)),
    }
}

#[cfg(test)]
mod tests {
    use solyx_projections::failover::{DrillView, LimitCount, MoveCost, OverloadView};
    use solyx_schemas::events::common::NodeGpus;
    use solyx_schemas::events::decisions::LimitKind;
    use solyx_schemas::units::{Currency, HOUR_US, SECOND_US, WorkUs};

    use super::*;

    fn moved() -> HitView {
        HitView {
            job: "train-7".into(),
            tenant: "red".into(),
            gpu_milli: 16_000,
            from_pool: "pod/h100".into(),
            outcome: Outcome::Placed,
            protected: true,
            order: Some(1),
            to_pool: Some("north/h100".into()),
            to_nodes: ["n-1", "n-2"].map(|node| NodeGpus { node: node.into(), ..NodeGpus::default() }).to_vec(),
            start_us: Some(TimeUs(1_693_785_600 * SECOND_US)),
            rto_us: Some(DurationUs(900 * SECOND_US)),
            rto_fenced_us: Some(DurationUs(300 * SECOND_US)),
            rto_met: Some(false),
            rpo_us: DurationUs(HOUR_US / 2),
            work_lost_us: WorkUs(HOUR_US / 2),
            cost: Some(MoveCost { total_difference_micros: 12_340_000, ..MoveCost::default() }),
            ..HitView::default()
        }
    }

    fn lost() -> DomainView {
        let waits = HitView {
            job: "train-8".into(),
            tenant: "blue".into(),
            cause: HitCause::Overload,
            gpu_milli: 500,
            from_pool: "pod/h100".into(),
            limit: Some(Limit {
                kind: LimitKind::Gpus,
                subject: Some("north/h100".into()),
                asked: Some(500),
                available: Some(0),
                unit: Some("GPU/1000".into()),
            }),
            checkpoint_lost: true,
            ..HitView::default()
        };
        DomainView {
            domain: "feed:pod/utility-a".to_owned(),
            kind: DomainKind::Feed,
            nodes: 30,
            jobs_hit: 2,
            gpu_milli_hit: 16_500,
            protected: 1,
            unprotected: 1,
            limits: vec![LimitCount { limit: "GPUS".to_owned(), jobs: 1, gpu_milli: 500 }],
            worst_rto_us: Some(DurationUs(900 * SECOND_US)),
            rto_missed: 1,
            worst_rpo_us: Some(DurationUs(HOUR_US / 2)),
            lost_gpu_milli_us: 8 * GPU_MILLI_US_PER_HOUR,
            cost: MoveCost { total_difference_micros: 12_340_000, ..MoveCost::default() },
            overloads: vec![OverloadView {
                site: "pod".into(),
                element: Some("ups-b".into()),
                load_w: 340_000,
                limit_w: 321_600,
                over_w: 18_400,
                ..OverloadView::default()
            }],
            information: InformationView {
                node_age_us: Some(DurationUs(26 * HOUR_US)),
                stale: true,
                ..Default::default()
            },
            moves: vec!["train-7".into()],
            jobs: vec![moved(), waits],
            ..DomainView::default()
        }
    }

    #[test]
    fn a_person_reads_what_is_hit_where_it_goes_and_what_binds() {
        let quiet = DomainView { domain: "site:north".to_owned(), nodes: 4, ..DomainView::default() };
        let leaf = DomainView {
            domain: "fabric:pod/h100/leaf-1".to_owned(),
            kind: DomainKind::Fabric,
            ..DomainView::default()
        };
        let view = FailoverView {
            epoch: 1_234,
            now_us: TimeUs(1_693_785_600 * SECOND_US),
            currency: Currency::parse("USD"),
            runs_live: 2,
            domains: vec![quiet, lost(), leaf],
            drills: vec![DrillView {
                drill: "autumn".into(),
                domain: "site:pot".into(),
                asked_us: TimeUs(1_693_785_600 * SECOND_US),
                duration_us: DurationUs(2 * HOUR_US),
                ..DrillView::default()
            }],
            ..FailoverView::default()
        };
        insta::assert_snapshot!(text(&view));
    }
}
