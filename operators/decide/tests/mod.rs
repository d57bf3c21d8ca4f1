//! The join, the rules and the two stages beside a naive model.

mod graph;
mod join;
mod naive;
mod peers;
mod rules;
