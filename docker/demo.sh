#!/usr/bin/env bash
# A user moves from an old Dovecot (Maildir) to a new one (mdbox), on this machine, in one command:
#
#   docker/demo.sh           shows it and cleans up
#   docker/demo.sh --keep    leaves everything running and says how to connect
#
# Everything is private: one folder under /tmp, loopback, free ports. /etc/dovecot is not touched. As root on Debian it
# installs Dovecot if that is missing; otherwise it says what to install. MAILFERRY=path uses a binary that is there already.
set -euo pipefail
cd "$(dirname "$0")/.."

USER_NAME=anna
PASSWORD='sea breeze 7'
DOVEADM_PASSWORD='only for this demo'
PATIENCE=120 # seconds any phase may take

keep=no
case ${1:-} in
'') ;;
--keep) keep=yes ;;
*)
    sed -n '2,8s/^# \{0,1\}//p' "$0"
    [ "$1" = --help ] || [ "$1" = -h ] && exit 0
    exit 2
    ;;
esac

if [ -t 1 ]; then
    bold=$(printf '\033[1m') plain=$(printf '\033[0m')
else
    bold='' plain=''
fi
say() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
die() {
    printf 'demo: %s\n' "$*" >&2
    exit 1
}

PATH=$PATH:/usr/sbin:/sbin

