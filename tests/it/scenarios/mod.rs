//! What a two-way sync by `updated_at` must survive, one test per scenario, numbered. After each, the systems come to rest
//! and the oracles of `Systems::oracles` hold.

mod changes;
mod compared;
mod conflicts;
mod crashes;
mod crowds;
mod deletes;
mod drawn;
mod erasures;
mod fleet;
mod guards;
mod kinds;
mod mapping;
mod restores;
mod rows;
mod stampless;
mod sweeps;
mod twins;
mod under_load;
mod wide;
