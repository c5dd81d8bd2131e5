#!/usr/bin/env bash
# Everything that must be true before a change lands, in one command on a fresh machine:
#
#   tests/run.sh            format, lint, dependencies, unit, property and integration tests, scripts, demo
#   tests/run.sh FILTER     only the tests whose names contain FILTER
#
# As root on Debian it installs what is missing; otherwise it says what to install. What takes longer is in tests/soak.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

CARGO_DENY=0.20.2
CARGO_NEXTEST=0.9.143
filter=${1:-}
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}
# The test binaries come and go: an incremental cache would only fill the disk of a CI machine.
[ "${CI:-}" = true ] && export CARGO_INCREMENTAL=0

say() { printf '\n== %s\n' "$*"; }

# command that proves it, Debian package
needed='
dovecot:dovecot-core
/usr/lib/dovecot/imap:dovecot-imapd
/usr/lib/dovecot/pop3:dovecot-pop3d
/usr/lib/dovecot/lmtp:dovecot-lmtpd
/usr/lib/dovecot/managesieve:dovecot-managesieved
mbsync:isync
mpop:mpop
fetchmail:fetchmail
getmail:getmail6
mutt:mutt
openssl:openssl
curl:curl
python3:python3
debootstrap:debootstrap
shellcheck:shellcheck
cc:gcc
'

