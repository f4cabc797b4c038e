//! The guide for those who run the gateway, beside the code that it describes. Tests compare its tables with the source.

macro_rules! page {
    ($name:ident, $file:literal) => {
        #[doc = include_str!($file)]
        pub mod $name {}
    };
}

page!(address, "guide/address.md");
page!(configuration, "guide/configuration.md");
page!(credentials, "guide/credentials.md");
page!(events, "guide/events.md");
page!(ftps, "guide/ftps.md");
page!(handover, "guide/handover.md");
page!(monitoring, "guide/monitoring.md");
page!(moving, "guide/moving.md");
page!(operations, "guide/operations.md");
page!(performance, "guide/performance.md");
page!(promises, "guide/promises.md");
page!(transfers, "guide/transfers.md");
page!(users, "guide/users.md");
