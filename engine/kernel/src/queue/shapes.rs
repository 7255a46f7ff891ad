//! Numbers for what jobs ask for, so that those who ask for the same are found together. A number that nobody needs any more is
//! given anew; which number something has decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use solyx_schemas::ids::GpuModelId;

use super::Common;

/// What a job asks for beside its length and name, as a number.
pub type Shape = u32;

/// The part of it that capacity has to hold, as a number: whose it is and who pays does not matter.
pub type Fit = u32;

/// The GPU models that jobs accept, as a number.
pub type Models = u32;

/// Shapes that nobody stands in before any is forgotten, beside as many as are in use.
const UNUSED_MAX: usize = 1_024;

/// Shapes by their canonical bytes, of which those of the fit come first: no fit's bytes begin with another's, so that shapes of
/// one fit lie side by side.
#[derive(Clone, Default)]
pub(super) struct Shapes {
    numbers: BTreeMap<Box<[u8]>, Shape>,
    slots: Vec<Slot>,
    free: Vec<Shape>,
    /// Shapes by fit.
    fits: Vec<u32>,
    free_fits: Vec<Fit>,
    models: BTreeMap<Arc<[GpuModelId]>, Models>,
    /// Models by their number.
    accepted: Vec<Arc<[GpuModelId]>>,
    free_models: Vec<Models>,
    unused: usize,
}

#[derive(Clone, Copy)]
struct Slot {
    common: Common,
    jobs: u32,
}

impl Shapes {
    /// The number of a shape, for one more job that has it.
    pub fn enter(&mut self, key: &[u8], fit_len: usize, common: impl FnOnce(&mut Self, Fit) -> Common) -> Shape {
        if let Some(shape) = self.numbers.get(key) {
            let slot = &mut self.slots[*shape as usize];
            self.unused -= usize::from(slot.jobs == 0);
            slot.jobs += 1;
            return *shape;
        }
        let fit = self.fit_of(key, &key[..fit_len]);
        let slot = Slot { common: common(self, fit), jobs: 1 };
        let shape = match self.free.pop() {
            Some(shape) => {
                self.slots[shape as usize] = slot;
                shape
            }
            None => {
                self.slots.push(slot);
                self.slots.len() as Shape - 1
            }
        };
        self.numbers.insert(key.into(), shape);
        shape
    }

    fn fit_of(&mut self, key: &[u8], fit: &[u8]) -> Fit {
        let before = self.numbers.range::<[u8], _>((Bound::Unbounded, Bound::Excluded(key))).next_back();
        let behind = self.numbers.range::<[u8], _>((Bound::Excluded(key), Bound::Unbounded)).next();
        let neighbours = before.into_iter().chain(behind);
        let known =
            neighbours.into_iter().find(|(key, _)| key.starts_with(fit)).map(|(_, shape)| self.common(*shape).fit);
        let fit = known.or_else(|| self.free_fits.pop()).unwrap_or_else(|| {
            self.fits.push(0);
            self.fits.len() as Fit - 1
        });
        self.fits[fit as usize] += 1;
        fit
    }

    /// The number of the models that a job accepts; empty, any.
    pub fn models_of(&mut self, models: Arc<[GpuModelId]>) -> Models {
        if let Some(number) = self.models.get(&models) {
            return *number;
        }
        let number = match self.free_models.pop() {
            Some(number) => {
                self.accepted[number as usize] = models.clone();
                number
            }
            None => {
                self.accepted.push(models.clone());
                self.accepted.len() as Models - 1
            }
        };
        self.models.insert(models, number);
        number
    }

    /// The models of a number.
    pub fn accepted(&self, models: Models) -> &[GpuModelId] {
        &self.accepted[models as usize]
    }

    /// Models that jobs accept, with their number.
    pub fn models(&self) -> impl Iterator<Item = (&Arc<[GpuModelId]>, Models)> {
        self.models.iter().map(|(models, number)| (models, *number))
    }

    /// One job fewer has a shape.
    pub fn leave(&mut self, shape: Shape) {
        let slot = &mut self.slots[shape as usize];
        slot.jobs -= 1;
        self.unused += usize::from(slot.jobs == 0);
    }

    /// What jobs of a shape have in common.
    pub fn common(&self, shape: Shape) -> Common {
        self.slots[shape as usize].common
    }

    /// Forgets shapes that no job has, once there are many. Nobody may keep a number over this.
    pub fn forget_unused(&mut self) {
        if self.unused <= UNUSED_MAX.max(self.numbers.len() / 2) {
            return;
        }
        let Self { numbers, slots, free, fits, free_fits, models, accepted: _, free_models, unused } = self;
        let mut accepted = BTreeSet::new();
        numbers.retain(|_, shape| {
            let slot = slots[*shape as usize];
            if slot.jobs > 0 {
                accepted.insert(slot.common.models);
                return true;
            }
            free.push(*shape);
            let of_fit = &mut fits[slot.common.fit as usize];
            *of_fit -= 1;
            if *of_fit == 0 {
                free_fits.push(slot.common.fit);
            }
            false
        });
        models.retain(|_, number| {
            let is_used = accepted.contains(number);
            free_models.extend((!is_used).then_some(*number));
            is_used
        });
        *unused = 0;
    }

    /// Shapes with their bytes.
    pub fn iter(&self) -> impl Iterator<Item = (Shape, &[u8])> {
        self.numbers.iter().map(|(key, shape)| (*shape, &**key))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        /// Jobs come and go in any order: those who ask for the same have one number, others have others, and what nobody asks
        /// for is forgotten.
        #[test]
        fn who_asks_for_the_same_has_the_same_number(steps in prop::collection::vec((any::<bool>(), 0u16..3_000, 0u8..3), 1..6_000)) {
            let mut shapes = Shapes::default();
            let mut jobs: Vec<(u16, u8, Shape)> = Vec::new();
            for (comes, fit, own) in steps {
                if comes || jobs.is_empty() {
                    let key = [&fit.to_be_bytes()[..], &[own]].concat();
                    let gpu_milli = i64::from(fit);
                    jobs.push((fit, own, shapes.enter(&key, 2, |_, fit| Common { fit, models: 0, gpu_milli, least: None })));
                } else {
                    let (_, _, shape) = jobs.swap_remove(usize::from(fit) % jobs.len());
                    shapes.leave(shape);
                }
                shapes.forget_unused();
            }
            let (mut by_shape, mut by_fit) = (BTreeMap::new(), BTreeMap::new());
            for (fit, own, shape) in &jobs {
                let common = shapes.common(*shape);
                prop_assert_eq!(common.gpu_milli, i64::from(*fit));
                prop_assert_eq!(by_shape.entry((*fit, *own)).or_insert(*shape), shape);
                prop_assert_eq!(*by_fit.entry(*fit).or_insert(common.fit), common.fit);
            }
            let distinct = |numbers: Vec<u32>| numbers.iter().collect::<std::collections::BTreeSet<_>>().len() == numbers.len();
            prop_assert!(distinct(by_shape.values().copied().collect()));
            prop_assert!(distinct(by_fit.values().copied().collect()));
            prop_assert!(shapes.iter().count() <= 2 * by_shape.len().max(UNUSED_MAX) + 1);
        }
    }
}
