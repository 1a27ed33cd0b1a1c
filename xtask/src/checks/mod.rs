//! The static checks that no standard tool makes: what the design says about the tree, asked of
//! the tree.

pub mod arrows;
pub mod documents;
pub mod licences;
mod metadata;
pub mod sizes;
