//! The command line: reads arguments, runs one command, turns its outcome into an exit code.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use mailferry::admin::commands::{self, Exit, Server};
use mailferry::config::Bodies;
use tracing_subscriber::EnvFilter;

/// Moves a mail platform to new storage, user by user, without its users noticing.
///
/// Exit codes: 0 done, 1 different or refused, 2 usage or configuration, 75 try again.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy.
    Serve(Config),
    /// Validate the configuration, reach both sides, print what each can do and what clients won't see.
    Check(Config),
    /// Copy one user from the old side to the new side until both are equal; needs no running proxy.
    Sync(OneUser),
    /// Compare the two sides of one user; exit 0 if identical, 1 if different.
    Verify {
        #[command(flatten)]
        user: OneUser,
        /// Whose bodies to compare octet by octet: none, sample:N or all; default as configured.
        #[arg(long, value_name = "none|sample:N|all")]
        bodies: Option<Bodies>,
        /// Print the whole report as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show where users stand: phase, progress, last report.
    Status {
        #[command(flatten)]
        server: Remote,
        /// One user instead of all.
        user: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Switch users to the new side now; waits for their sessions to end, at most `switch.max_pause`.
    Switch {
        #[command(flatten)]
        server: Remote,
        /// The users.
        #[arg(required_unless_present = "list")]
        users: Vec<String>,
        /// A file with one user a line.
        #[arg(long, value_name = "FILE")]
        list: Option<PathBuf>,
        /// Don't wait for the outcome.
        #[arg(long)]
        no_wait: bool,
    },
}

#[derive(Debug, Args)]
struct Config {
    /// The configuration file.
    #[arg(long, value_name = "F")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct OneUser {
    #[command(flatten)]
    config: Config,
    /// The user, as they log in.
    user: String,
    /// A file with the user's password; not needed where master users are configured for both sides.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Remote {
    /// The configuration file of the running server.
    #[arg(long, value_name = "F", required_unless_present = "admin")]
    config: Option<PathBuf>,
    /// Its admin API, instead of the configuration's: http://HOST:PORT
    #[arg(long, value_name = "URL", requires = "token_file", conflicts_with = "config")]
    admin: Option<String>,
    /// The file with its token.
    #[arg(long, value_name = "T", requires = "admin")]
    token_file: Option<PathBuf>,
}

impl From<Remote> for Server {
    fn from(remote: Remote) -> Self {
        Self { config: remote.config, admin: remote.admin, token_file: remote.token_file }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let quiet = !matches!(cli.command, Command::Serve(_)) && std::env::var_os("RUST_LOG").is_none();
    let filter = if quiet { EnvFilter::new("error") } else { filter };
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(std::io::stderr).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("mailferry: can't start threads: {error}");
            return ExitCode::from(Exit::TryAgain.code());
        }
    };
    match runtime.block_on(run(cli.command)) {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(error) => {
            eprintln!("mailferry: {error:#}");
            ExitCode::from(Exit::of(&error).code())
        }
    }
}

async fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Serve(Config { config }) => commands::serve(&config).await,
        Command::Check(Config { config }) => commands::check(&config).await,
        Command::Sync(OneUser { config, user, password_file }) => {
            commands::sync(&config.config, &user, password_file.as_deref()).await
        }
        Command::Verify { user: OneUser { config, user, password_file }, bodies, json } => {
            commands::verify(&config.config, &user, password_file.as_deref(), bodies, json).await
        }
        Command::Status { server, user, json } => commands::status(&server.into(), user.as_deref(), json).await,
        Command::Switch { server, users, list, no_wait } => {
            commands::switch(&server.into(), &users, list.as_deref(), !no_wait).await
        }
    }
}
