//! A view as it was at the end of an earlier epoch.

use std::path::Path;

use crate::fold::{EpochSource, Fold, SourceError};

use super::layout::Layout;
use super::{StoreError, View, ViewPosition, ViewStore, load, open_read_only};

impl<F: Fold + Default> ViewStore<F> {
    /// The view with all epochs up to and with `epoch`, in memory: from the nearest kept state before it, or from the
    /// beginning. `open` gives the source that goes on from a position. Shorter logs give what they have.
    pub fn as_of<'s>(
        directory: &Path,
        epoch: i64,
        open: impl FnOnce(&ViewPosition) -> Result<Box<dyn EpochSource + 's>, SourceError>,
    ) -> Result<View<F>, StoreError> {
        let mut view = Self::nearest(directory, epoch)?;
        let mut source = open(&view.position).map_err(StoreError::Source)?;
        view.fold_up_to(&mut *source, Some(epoch))?;
        Ok(view)
    }

    fn nearest(directory: &Path, epoch: i64) -> Result<View<F>, StoreError> {
        let layout = Layout::new(directory);
        let Some(generation) = layout.current()? else { return Ok(View::empty()) };
        let current: View<F> = match load(&open_read_only(&layout, &layout.generation(generation))?, &layout) {
            Err(StoreError::Format { .. }) => return Ok(View::empty()),
            other => other?,
        };
        if current.position.next_epoch <= epoch.saturating_add(1) {
            return Ok(current);
        }
        let checkpoints = layout.checkpoints(generation)?;
        match checkpoints.into_iter().rfind(|(next_epoch, _)| *next_epoch <= epoch.saturating_add(1)) {
            Some((_, path)) => load(&open_read_only(&layout, &path)?, &layout),
            None => Ok(View::empty()),
        }
    }
}
