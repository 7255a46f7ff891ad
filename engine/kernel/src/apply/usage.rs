//! What meters say: used here for budgets alone.

use solyx_schemas::events::usage::UsageMetered;

use crate::epoch::Rejection;
use crate::index::Index;
use crate::state::State;

pub fn usage_metered(state: &mut State, index: &mut Index, e: &UsageMetered) -> Result<(), Rejection> {
    if state.budgets.is_empty() {
        return Ok(());
    }
    crate::budget::use_up(state, index, e);
    Ok(())
}
