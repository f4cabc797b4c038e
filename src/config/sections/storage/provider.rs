//! The kind of a store.

use strum::{Display, EnumString, VariantNames};

/// Which kind of store holds the objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames, Display)]
#[strum(serialize_all = "snake_case")]
pub enum Provider {
    /// The embedded store, for trials and tests.
    Embedded,
    /// Amazon S3, or a store that speaks its protocol.
    S3,
    /// Tencent Cloud Object Storage.
    Cos,
}