install_packages() {
    local missing=() entry proof
    PATH=$PATH:/usr/sbin:/sbin
    for entry in $needed; do
        proof=${entry%%:*}
        command -v "$proof" >/dev/null 2>&1 || missing+=("${entry#*:}")
    done
    [ ${#missing[@]} -eq 0 ] && return
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "tests/run.sh: please install: ${missing[*]}   (Debian: sudo apt-get install ${missing[*]})" >&2
        exit 2
    fi
    say "installing ${missing[*]}"
    # A package must not start its service: the tests run private ones.
    local policy=/usr/sbin/policy-rc.d
    local ours=no
    if [ ! -e "$policy" ]; then
        ours=yes
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
    fi
    local status=0
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"; } \
        </dev/null || status=$?
    [ "$ours" = yes ] && rm -f "$policy"
    return "$status"
}

install_cargo_tools() {
    if ! command -v cargo >/dev/null; then
        echo "tests/run.sh: please install Rust: https://rustup.rs" >&2
        exit 2
    fi
    cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
    cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
    cargo deny --version >/dev/null 2>&1 || cargo install --locked cargo-deny --version "$CARGO_DENY"
    cargo nextest --version >/dev/null 2>&1 || cargo install --locked cargo-nextest --version "$CARGO_NEXTEST"
}

# Dovecot 2.4 in a Debian trixie of its own folder, made once and kept in the user's cache (300 MB).
trixie=${MAILFERRY_TRIXIE:-${XDG_CACHE_HOME:-$HOME/.cache}/mailferry/trixie}
without_trixie=

# The Debian mirror that this machine's own packages come from.
mirror() {
    local codename
    codename=$(sed -n "s/^VERSION_CODENAME=//p" /etc/os-release)
    # shellcheck disable=SC2016 # the form is apt's, not the shell's
    apt-get indextargets --no-release-info --format '$(SITE) $(RELEASE) $(COMPONENT)' 2>/dev/null |
        awk -v suite="$codename" '$1 ~ /^https?:/ && $2 == suite && $3 == "main" && !found { found = 1; print $1 }'
}

install_trixie() {
    [ -x "$trixie/usr/sbin/dovecot" ] && [ "$(id -u)" -eq 0 ] && return
    local from new log
    [ "$(id -u)" -eq 0 ] || { without_trixie='it is started as root only' && return; }
    from=$(mirror) || from=
    [ -n "$from" ] || { without_trixie='the apt sources name no Debian mirror' && return; }
    say "installing Dovecot 2.4 into $trixie"
    mkdir -p "$(dirname "$trixie")"
    new=$(mktemp -d "$trixie.XXXXXX")
    log=$(mktemp)
    if timeout 900 debootstrap --variant=minbase --include=dovecot-imapd,dovecot-pop3d,dovecot-lmtpd,procps \
        trixie "$new" "$from" </dev/null >"$log" 2>&1; then
        # Dovecot looks for mounted file systems there.
        : >"$new/etc/mtab"
        rm -rf "$new"/var/cache/apt/archives/*.deb
        chmod 755 "$new"
        rm -f "$log"
        # An empty folder may be there already; anything else is not ours to replace.
        mv -T "$new" "$trixie" || { without_trixie="$trixie is in the way" && rm -rf --one-file-system "$new"; }
    else
        tail -n 5 "$log" "$new/debootstrap/debootstrap.log" >&2 || true
        without_trixie="debootstrap failed, see $log"
        # Only what debootstrap has left behind: it unmounts what it mounted.
        rm -rf --one-file-system "$new"
    fi
}

# Old servers of other brands: their packages conflict with Dovecot's, so they are unpacked into a folder of their own in
# the user's cache, and nothing of them is installed or started but by the tests (see tests/lab/brands.rs).
brands=${MAILFERRY_BRANDS:-${XDG_CACHE_HOME:-$HOME/.cache}/mailferry/brands}
without_brands=()

# install_brand NAME PACKAGE...
install_brand() {
    local name=$1 new
    shift
    [ -d "$brands/$name/usr" ] && [ "$(id -u)" -eq 0 ] && return
    [ "$(id -u)" -eq 0 ] || { without_brands+=("$name (it is started as root only)") && return; }
    say "unpacking $name into $brands/$name"
    mkdir -p "$brands"
    new=$(mktemp -d "$brands/$name.XXXXXX")
    if unpack "$new" "$@"; then
        # An empty folder may be there already; anything else is not ours to replace.
        mv -T "$new" "$brands/$name" || { without_brands+=("$name ($brands/$name is in the way)") && rm -rf "$new"; }
    else
        without_brands+=("$name (its packages can not be had: $*)")
        rm -rf "$new"
    fi
}

# unpack FOLDER PACKAGE...
unpack() {
    local folder=$1 package
    shift
    chmod 755 "$folder"
    (cd "$folder" && { apt-get download -q "$@" || { apt-get update -q && apt-get download -q "$@"; }; }) </dev/null || return 1
    for package in "$folder"/*.deb; do
        dpkg-deb -x "$package" "$folder" || return 1
    done
    # What old packages have in /lib is looked for in /usr/lib, where it is laid over the machine's own.
    [ ! -d "$folder/lib" ] || { cp -a "$folder/lib/." "$folder/usr/lib/" && rm -r "${folder:?}/lib"; } || return 1
    rm -f "$folder"/*.deb
}

# Cyrus, whose packages can't be installed beside Dovecot's: unpacked into a folder of its own with all that it needs and this
# machine lacks, once, and kept in a cache (40 MB). Started by root it runs as another user, who can't look into root's home.
cyrus=${MAILFERRY_CYRUS:-${XDG_CACHE_HOME:-$HOME/.cache}/mailferry/cyrus}
[ -n "${MAILFERRY_CYRUS:-}" ] || [ "$(id -u)" -ne 0 ] || cyrus=/var/cache/mailferry/cyrus

install_cyrus() {
    [ -x "$cyrus/usr/lib/cyrus/bin/master" ] && return
    local new log
    command -v apt-get >/dev/null || { without_brands+=('cyrus (there is no apt-get)') && return; }
    say "unpacking Cyrus into $cyrus"
    mkdir -p "$(dirname "$cyrus")"
    new=$(mktemp -d "$cyrus.XXXXXX")
    log=$(mktemp)
    if (cd "$new" && unpack_cyrus) >"$log" 2>&1; then
        rm -f "$log"
        chmod 755 "$new"
        # An empty folder may be there already; anything else is not ours to replace.
        mv -T "$new" "$cyrus" || { without_brands+=("cyrus ($cyrus is in the way)") && rm -rf "$new"; }
    else
        tail -n 5 "$log" >&2
        without_brands+=("cyrus (its packages can not be unpacked, see $log)")
        rm -rf "$new"
    fi
}

# Into the current folder. (Called in an `if`, so errors don't end it by themselves.)
unpack_cyrus() {
    local own='cyrus-common cyrus-imapd cyrus-pop3d sasl2-bin libsasl2-modules-db' wanted package program libraries
    # The lists of packages may never have been fetched.
    wanted=$(wanted_packages "$own") || { apt-get update -q && wanted=$(wanted_packages "$own"); } || return
    # shellcheck disable=SC2086 # a list that is meant to be split
    apt-get -q download $wanted || return
    for package in *.deb; do
        dpkg-deb -x "$package" . || return
    done
    rm -f -- *.deb
    libraries=$(find "$PWD/usr/lib" "$PWD/lib" -maxdepth 1 -name '*-linux-gnu' 2>/dev/null | paste -s -d :)
    for program in master imapd pop3d lmtpd timsieved idled ctl_cyrusdb; do
        if LD_LIBRARY_PATH=$libraries ldd "usr/lib/cyrus/bin/$program" | grep 'not found'; then
            return 1
        fi
    done
}

# Packages, and what they need that isn't installed here: neither mail server nor Perl is used.
wanted_packages() {
    # shellcheck disable=SC2086 # a list that is meant to be split
    apt-get -s install --no-install-recommends $1 </dev/null |
        awk -v own="$1" '$1 == "Inst" && $2 !~ /^exim4|perl/ { print $2 } END { print own }' | tr ' ' '\n' | sort -u
}

failed=()
summary=()

# step NAME COMMAND...: runs it, remembers how it went, goes on.
step() {
    local name=$1 begun=$SECONDS
    shift
    say "$name"
    if "$@" </dev/null; then
        summary+=("ok      $name ($((SECONDS - begun)) s)")
    else
        summary+=("FAILED  $name ($((SECONDS - begun)) s)")
        failed+=("$name")
    fi
}

scripts() {
    local -a all
    mapfile -t all < <(find tests docker benches .ci -type f \( -name '*.sh' -o -path '.ci/run' \) 2>/dev/null | sort)
    shellcheck "${all[@]}"
    # Without writing __pycache__.
    find tests docker -name '*.py' -print0 | while IFS= read -r -d '' file; do
        python3 -c 'import ast, sys; ast.parse(open(sys.argv[1]).read(), sys.argv[1])' "$file" || return 1
    done
}

dependencies() {
    # It looks at the crates of every platform, and a build here has fetched only those of this one.
    cargo fetch --locked --quiet && cargo deny --offline --log-level warn check bans licenses sources
}

# What can't be run here is at least read by those who would run it.
packaging() {
    python3 - docker/compose.yaml <<'PYTHON' || return 1
import sys
try:
    import yaml
except ImportError:
    print("NOT CHECKED: docker/compose.yaml (no PyYAML here)")
else:
    assert yaml.safe_load(open(sys.argv[1]))["services"]["mailferry"]["build"]["dockerfile"] == "docker/Dockerfile"
PYTHON
    if ! command -v systemd-analyze >/dev/null; then
        echo 'NOT CHECKED: docker/mailferry.service (no systemd-analyze here)'
        return
    fi
    local folder said
    folder=$(mktemp -d)
    # It wants to see the binary.
    sed 's#/usr/bin/mailferry#/bin/true#' docker/mailferry.service >"$folder/mailferry.service"
    cp docker/mailferry.socket "$folder/"
    said=$(systemd-analyze verify "$folder/mailferry.service" "$folder/mailferry.socket" 2>&1 | grep mailferry || true)
    rm -r "$folder"
    [ -z "$said" ] || {
        echo "$said"
        return 1
    }
}

install_packages
install_cargo_tools
install_trixie
install_brand courier courier-imap courier-pop courier-base courier-authlib courier-authdaemon courier-authlib-userdb \
    libcourier-unicode4 libltdl7 gamin libgamin0 libpcre3
install_cyrus
install_brand mailutils mailutils-imap4d mailutils-pop3d mailutils-common libmailutils9 libmu-dbm9 libmariadb3 libgc1 \
    guile-3.0-libs liblzo2-2 libkyotocabinet16v5 libltdl7
export MAILFERRY_TRIXIE=$trixie MAILFERRY_BRANDS=$brands MAILFERRY_CYRUS=$cyrus
# Loud, and once more at the end.
[ -n "$without_trixie" ] && say "NOT RUN: Dovecot 2.4 ($without_trixie)"
[ ${#without_brands[@]} -gt 0 ] && say "NOT RUN: ${without_brands[*]}"

if [ -n "$filter" ]; then
    exec cargo nextest run --locked "$filter"
fi

step 'format' cargo fmt --check
step 'lint' cargo clippy --all-targets --locked -- -D warnings
step 'dependencies' dependencies
step 'scripts' scripts
step 'packaging' packaging
step 'tests' cargo nextest run --locked --no-fail-fast
step 'doc tests' cargo test --locked --doc --quiet
step 'benchmark' benches/run.sh --smoke
step 'demo' docker/demo.sh
step 'documentation' env RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items --quiet

say 'summary'
[ -n "$without_trixie" ] && summary+=("NOT RUN Dovecot 2.4 as new side: $without_trixie")
[ ${#without_brands[@]} -gt 0 ] && summary+=("NOT RUN as old side: ${without_brands[*]}")
printf '%s\n' "${summary[@]}"
if [ ${#failed[@]} -gt 0 ]; then
    printf '\nNOT GREEN: %s\n' "${failed[*]}"
    exit 1
fi
printf '\nall green in %s s%s\n' "$SECONDS" "${without_trixie:+, but NOT RUN: Dovecot 2.4}${without_brands[*]:+, but NOT RUN: ${without_brands[*]}}"
