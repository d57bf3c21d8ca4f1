mod naive;
mod peers;
mod properties;
