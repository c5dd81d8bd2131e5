//! The proxies that are compared, each as its operator would set it up for one core, with room for all clients.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::ports::{self, Port};
use crate::process::{Process, wait_for};

/// Where nginx looks for its modules in Debian.
const NGINX_MODULE: &str = "/usr/lib/nginx/modules/ngx_mail_module.so";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Proxy {
    Mailferry(PathBuf),
    Nginx,
    Dovecot,
}

/// What every proxy needs to know.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) folder: PathBuf,
    pub(crate) backend: u16,
    /// Where nginx asks for the backend.
    pub(crate) auth: u16,
    /// The core that it may run on; any, if none.
    pub(crate) core: Option<String>,
}

impl Stage {
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.join("tls.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.folder.join("tls.key")
    }
}

/// A proxy at work; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    process: Process,
    imap: Port,
    imaps: Port,
    _admin: Port,
    _folder: tempfile::TempDir,
}

impl Running {
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn imap(&self) -> u16 {
        self.imap.number
    }

    pub(crate) fn imaps(&self) -> u16 {
        self.imaps.number
    }
}

impl Proxy {
    /// With its release, if it is installed.
    pub(crate) fn name(&self) -> Option<String> {
        let (program, argument) = match self {
            Self::Mailferry(binary) => (binary.as_path(), "--version"),
            Self::Nginx => (Path::new("/usr/sbin/nginx"), "-v"),
            Self::Dovecot => (Path::new("/usr/sbin/dovecot"), "--version"),
        };
        if *self == Self::Nginx && !Path::new(NGINX_MODULE).exists() {
            return None;
        }
        let output = Command::new(program).arg(argument).output().ok()?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        Some(match self {
            Self::Mailferry(_) => "mailferry".to_owned(),
            Self::Nginx => format!("nginx {}", said.rsplit('/').next()?.trim()),
            Self::Dovecot => format!("Dovecot {}", said.split(' ').next()?),
        })
    }

    pub(crate) fn start(&self, stage: &Stage) -> Running {
        let folder = tempfile::Builder::new().prefix("proxy").tempdir_in(&stage.folder).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let (imap, imaps, admin) = (ports::claim(), ports::claim(), ports::claim());
        let ports = [imap.number, imaps.number, admin.number];
        let config = folder.path().join("config");
        let (text, program, arguments) = match self {
            Self::Mailferry(binary) => {
                (mailferry(stage, folder.path(), ports), binary.as_path(), ["serve", "--config"])
            }
            Self::Nginx => (nginx(stage, folder.path(), ports), Path::new("/usr/sbin/nginx"), ["-e", "stderr"]),
            Self::Dovecot => (dovecot(stage, folder.path(), ports), Path::new("/usr/sbin/dovecot"), ["-F", "-c"]),
        };
        fs::write(&config, text).unwrap();
        let mut command = match &stage.core {
            Some(core) => {
                let mut taskset = Command::new("taskset");
                taskset.arg("-c").arg(core).arg(program);
                taskset
            }
            None => Command::new(program),
        };
        command.args(arguments);
        if *self == Self::Nginx {
            command.arg("-c");
        }
        command.arg(&config).current_dir(folder.path());
        let log = folder.path().join("output.log");
        let mut process = Process::spawn(&mut command, &log).unwrap();
        wait_for("the proxy to listen", Duration::from_secs(30), || {
            assert!(!process.has_ended(), "{self:?} ended: {}", fs::read_to_string(&log).unwrap());
            // Nobody is kept waiting: the runtime has nothing else to do yet.
            #[allow(clippy::disallowed_methods)]
            TcpStream::connect((Ipv4Addr::LOCALHOST, imaps.number)).ok()
        });
        Running { process, imap, imaps, _admin: admin, _folder: folder }
    }
}

