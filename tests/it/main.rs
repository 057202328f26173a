//! One integration binary: the gateway as a whole against a scripted upstream, and the shape of the code.

mod faults;
mod layers;
mod lifecycle;
mod reload;
mod revision;
mod streaming;
mod strict;
mod support;
mod whole;
