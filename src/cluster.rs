//! What several gateways behind one address do together.

pub mod handover;
