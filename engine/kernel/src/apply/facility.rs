//! What is said of sites and their power trees.

use solyx_schemas::events::facility::{ElementState, PowerElementDeclared, PowerElementStateChanged, SiteDeclared};

use crate::epoch::Rejection;
use crate::index::Index;
use crate::power::closes_circle;
use crate::state::State;

type Folded = Result<(), Rejection>;

pub fn site_declared(state: &mut State, index: &mut Index, e: &SiteDeclared) -> Folded {
    state.sites.insert(e.site.clone(), e.clone());
    index.rebuild_site(state, &e.site);
    index.redeclared = true;
    Ok(())
}

pub fn power_element_declared(state: &mut State, index: &mut Index, e: &PowerElementDeclared) -> Folded {
    if closes_circle(state, &e.site, &e.element, &e.parents) {
        let (element, parents) = (&e.element, &e.parents);
        return Err(Rejection::rejected(format!(
            "field parents: found {parents:?}, which {element} feeds itself, expected what feeds it"
        )));
    }
    state.elements.insert((e.site.clone(), e.element.clone()), e.clone());
    if state.sites.contains(&e.site) {
        index.rebuild_site(state, &e.site);
    }
    index.changed = true;
    Ok(())
}

pub fn power_element_state_changed(state: &mut State, index: &mut Index, e: &PowerElementStateChanged) -> Folded {
    let key = (e.site.clone(), e.element.clone());
    if e.state == ElementState::InService {
        state.element_states.remove(&key);
    } else {
        state.element_states.insert(key, e.clone());
    }
    if state.sites.contains(&e.site) {
        index.rebuild_site(state, &e.site);
    }
    index.changed = true;
    Ok(())
}
