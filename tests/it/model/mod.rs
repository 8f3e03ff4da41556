pub mod identity;
pub mod judged;
pub mod pair;
pub mod search;
