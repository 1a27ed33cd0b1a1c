//! Interned ids: what compiled configuration uses instead of names.

/// A cluster's place in the store. Interned by name: the same name always has the same id, also
/// while no cluster of that name exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterId(pub u32);

/// A route table's place in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteTableId(pub u32);
