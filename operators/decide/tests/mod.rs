//! The join, the rules and the two stages beside a naive model.

mod coded;
mod every_rule;
mod graph;
mod join;
mod kernels;
mod leading;
mod naive;
mod oracle;
mod peers;
mod rules;
mod selections;
mod sources;
mod walls;
