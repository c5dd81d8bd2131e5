//! The command line: reads arguments, runs one command, turns its outcome into an exit code.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use mailferry::admin::Verb;
use mailferry::admin::commands::{self, Also, Exit, How, Server, Whom};
use mailferry::admin::new_config::Dialect;
use mailferry::config::Bodies;
use mailferry::mailbox::Filter;
use mailferry::mailbox::filter::{FlagRule, Pattern, Since, Size};
use mailferry::store::Share;
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
    /// Run the proxy, until SIGTERM; SIGHUP reads the certificates anew.
    ///
    /// Sockets that systemd passes are used, and it is told when clients can come (Type=notify).
    Serve(Config),
    /// Validate the configuration, reach both sides, print what each can do and what clients won't see.
    ///
    /// With a user: what would happen to them.
    Check {
        #[command(flatten)]
        config: Config,
        /// The user, as they log in.
        user: Option<String>,
        /// Look only at the sides of this domain's users.
        #[arg(long, value_name = "DOMAIN", conflicts_with = "user")]
        domain: Option<String>,
        /// A file with the user's password; not needed where both sides have credentials that open every account.
        #[arg(long, value_name = "FILE", requires = "user")]
        password_file: Option<PathBuf>,
        /// What `doveconf -n` prints on the new host: it is looked over.
        #[arg(long, value_name = "FILE")]
        doveconf: Option<PathBuf>,
        /// Only print what the new Dovecot's configuration needs for the move, in the words of this release.
        #[arg(
            long,
            value_name = "2.3|2.4",
            num_args = 0..=1,
            require_equals = true,
            default_missing_value = "2.3",
            conflicts_with_all = ["user", "doveconf"]
        )]
        new_config: Option<Dialect>,
    },
    /// Copy one user from the old side to the new side until both are equal; needs no running proxy.
    ///
    /// What the new side got from us is followed, deletions included; anything else there is never touched, and refused.
    ///
    /// With a filter only a part is copied: the account is marked partial and can't be switched before a run without a filter
    /// has made it whole. A filter decides what is added; what was copied before is still followed.
    Sync {
        #[command(flatten)]
        user: OneUser,
        /// Take our copy of this mailbox away from the new side first and copy it anew; `a/b` for b below a.
        #[arg(long, value_name = "MAILBOX", conflicts_with = "Filters")]
        rebuild: Option<String>,
        /// What becomes of mail that the new side has of its own.
        #[arg(long, value_name = "MODE", value_enum, default_value_t = Mode::Backup, conflicts_with = "rebuild")]
        mode: Mode,
        /// Only print what would be done, mailbox by mailbox; nothing is written anywhere.
        #[arg(long, conflicts_with = "rebuild")]
        dry_run: bool,
        #[command(flatten)]
        filters: Filters,
    },
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
        /// Print it again whenever it changes, until interrupted.
        #[arg(long)]
        watch: bool,
    },
    /// Show every transition of a user, when it was, why, and what the verification had found.
    History {
        #[command(flatten)]
        server: Remote,
        /// The user.
        user: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Let users begin to move at their next login.
    Enroll(Orders),
    /// Keep users on the old side: they don't begin to move, and a move that has begun stops where it is.
    Hold(Orders),
    /// Let held users move on, at their next login.
    Resume(Orders),
    /// Switch users to the new side now; open POP3 sessions are waited for, at most `switch.max_pause`.
    Switch(Orders),
    /// Take users back to the old side and hold them there; refused where mail would be lost.
    Rollback {
        #[command(flatten)]
        orders: Orders,
        /// Flags, subscriptions and expunges that the user has made on the new side may be lost.
        #[arg(long)]
        accept_loss: bool,
    },
    /// End the watch over the old side: from then on there is no way back.
    Settle(Orders),
}

