#!/usr/bin/env bash
# How fast mailferry's front is beside nginx's mail proxy and Dovecot's, on this machine: one table (see benches/front).
#
#   benches/run.sh [ROUNDS]     default 5; some ten minutes, on a machine that does nothing else, with two cores or more
#   benches/run.sh --smoke      only whether it still works: mailferry alone, a few logins, nothing to be installed
#
# As root on Debian it installs what is missing; otherwise it says what to install. Private servers on loopback only.
set -euo pipefail
cd "$(dirname "$0")/.."

# The program with the clients, the server behind the proxies and the table; it is built as a benchmark of the crate.
program() {
    cargo build --locked --quiet --bench front --message-format json "$@" |
        sed -n 's/.*"kind":\["bench"\].*"executable":"\([^"]*\)".*/\1/p'
}

if [ "${1:-}" = --smoke ]; then
    bench=$(program)
    exec "$bench" --smoke
fi
rounds=${1:-5}
case $rounds in
'' | *[!0-9]* | 0)
    echo "usage: benches/run.sh [ROUNDS | --smoke]" >&2
    exit 2
    ;;
esac

PATH=$PATH:/usr/sbin:/sbin
missing=()
[ -e /usr/lib/nginx/modules/ngx_mail_module.so ] || missing+=(libnginx-mod-mail)
command -v nginx >/dev/null || missing+=(nginx-core)
command -v dovecot >/dev/null || missing+=(dovecot-core)
[ -e /usr/lib/dovecot/imap-login ] || missing+=(dovecot-imapd)
if [ "$(id -u)" -ne 0 ]; then
    echo "benches/run.sh: Dovecot's and nginx's workers need root to be another user: run it as root" >&2
    exit 2
fi
if [ ${#missing[@]} -gt 0 ]; then
    command -v apt-get >/dev/null || { echo "benches/run.sh: please install: ${missing[*]}" >&2 && exit 2; }
    # A package must not start its service.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        trap 'rm -f "$policy"' EXIT
    fi
    apt-get update -q >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" </dev/null >&2
fi

bench=$(program --release)
# The one that is shipped: what the benchmark is built with has what tests need as well.
cargo build --locked --quiet --release --bin mailferry
mailferry=$(dirname "$(dirname "$bench")")/mailferry

# Clients and the server behind hold three descriptors of every connection.
ulimit -n "$(ulimit -Hn)"
# The last core is the proxy's, and all that loads it has the others.
core=$(($(nproc) - 1))
if [ "$core" -eq 0 ]; then
    echo "benches/run.sh: one core only: the proxy shares it with its clients" >&2
    others=0
else
    others=0-$((core - 1))
fi
echo "$(date -u +%F), $(nproc) cores, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), Linux $(uname -r), median of $rounds rounds"
echo
taskset -c "$others" "$bench" --rounds "$rounds" --core "$core" --mailferry "$mailferry"
