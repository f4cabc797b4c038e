//! The cooperation of several gateways behind one address.

pub mod handover;
pub mod lockouts;