need_programs() {
    local missing=() entry
    for entry in dovecot:dovecot-core /usr/lib/dovecot/imap:dovecot-imapd \
        /usr/lib/dovecot/pop3:dovecot-pop3d /usr/lib/dovecot/lmtp:dovecot-lmtpd openssl:openssl curl:curl python3:python3 cc:gcc; do
        command -v "${entry%%:*}" >/dev/null 2>&1 || missing+=("${entry#*:}")
    done
    if [ ${#missing[@]} -gt 0 ]; then
        if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
            echo "demo: please install: ${missing[*]}   (Debian: sudo apt-get install ${missing[*]})" >&2
            exit 2
        fi
        say "installing ${missing[*]}"
        # Dovecot's package would start its own service on port 143: keep it from doing so.
        local policy=/usr/sbin/policy-rc.d ours=no status=0
        if [ ! -e "$policy" ]; then
            ours=yes
            printf '#!/bin/sh\nexit 101\n' >"$policy"
            chmod +x "$policy"
        fi
        { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"; } \
            </dev/null >/dev/null || status=$?
        [ "$ours" = yes ] && rm -f "$policy"
        [ "$status" -eq 0 ] || die 'apt-get failed'
    fi
    case $(dovecot --version) in
    2.3.*) ;;
    *) die "this demo's configuration is for Dovecot 2.3 (Debian 12); here is $(dovecot --version)" ;;
    esac
    if [ -z "${MAILFERRY:-}" ] && ! command -v cargo >/dev/null; then
        echo 'demo: please install Rust: https://rustup.rs' >&2
        exit 2
    fi
}

build() {
    if [ -n "${MAILFERRY:-}" ]; then
        mailferry=$(realpath "$MAILFERRY")
        return
    fi
    say 'building mailferry'
    cargo build --locked --quiet --bin mailferry </dev/null
    mailferry=$(realpath "${CARGO_TARGET_DIR:-target}/debug/mailferry")
}

# Free ports, all at once so that none is given twice; below the range that outgoing connections use.
free_ports() {
    python3 - "$1" <<'PYTHON'
import random, socket, sys
held = []
while len(held) < int(sys.argv[1]):
    one = socket.socket()
    try:
        one.bind(("127.0.0.1", random.randrange(12000, 32000)))
        held.append(one)
    except OSError:
        one.close()
print(*(one.getsockname()[1] for one in held))
PYTHON
}

make_certificates() {
    local tls=$dir/tls
    mkdir "$tls"
    {
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj '/CN=mailferry demo CA' \
            -keyout "$tls/ca.key" -out "$tls/ca.pem"
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj '/CN=localhost' \
            -keyout "$tls/server.key" -out "$tls/server.csr"
        printf 'subjectAltName = DNS:localhost, IP:127.0.0.1\nbasicConstraints = CA:FALSE\nextendedKeyUsage = serverAuth\n' \
            >"$tls/server.ext"
        openssl x509 -req -in "$tls/server.csr" -CA "$tls/ca.pem" -CAkey "$tls/ca.key" -CAcreateserial -days 30 \
            -extfile "$tls/server.ext" -out "$tls/server.pem"
    } >"$dir/openssl.log" 2>&1 || die "openssl failed: $(cat "$dir/openssl.log")"
}

# dovecot_config SIDE DRIVER IMAP IMAPS POP3 LMTP DOVEADM UIDL-FORMAT
dovecot_config() {
    local home=$dir/$1 driver=$2 imap=$3 imaps=$4 pop3=$5 lmtp=$6 doveadm=$7 uidl=$8 owner=mail group=mail rights='' service
    mkdir -p "$home"/{run,state,mail,home}
    if [ "$(id -u)" -eq 0 ]; then
        chown mail:mail "$home/mail" "$home/home"
    else
        # Without root Dovecot can change neither user nor root folder.
        owner=$(id -un) group=$(id -gn)
        rights="default_internal_user = $owner
default_login_user = $owner
default_internal_group = $group
"
        for service in anvil imap-login imap-urlauth-login pop3-login; do
            rights+="service $service {
  chroot =
}
"
        done
    fi
    printf '%s:{PLAIN}%s::::::\n' "$USER_NAME" "$PASSWORD" >"$home/users"
    cat >"$home/dovecot.conf" <<CONFIG
base_dir = $home/run
state_dir = $home/state
log_path = $home/dovecot.log
protocols = imap pop3 lmtp
listen = 127.0.0.1
ssl = yes
ssl_cert = <$dir/tls/server.pem
ssl_key = <$dir/tls/server.key
disable_plaintext_auth = no
auth_username_format = %Ln
mail_location = $driver:$home/mail/%u
mail_uid = $owner
mail_gid = $group
first_valid_uid = 1
first_valid_gid = 1
# Believe the address that the proxy sends along; without it one client's wrong passwords slow everybody down.
login_trusted_networks = 127.0.0.0/8
mail_max_userip_connections = 0
pop3_uidl_format = $uidl
doveadm_password = $DOVEADM_PASSWORD
doveadm_allowed_commands = dsync-server
protocol doveadm {
  mail_fsync = never
}
passdb {
  driver = passwd-file
  args = $home/users
}
userdb {
  driver = static
  args = home=$home/home/%u
}
namespace inbox {
  inbox = yes
  separator = /
  mailbox Sent {
    special_use = \\Sent
  }
}
service imap-login {
  inet_listener imap {
    port = $imap
  }
  inet_listener imaps {
    port = $imaps
    ssl = yes
  }
}
service pop3-login {
  inet_listener pop3 {
    port = $pop3
  }
  inet_listener pop3s {
    port = 0
  }
}
service lmtp {
  inet_listener lmtp {
    port = $lmtp
  }
}
service doveadm {
  inet_listener {
    port = $doveadm
  }
}
$rights
CONFIG
}

ferry_config() {
    printf '%s' "$DOVEADM_PASSWORD" >"$dir/doveadm.secret"
    printf '%s' "$PASSWORD" >"$dir/password"
    chmod 600 "$dir/doveadm.secret" "$dir/password"
    cat >"$dir/mailferry.toml" <<CONFIG
[listen]
imap  = ["127.0.0.1:$ferry_imap"]
imaps = ["127.0.0.1:$ferry_imaps"]
pop3s = ["127.0.0.1:$ferry_pop3s"]

[tls]
cert = "$dir/tls/server.pem"
key  = "$dir/tls/server.key"

[old]
imap = "imaps://127.0.0.1:$old_imaps"
pop3 = "pop3://127.0.0.1:$old_pop3"
ca_file = "$dir/tls/ca.pem"
credentials = { kind = "user" }

[new]
imap = "imap://127.0.0.1:$new_imap"
pop3 = "pop3://127.0.0.1:$new_pop3"
credentials = { kind = "user" }
target = { kind = "dsync", url = "doveadm://127.0.0.1:$new_doveadm", password_file = "$dir/doveadm.secret" }

[users]
default_domain = "example.net"

[store]
url = "sqlite:$dir/state.db"

[admin]
listen = "127.0.0.1:$ferry_admin"
token_file = "$dir/admin.token"

[migration]
enroll = "all"

[switch]
auto = true
max_pause = "2s"
CONFIG
}