#[derive(Debug, Args)]
struct Orders {
    #[command(flatten)]
    server: Remote,
    #[command(flatten)]
    whom: For,
    /// Don't wait for the outcome.
    #[arg(long)]
    no_wait: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct For {
    /// The users.
    users: Vec<String>,
    /// A file with one user a line.
    #[arg(long, value_name = "FILE")]
    list: Option<PathBuf>,
    /// All users of this domain.
    #[arg(long, value_name = "D", conflicts_with_all = ["users", "list"])]
    domain: Option<String>,
    /// This part of all users: always the same ones, and with a larger N all of those and more.
    #[arg(long, value_name = "N", conflicts_with_all = ["users", "list", "domain"])]
    percent: Option<Share>,
    /// Everybody.
    #[arg(long, conflicts_with_all = ["users", "list", "domain", "percent"])]
    all: bool,
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
    /// A file with the user's password; not needed where both sides have credentials that open every account.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    /// The new side becomes what the old side is; an account there that has anything of its own is refused.
    Backup,
    /// It stays as it is; the old side's mail is added and followed. A merged account can't be switched.
    Merge,
}

#[derive(Debug, Args)]
#[group(id = "Filters", multiple = true)]
struct Filters {
    /// Only these mailboxes: a name, `*` and `%` as in IMAP, or a use such as '\Sent'; `a/b` for b below a. Repeatable.
    #[arg(long, value_name = "PATTERN")]
    mailbox: Vec<Pattern>,
    /// Not these mailboxes: a name, `*` and `%`, or a use: '\All', '\Flagged', '\Important', whatever they are called.
    /// Repeatable.
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<Pattern>,
    /// Only messages received on this day or later: 2026-11-01 (from its midnight in UTC on).
    #[arg(long, value_name = "DATE")]
    since: Option<Since>,
    /// Only messages no longer than this: 1000000, 900K, 20M, 1G.
    #[arg(long, value_name = "SIZE")]
    max_size: Option<Size>,
    /// Only messages with this flag or keyword: '\Seen'; with - in front only those without: '-\Deleted'. Repeatable; all
    /// must apply. '-$GmailHaveLabels': of Gmail's all mail only what is in no other mailbox.
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    flags: Vec<FlagRule>,
}

impl From<Filters> for Filter {
    fn from(filters: Filters) -> Self {
        let Filters { mailbox, exclude, since, max_size, flags } = filters;
        Self { only: mailbox, exclude, since, max_size, flags }
    }
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

impl From<For> for Whom {
    fn from(whom: For) -> Self {
        let For { users, list, domain, percent, all } = whom;
        Self { users, list, domain, percent, all }
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
        Command::Check { config, new_config: Some(dialect), domain, .. } => {
            commands::new_config(&config.config, dialect, domain.as_deref()).await
        }
        Command::Check { config, user, domain, password_file, doveconf, .. } => {
            let (user, domain) = (user.as_deref(), domain.as_deref());
            let (password_file, doveconf) = (password_file.as_deref(), doveconf.as_deref());
            commands::check(&config.config, Also { user, domain, password_file, doveconf }).await
        }
        Command::Sync { user: OneUser { config, user, password_file }, rebuild, mode, dry_run, filters } => {
            let how = How { rebuild, merge: matches!(mode, Mode::Merge), dry_run, filter: filters.into() };
            commands::sync(&config.config, &user, password_file.as_deref(), &how).await
        }
        Command::Verify { user: OneUser { config, user, password_file }, bodies, json } => {
            commands::verify(&config.config, &user, password_file.as_deref(), bodies, json).await
        }
        Command::Status { server, user, json, watch } => {
            commands::status(&server.into(), user.as_deref(), json, watch).await
        }
        Command::History { server, user, json } => commands::history(&server.into(), &user, json).await,
        Command::Enroll(orders) => order(Verb::Enroll, orders, false).await,
        Command::Hold(orders) => order(Verb::Hold, orders, false).await,
        Command::Resume(orders) => order(Verb::Resume, orders, false).await,
        Command::Switch(orders) => order(Verb::Switch, orders, false).await,
        Command::Rollback { orders, accept_loss } => order(Verb::Rollback, orders, accept_loss).await,
        Command::Settle(orders) => order(Verb::Settle, orders, false).await,
    }
}

async fn order(verb: Verb, orders: Orders, accept_loss: bool) -> anyhow::Result<Exit> {
    let Orders { server, whom, no_wait } = orders;
    commands::order(&server.into(), verb, &whom.into(), (accept_loss, !no_wait)).await
}
