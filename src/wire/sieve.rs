//! ManageSieve (RFC 5804), as a client: what servers say, and commands.

pub mod command;
pub mod scan;