# Ends everything that the demo started, by its process id, and removes the folder.
write_stop_script() {
    cat >"$dir/stop" <<STOP
#!/bin/sh
for pid in \$(cat "$dir/mailferry.pid" "$dir/old/run/master.pid" "$dir/new/run/master.pid" 2>/dev/null); do
    kill "\$pid" 2>/dev/null
done
i=0
while [ \$i -lt 50 ] && [ -e "$dir/new/run/master.pid" -o -e "$dir/old/run/master.pid" ]; do
    i=\$((i + 1))
    sleep 0.1
done
rm -rf "$dir"
STOP
    chmod +x "$dir/stop"
}

cleanup() {
    local status=$?
    trap - EXIT INT TERM
    [ -n "${session_pid:-}" ] && kill "$session_pid" 2>/dev/null
    if [ "$status" -ne 0 ] && [ -s "$dir/mailferry.log" ]; then
        printf '\ndemo: it went wrong; the end of the log of mailferry:\n' >&2
        tail -n 30 "$dir/mailferry.log" >&2
    fi
    if [ "$keep" = no ] || [ "$status" -ne 0 ]; then
        "$dir/stop" || true
    fi
    exit "$status"
}

# wait_for WHAT COMMAND...
wait_for() {
    local what=$1 end=$((SECONDS + PATIENCE))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || die "gave up waiting for $what"
        sleep 0.1
    done
}

# A server greets with more than `Waiting for authentication process`.
greets() {
    curl --silent --max-time 5 --output /dev/null --request CAPABILITY "imap://127.0.0.1:$1/"
}

start_dovecot() {
    dovecot -c "$dir/$1/dovecot.conf" </dev/null >>"$dir/$1.out" 2>&1 || die "Dovecot does not start: $(cat "$dir/$1.out")"
    wait_for "the $1 Dovecot" greets "$2"
}

start_ferry() {
    nohup "$mailferry" serve --config "$dir/mailferry.toml" </dev/null >"$dir/mailferry.log" 2>&1 &
    echo $! >"$dir/mailferry.pid"
    wait_for 'mailferry to listen' ferry_greets
}

ferry_greets() {
    kill -0 "$(cat "$dir/mailferry.pid")" 2>/dev/null || die 'mailferry ended'
    greets "$ferry_imap"
}

# A client: one IMAP command through the proxy, over IMAPS, with the certificate checked.
client() {
    curl --silent --show-error --max-time 60 --cacert "$dir/tls/ca.pem" --user "$USER_NAME:$PASSWORD" \
        --request "$1" "imaps://127.0.0.1:$ferry_imaps/${2:-}" </dev/null
}

# A POP3 client that leaves its mail on the server: what it knows its messages by, in their order.
uidls() {
    curl --silent --show-error --max-time 60 --cacert "$dir/tls/ca.pem" --user "$USER_NAME:$PASSWORD" \
        --request UIDL "pop3s://127.0.0.1:$ferry_pop3s/" </dev/null | tr -d '\r' | grep '^[0-9]'
}

# Mail that comes past the proxy, straight into the old server.
deliver_to_old() {
    python3 - "$old_lmtp" "$USER_NAME" <<'PYTHON'
import smtplib, sys
message = "From: bert@example.org\r\nSubject: from a mail server that had not heard of the move\r\n\r\nHello Anna\r\n"
with smtplib.LMTP("127.0.0.1", int(sys.argv[1])) as server:
    server.sendmail("bert@example.org", [sys.argv[2]], message)
PYTHON
}

