#!/usr/bin/env bash
# What takes longer than tests/run.sh may: every test that is marked `#[ignore = "soak: …"]`, what is known of the usual new
# side (mdbox on Dovecot 2.3) on the others, then all tests against real servers again and again, to catch what fails only
# now and then.
#
#   tests/soak.sh [ROUNDS]      default 20
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-20}
case $rounds in
'' | *[!0-9]*)
    echo "usage: tests/soak.sh [ROUNDS]" >&2
    exit 2
    ;;
esac

echo "== long tests"
# Fails only if a test fails: there may be none yet.
cargo nextest run --locked --run-ignored only --no-tests pass --no-fail-fast </dev/null

# The Dovecot 2.4 that tests/run.sh has installed.
for new_side in '2.4 mdbox' '2.4 maildir' '2.3 maildir'; do
    echo "== new side $new_side"
    MAILFERRY_LAB_NEW_SIDE=$new_side cargo nextest run --locked --no-fail-fast \
        -E 'test(/^(copy|crash|damage|doveadm_tls|late|master_users|refusals|resume|silent_losses|switch|uidl)/)' </dev/null
done

for round in $(seq "$rounds"); do
    echo "== round $round of $rounds"
    # More cases for the property tests, other seeds each time.
    PROPTEST_CASES=$((256 * round)) cargo nextest run --locked --no-fail-fast </dev/null
done
echo "all $rounds rounds green"
