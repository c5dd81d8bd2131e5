//! What an operator sees: the local HTTP API, its client, and what the command line prints.

pub mod client;
pub mod commands;
mod control;
pub mod doveconf;
pub mod http;
pub mod model;
pub mod new_config;
pub mod text;
pub mod token;

pub use client::{AdminClient, ClientError};
pub use http::{Control, ControlError};
pub use model::{Outcome, ReportSummary, StatusAll, UserStatus, Verb};
pub use token::{Token, TokenError};