late_mail_is_there() { client 'SEARCH SUBJECT "had not heard"' INBOX | grep -q 'SEARCH [0-9]'; }

# A client that stays: its commands go to descriptor 8, its answers to the file `session`.
open_session() {
    mkfifo "$dir/session.in"
    openssl s_client -quiet -verify_return_error -verify_ip 127.0.0.1 -CAfile "$dir/tls/ca.pem" \
        -connect "127.0.0.1:$ferry_imaps" <"$dir/session.in" >"$dir/session" 2>"$dir/session.err" &
    session_pid=$!
    exec 8>"$dir/session.in"
    printf 'a1 LOGIN %s "%s"\r\n' "$USER_NAME" "$PASSWORD" >&8
    wait_for 'the login' grep -q '^a1 ' "$dir/session"
    grep -q '^a1 OK' "$dir/session" || die "the login failed: $(grep '^a1' "$dir/session")"
}

# in_session TAG COMMAND: the answer's lines.
in_session() {
    local before
    before=$(wc -l <"$dir/session")
    printf '%s %s\r\n' "$1" "$2" >&8
    wait_for "the answer to $2" grep -q "^$1 " "$dir/session"
    tail -n "+$((before + 1))" "$dir/session" | tr -d '\r'
}

close_session() {
    printf 'a9 LOGOUT\r\n' >&8
    wait_for 'the logout' grep -q '^a9 ' "$dir/session"
    exec 8>&-
    wait "$session_pid" || true
    session_pid=''
}

# One field of the status, or nothing.
status_field() {
    python3 -c '
import json, sys
value = json.load(sys.stdin)
for key in sys.argv[1].split("."):
    value = (value or {}).get(key)
print("" if value is None else value)' "$1"
}

# watch_until PHASE: prints every phase as it passes.
watch_until() {
    local end=$((SECONDS + PATIENCE)) status phase line
    while :; do
        status=$("$mailferry" status --config "$dir/mailferry.toml" "$USER_NAME" --json </dev/null) || die 'mailferry status failed'
        phase=$(status_field phase <<<"$status")
        line=$(printf '%-10s authority %-4s epoch %s' "$phase" "$(status_field authority <<<"$status")" \
            "$(status_field epoch <<<"$status")")
        if [ "$line" != "$shown" ]; then
            shown=$line
            printf '  %4s s  %s  %s of %s messages\n' "$((SECONDS - began))" "$line" \
                "$(status_field progress.messages_done <<<"$status")" "$(status_field progress.messages_total <<<"$status")"
        fi
        [ "$phase" = "$1" ] && return
        [ "$phase" = held ] && die "the user is held: $(status_field reason <<<"$status")"
        [ "$SECONDS" -lt "$end" ] || die "still $phase: $(status_field reason <<<"$status")"
        sleep 0.05
    done
}

logins() { grep -c "imap-login: Info: Login: user=<$USER_NAME>" "$dir/$1/dovecot.log" 2>/dev/null || true; }

need_programs
build
dir=$(mktemp -d /tmp/mailferry-demo.XXXXXX)
chmod 755 "$dir" # Dovecot's mail user must be able to pass.
write_stop_script
trap cleanup EXIT
trap 'exit 130' INT TERM
read -r old_imap old_imaps old_pop3 old_lmtp old_doveadm new_imap new_imaps new_pop3 new_lmtp new_doveadm \
    ferry_imap ferry_imaps ferry_pop3s ferry_admin <<<"$(free_ports 14)"

