//! Packing: which node and which GPUs a replica gets, in exact integers.
//!
//! An [`Inventory`] keeps nodes by state (model, free CPU, memory and scratch space, free thousandths of each GPU): nodes of
//! equal state share one score, and scores are remembered per ask, so that a decision looks at states, not at nodes. Placement
//! says where to look ([`Scope`]) and which rule holds ([`Rule`]); the inventory never looks at time, money or power, and it
//! is derived: nothing in it is folded, digested or kept in a snapshot.

mod choose;
mod fragmentation;
mod inventory;
mod kinds;
mod market;
mod mig;
mod node;
mod priced;
mod prices;
mod rooms;
mod score;
mod shelf;
mod state;
mod table;
mod tree;

pub use choose::Scope;
pub use inventory::Inventory;
pub use kinds::{Kind, Kinds};
pub use mig::{Division, Slices, mask, replicas as mig_replicas};
pub use node::{Ask, Choice, GPU_MILLI, GpuSlot, NO_DOMAIN, NodeHandle, NodeSpec, PackingError, Rule};
pub use prices::{Fleet, PRICES_SOLVER, PricePlan, Prices, plan_prices};
pub use rooms::Peak;
pub use shelf::Area;
