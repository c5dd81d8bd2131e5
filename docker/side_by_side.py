#!/usr/bin/env python3
"""Shows one account on two IMAP servers side by side: UIDVALIDITY, UIDNEXT and UIDs of every mailbox.

    side_by_side.py USER PASSWORD OLD_PORT NEW_PORT

Asks both servers directly, on 127.0.0.1. Exit status: 0 the same, 1 not the same.
"""

import imaplib
import re
import sys
import unicodedata


def ranges(uids):
    """1,2,3,7 -> 1:3,7"""
    parts = []
    for uid in uids:
        if parts and uid == parts[-1][1] + 1:
            parts[-1][1] = uid
        else:
            parts.append([uid, uid])
    return ",".join(str(first) if first == last else f"{first}:{last}" for first, last in parts)


def account(port, user, password):
    """Raw mailbox name -> (UIDVALIDITY, UIDNEXT, UIDs)."""
    imap = imaplib.IMAP4("127.0.0.1", port, timeout=60)
    imap.login(user, password)
    found = {}
    for item in imap.list()[1]:
        attributes, name = re.match(rb'\(([^)]*)\) "." (.*)$', item).groups()
        if b"noselect" in attributes.lower():
            continue
        name = name.strip(b'"').decode("ascii")
        imap.select(f'"{name}"', readonly=True)
        validity, following = (int(imap.response(code)[1][0]) for code in ("UIDVALIDITY", "UIDNEXT"))
        uids = imap.uid("SEARCH", "ALL")[1][0].split()
        found[name] = (validity, following, ranges([int(uid) for uid in uids]))
    imap.logout()
    return found


def readable(name):
    """Modified UTF-7 -> text."""
    decode = lambda match: ("+" + match[1].replace(",", "/") + "-").encode().decode("utf-7") if match[1] else "&"
    return re.sub(r"&([^-]*)-", decode, name)


def fit(text, width):
    """Exactly `width` columns; East Asian characters take two."""
    out, used = "", 0
    for character in text:
        columns = 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if used + columns > width - (1 if len(text) > width else 0):
            return out + "…" + " " * (width - used - 1)
        out, used = out + character, used + columns
    return out + " " * (width - used)


def main():
    user, password, old_port, new_port = sys.argv[1:]
    old, new = (account(int(port), user, password) for port in (old_port, new_port))
    same = True
    print(fit("mailbox", 25), fit("side", 4), fit("UIDVALIDITY", 11), fit("UIDNEXT", 7), "UIDs")
    for name in sorted(set(old) | set(new)):
        before, after = old.get(name), new.get(name)
        for side, facts in (("old", before), ("new", after)):
            label = fit(readable(name) if side == "old" else "", 25)
            if facts is None:
                print(label, fit(side, 4), "not there")
            else:
                print(label, fit(side, 4), fit(str(facts[0]), 11), fit(str(facts[1]), 7), fit(facts[2] or "none", 60).rstrip())
        if before != after:
            same = False
            print(" " * 25, "^^^  not the same")
    print(f"{len(old)} mailboxes on the old side, {len(new)} on the new: {'the same' if same else 'NOT the same'}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