say 'an old Dovecot (Maildir) and a new one (mdbox)'
make_certificates
dovecot_config old maildir "$old_imap" "$old_imaps" "$old_pop3" "$old_lmtp" "$old_doveadm" '%08Xu%08Xv'
# The new server would give messages other UIDLs by itself.
dovecot_config new mdbox "$new_imap" "$new_imaps" "$new_pop3" "$new_lmtp" "$new_doveadm" '%g'
python3 docker/sample_mail.py "$dir/old/mail/$USER_NAME"
[ "$(id -u)" -ne 0 ] || chown -R mail:mail "$dir/old/mail/$USER_NAME"
start_dovecot old "$old_imap"
start_dovecot new "$new_imap"
echo "  $(find "$dir/old/mail/$USER_NAME" -path '*/cur/*' | wc -l) messages on the old side, the new side is empty"

say 'mailferry between them and the clients'
ferry_config
start_ferry
echo "  IMAPS on port $ferry_imaps; nobody has logged in yet"

say "$USER_NAME's old POP3 client looks what there is"
began=$SECONDS shown=''
uidls >"$dir/uidls.before" || die 'no POP3 list'
echo "  $(wc -l <"$dir/uidls.before") messages; the first: $(head -n 1 "$dir/uidls.before"), the last: $(tail -n 1 "$dir/uidls.before")"

say "$USER_NAME logs in over IMAPS, and the move goes on behind the open session"
open_session
echo "  $(grep '^a1 OK' "$dir/session" | tr -d '\r' | cut -c 1-100)"
in_session a2 'STATUS INBOX (MESSAGES UIDNEXT UIDVALIDITY)' | sed 's/^/  /'
watch_until following
echo '  all is copied; the session goes on, on the old side:'
in_session a3 'STATUS INBOX (MESSAGES UIDNEXT UIDVALIDITY)' | sed 's/^/  /'

say 'the session ends: nobody is in the way of the switch'
close_session
watch_until new

say 'the next login lands on the new side'
old_before=$(logins old) new_before=$(logins new)
client 'STATUS INBOX (MESSAGES UIDNEXT UIDVALIDITY)' | tr -d '\r' | sed 's/^/  /'
[ "$(logins new)" -gt "$new_before" ] || die 'the login did not reach the new side'
[ "$(logins old)" -eq "$old_before" ] || die 'the login reached the old side'
echo '  in the log of the new Dovecot:'
grep "imap-login: Info: Login: user=<$USER_NAME>" "$dir/new/dovecot.log" | tail -n 1 | sed 's/^/  /'

say 'the POP3 client looks again'
uidls >"$dir/uidls.after" || die 'no POP3 list'
cmp "$dir/uidls.before" "$dir/uidls.after" || die 'the UIDLs or their order have changed'
echo "  $(wc -l <"$dir/uidls.after") messages, every UIDL as before and in the same order: nothing to download"

say 'both sides, asked directly'
python3 docker/side_by_side.py "$USER_NAME" "$PASSWORD" "$old_imap" "$new_imap" | sed 's/^/  /'

say 'mailferry verify, with every octet of every message'
"$mailferry" verify --config "$dir/mailferry.toml" "$USER_NAME" --password-file "$dir/password" --bodies all </dev/null |
    sed 's/^/  /'

say 'mail still reaches the old server, and is carried over'
deliver_to_old
wait_for 'the late mail' late_mail_is_there
"$mailferry" status --config "$dir/mailferry.toml" "$USER_NAME" </dev/null | sed 's/^/  /'

if [ "$keep" = yes ]; then
    say 'left running'
    cat <<KEEP
  clients    imaps://127.0.0.1:$ferry_imaps  (or imap with STARTTLS on $ferry_imap), user $USER_NAME, password "$PASSWORD"
             openssl s_client -quiet -CAfile $dir/tls/ca.pem -connect 127.0.0.1:$ferry_imaps
             pop3s://127.0.0.1:$ferry_pop3s, same user and password
  status     $mailferry status --config $dir/mailferry.toml $USER_NAME
  old, new   IMAP on 127.0.0.1:$old_imap and 127.0.0.1:$new_imap
  logs       $dir/mailferry.log  $dir/old/dovecot.log  $dir/new/dovecot.log
  end        $dir/stop
KEEP
fi
say "done in $SECONDS s: $USER_NAME lives on the new side now, and no client can tell"