/// Its limits are above what is asked here, and are counted all the same. All users are on the old side.
fn mailferry(stage: &Stage, folder: &Path, [imap, imaps, admin]: [u16; 3]) -> String {
    let (certificate, key, folder) = (stage.certificate(), stage.key(), folder.display());
    let (certificate, key, backend) = (certificate.display(), key.display(), stage.backend);
    fs::write(format!("{folder}/secret"), "none").unwrap();
    format!(
        "[listen]\nimap = [\"127.0.0.1:{imap}\"]\nimaps = [\"127.0.0.1:{imaps}\"]\nallow_cleartext = [\"127.0.0.0/8\"]\n\
         [tls]\ncert = \"{certificate}\"\nkey = \"{key}\"\n\
         [old]\nimap = \"imap://127.0.0.1:{backend}\"\n\
         [new]\nimap = \"imap://127.0.0.1:{admin}\"\n\
         target = {{ kind = \"dsync\", url = \"doveadm://127.0.0.1:{admin}\", password_file = \"{folder}/secret\" }}\n\
         [store]\nurl = \"sqlite:{folder}/state.db\"\n\
         [admin]\nlisten = \"127.0.0.1:{admin}\"\ntoken_file = \"{folder}/token\"\n\
         [migration]\nenroll = \"none\"\n\
         [limits]\nconnections = 100000\nconnections_per_address = 100000\nstrangers_per_address = 100000\n\
         sessions_per_user = 100000\nlogins_per_second = 0\nlogins_per_second_per_address = 0\n"
    )
}

/// Its buffer is as large as it may be for speed; it logs each login, as the others do.
fn nginx(stage: &Stage, folder: &Path, [imap, imaps, _]: [u16; 3]) -> String {
    let (certificate, key, folder) = (stage.certificate(), stage.key(), folder.display());
    let (certificate, key, auth) = (certificate.display(), key.display(), stage.auth);
    format!(
        "load_module {NGINX_MODULE};\ndaemon off;\nworker_processes 1;\nworker_rlimit_nofile 16384;\n\
         pid {folder}/pid;\nerror_log {folder}/nginx.log info;\n\
         events {{ worker_connections 8192; }}\n\
         mail {{\n  auth_http 127.0.0.1:{auth}/;\n  proxy_buffer 64k;\n  imap_auth plain login;\n\
         imap_capabilities IMAP4rev1 SASL-IR ID ENABLE IDLE LITERAL+;\n\
         ssl_certificate {certificate};\n  ssl_certificate_key {key};\n  ssl_protocols TLSv1.2 TLSv1.3;\n\
         server {{ listen 127.0.0.1:{imap}; protocol imap; starttls on; }}\n\
         server {{ listen 127.0.0.1:{imaps} ssl; protocol imap; }}\n}}\n"
    )
}

/// One login process for all clients, which is its way to be fast.
fn dovecot(stage: &Stage, folder: &Path, [imap, imaps, _]: [u16; 3]) -> String {
    let (certificate, key, folder) = (stage.certificate(), stage.key(), folder.display());
    let (certificate, key, backend) = (certificate.display(), key.display(), stage.backend);
    format!(
        "base_dir = {folder}/run\nstate_dir = {folder}/state\nlog_path = {folder}/dovecot.log\n\
         protocols = imap\nlisten = 127.0.0.1\nauth_mechanisms = plain login\ndisable_plaintext_auth = no\n\
         ssl = yes\nssl_cert = <{certificate}\nssl_key = <{key}\n\
         default_client_limit = 8192\ndefault_vsz_limit = 2G\n\
         passdb {{\n  driver = static\n  args = nopassword=y proxy=y host=127.0.0.1 port={backend}\n}}\n\
         service imap-login {{\n  service_count = 0\n  process_min_avail = 1\n  process_limit = 1\n  client_limit = 8192\n\
         inet_listener imap {{\n    port = {imap}\n  }}\n\
         inet_listener imaps {{\n    port = {imaps}\n    ssl = yes\n  }}\n}}\n"
    )
}
