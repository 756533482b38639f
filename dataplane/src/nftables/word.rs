//! The word: what a frontend leads to, in 32 bits.
//!
//! ```text
//! 31                   11 10          0
//! ┌──────────────────────┬─────────────┐
//! │ pool                 │ action      │
//! └──────────────────────┴─────────────┘
//! ```

/// Bits of the word that name the pool. A pool's number is kept shifted, as it stands in the word.
pub const POOL_MASK: u32 = 0xffff_f800;
/// The distance between two pools' numbers.
pub const POOL_STEP: u32 = 0x800;
/// Bits of the word that say what to do: a key of the map `balancers`.
pub const ACTION_MASK: u32 = 0x7ff;

/// Answer that nobody is there.
pub const REFUSE: u32 = 1;
/// Answer nothing.
pub const DISCARD: u32 = 2;
/// The action of the lowest class of the ladder; the others follow it.
pub const FIRST_CLASS: u32 = 3;
/// The action of the smallest table that is chosen from by the client's address; the others follow it.
pub const FIRST_HASH: u32 = 48;
/// The first action that is given out on demand.
pub const FIRST_MADE: u32 = 64;
