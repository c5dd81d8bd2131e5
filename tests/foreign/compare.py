#!/usr/bin/env python3
"""Compares two IMAP accounts as a client sees them, with nothing but Python's imaplib.

    compare.py --old HOST PORT USER PASSWORD --new HOST PORT USER PASSWORD [--tls-ca FILE]

It shares no code with mailferry, so that a mistake there cannot hide itself here. Each finding is one of three:

  difference  what a client would notice, or mail that is not the same
  altered     octets that one of three named rules explains: `crcrlf` (CR CR LF kept as CR LF), `trailing-cr` (a lone CR
              as the very last octet is dropped), `nul` (NUL shown as 0x80)
  note        what no client minds: an empty mailbox only on the new side, a UIDNEXT that is higher, SPECIAL-USE that only
              the new side announces, an RFC822.SIZE that lies about a body that is the same

Prints one JSON object. Exit status: 0 no difference, 1 at least one, 2 the comparison itself failed.
"""

import argparse
import calendar
import hashlib
import imaplib
import json
import re
import ssl
import sys
import time

# imaplib gives up on longer lines; long keyword lists and UID lists are legal.
imaplib._MAXLINE = 100_000_000
# Octets of messages asked for at once.
BATCH = 4_000_000
SPECIAL = {b"\\all", b"\\archive", b"\\drafts", b"\\flagged", b"\\junk", b"\\sent", b"\\trash", b"\\important"}


class Side:
    """One account."""

    def __init__(self, host, port, user, password, tls_ca):
        if tls_ca:
            context = ssl.create_default_context(cafile=tls_ca)
            self.imap = imaplib.IMAP4_SSL(host, int(port), ssl_context=context, timeout=120)
        else:
            self.imap = imaplib.IMAP4(host, int(port), timeout=120)
        self.imap.login(user, password)
        _, data = self.imap.capability()
        self.capabilities = data[0].upper().split()

    def ask(self, command, *args):
        """A command whose untagged responses of the same (or the last argument's) name are wanted."""
        status, data = command(*args)
        if status != "OK":
            raise RuntimeError(f"{args}: {status} {data}")
        return [item for item in data if item not in (None, b"")]

    def listing(self):
        """Raw name -> (attributes, separator)."""
        found = {}
        for item in self.ask(self.imap.list, '""', '"*"'):
            attributes, separator, name = parse_list(item)
            found[name] = (attributes, separator)
        return found

    def special_use(self):
        """Raw name -> its SPECIAL-USE attributes."""
        found = {}
        if b"SPECIAL-USE" in self.capabilities:
            tag_data = self.ask(self.imap._simple_command, "LIST", '""', '"*"', "RETURN", "(SPECIAL-USE)")
            del tag_data
            for item in self.imap._untagged_response("OK", [None], "LIST")[1]:
                if item:
                    attributes, _, name = parse_list(item)
                    if attributes & SPECIAL:
                        found[name] = attributes & SPECIAL
        return found

    def separator(self):
        return parse_list(self.ask(self.imap.list, '""', '""')[0])[1]

    def subscriptions(self):
        return {parse_list(item)[2] for item in self.ask(self.imap.lsub, '""', '"*"')}

    def open(self, name):
        """EXAMINE -> (UIDVALIDITY, UIDNEXT)."""
        status, data = self.imap.select(quote(name), readonly=True)
        if status != "OK":
            raise RuntimeError(f"EXAMINE {name!r}: {data}")
        values = []
        for code in ("UIDVALIDITY", "UIDNEXT"):
            _, data = self.imap.response(code)
            values.append(int(data[0]) if data and data[0] else None)
        return tuple(values)

    def facts(self):
        """UID -> (flags, instant, RFC822.SIZE) of the open mailbox."""
        found = {}
        for item in self.ask(self.imap.uid, "FETCH", "1:*", "(UID FLAGS INTERNALDATE RFC822.SIZE)"):
            text = item if isinstance(item, bytes) else b"".join(item)
            uid = int(re.search(rb"UID (\d+)", text).group(1))
            flags = re.search(rb"FLAGS \(([^)]*)\)", text).group(1).lower().split()
            date = re.search(rb'INTERNALDATE "([^"]*)"', text).group(1)
            size = int(re.search(rb"RFC822\.SIZE (\d+)", text).group(1))
            found[uid] = (sorted(set(flags) - {b"\\recent"}), instant(date), size)
        return found

    def bodies(self, uids):
        """UID -> BODY[]."""
        found = {}
        for item in self.ask(self.imap.uid, "FETCH", ",".join(map(str, uids)), "(UID BODY.PEEK[])"):
            if isinstance(item, tuple):
                found[int(re.search(rb"UID (\d+)", item[0]).group(1))] = item[1]
            else:
                # An empty message may come as a quoted string instead of a literal.
                uid = re.search(rb'UID (\d+).*BODY\[\] "([^"]*)"', item)
                if uid:
                    found[int(uid.group(1))] = uid.group(2)
        return found


def parse_list(item):
    """A LIST or LSUB response -> (lower-case attributes, separator, raw name)."""
    if isinstance(item, tuple):
        head, name = item[0], item[1]
        head = re.sub(rb"\{\d+\}$", b"", head)
    else:
        head, name = item, None
    match = re.match(rb'\(([^)]*)\) (NIL|"(?:\\.|[^"])*") ?(.*)$', head, re.S)
    attributes = set(match.group(1).lower().split())
    separator = None if match.group(2) == b"NIL" else unquote(match.group(2))
    if name is None:
        name = unquote(match.group(3))
    return attributes, separator, name


def unquote(text):
    if text.startswith(b'"') and text.endswith(b'"'):
        return re.sub(rb"\\(.)", rb"\1", text[1:-1], flags=re.S)
    return text


def quote(name):
    return '"' + name.decode("latin-1").replace("\\", "\\\\").replace('"', '\\"') + '"'


def instant(date):
    """INTERNALDATE -> seconds since the epoch."""
    text = date.decode("ascii").strip()
    stamp, zone = text.rsplit(" ", 1)
    seconds = calendar.timegm(time.strptime(stamp, "%d-%b-%Y %H:%M:%S"))
    offset = int(zone[1:3]) * 3600 + int(zone[3:5]) * 60
    return seconds + offset if zone[0] == "-" else seconds - offset


def explain(old, new):
    """The rules that turn `old` into `new`, or None."""
    rules = []
    for rule, change in (
        ("nul", lambda octets: octets.replace(b"\0", b"\x80")),
        ("crcrlf", lambda octets: octets.replace(b"\r\r\n", b"\r\n")),
        ("trailing-cr", lambda octets: octets[:-1] if octets.endswith(b"\r") else octets),
    ):
        changed = change(old)
        if changed != old:
            rules.append(rule)
            old = changed
        if old == new:
            return rules
    return None


class Report:
    def __init__(self):
        self.lists = {"differences": [], "altered": [], "notes": []}
        self.mailboxes = 0
        self.messages = 0

    def add(self, kind, mailbox, uid, what, old, new):
        def show(value):
            if isinstance(value, bytes):
                return value.decode("latin-1")
            if isinstance(value, (set, frozenset, list, tuple)):
                return [show(part) for part in sorted(value)]
            return value

        finding = {"mailbox": show(mailbox), "uid": uid, "what": what, "old": show(old), "new": show(new)}
        self.lists[kind].append({key: value for key, value in finding.items() if value is not None})

    def result(self):
        counts = {"mailboxes": self.mailboxes, "messages": self.messages}
        return {"identical": not self.lists["differences"], **counts, **self.lists}


def compare(old, new):
    report = Report()
    if old.separator() != new.separator():
        report.add("differences", None, None, "separator", old.separator(), new.separator())
    if old.subscriptions() != new.subscriptions():
        only_old = old.subscriptions() - new.subscriptions()
        only_new = new.subscriptions() - old.subscriptions()
        report.add("differences", None, None, "subscriptions", only_old, only_new)
    compare_special_use(old, new, report)
    lists = old.listing(), new.listing()
    for name in sorted(set(lists[0]) | set(lists[1])):
        compare_name(name, lists, old, new, report)
    return report.result()


def compare_special_use(old, new, report):
    uses = old.special_use(), new.special_use()
    for name in sorted(set(uses[0]) | set(uses[1])):
        before, after = uses[0].get(name, set()), uses[1].get(name, set())
        if before - after:
            report.add("differences", name, None, "special-use", before, after)
        elif after - before:
            report.add("notes", name, None, "special-use", before, after)


def no_select(entry):
    return entry is not None and bool(entry[0] & {b"\\noselect", b"\\nonexistent"})


def compare_name(name, lists, old, new, report):
    entries = lists[0].get(name), lists[1].get(name)
    held = [entry is not None and not no_select(entry) for entry in entries]
    if held == [True, False]:
        report.add("differences", name, None, "missing", None, None)
    elif held == [False, True]:
        new.open(name)
        kind = "differences" if new.facts() else "notes"
        report.add(kind, name, None, "only on the new side", None, None)
    elif held == [False, False]:
        if (entries[0] is None) != (entries[1] is None):
            # A folder without mail that is only on the new side is less than the empty mailbox above.
            kind = "differences" if entries[1] is None else "notes"
            report.add(kind, name, None, "noselect", entries[0] is not None, entries[1] is not None)
    else:
        report.mailboxes += 1
        compare_mailbox(name, old, new, report)


def compare_mailbox(name, old, new, report):
    (old_validity, old_next), (new_validity, new_next) = old.open(name), new.open(name)
    if old_validity != new_validity:
        report.add("differences", name, None, "uidvalidity", old_validity, new_validity)
    if old_next != new_next:
        kind = "notes" if (new_next or 0) > (old_next or 0) else "differences"
        report.add(kind, name, None, "uidnext", old_next, new_next)
    facts = old.facts(), new.facts()
    for uid in sorted(set(facts[0]) - set(facts[1])):
        report.add("differences", name, uid, "missing", None, None)
    for uid in sorted(set(facts[1]) - set(facts[0])):
        report.add("differences", name, uid, "only on the new side", None, None)
    both = sorted(set(facts[0]) & set(facts[1]))
    report.messages += len(both)
    for uid in both:
        (old_flags, old_date, _), (new_flags, new_date, _) = facts[0][uid], facts[1][uid]
        if old_flags != new_flags:
            report.add("differences", name, uid, "flags", old_flags, new_flags)
        if old_date != new_date:
            report.add("differences", name, uid, "internaldate", old_date, new_date)
    batch, octets = [], 0
    for uid in both:
        batch.append(uid)
        octets += facts[0][uid][2]
        if octets >= BATCH or len(batch) >= 500:
            compare_bodies(name, batch, old, new, facts, report)
            batch, octets = [], 0
    if batch:
        compare_bodies(name, batch, old, new, facts, report)


def compare_bodies(name, uids, old, new, facts, report):
    bodies = old.bodies(uids), new.bodies(uids)
    for uid in uids:
        before, after = bodies[0].get(uid), bodies[1].get(uid)
        if before is None or after is None:
            report.add("differences", name, uid, "unreadable", before is not None, after is not None)
        elif before == after:
            if facts[0][uid][2] != facts[1][uid][2]:
                report.add("notes", name, uid, "rfc822.size", facts[0][uid][2], facts[1][uid][2])
        else:
            rules = explain(before, after)
            if rules is None:
                digests = [f"{len(body)} octets, sha256 {hashlib.sha256(body).hexdigest()}" for body in (before, after)]
                report.add("differences", name, uid, "body", *digests)
            else:
                report.add("altered", name, uid, "+".join(rules), len(before), len(after))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    account = ("HOST", "PORT", "USER", "PASSWORD")
    parser.add_argument("--old", nargs=4, metavar=account, required=True)
    parser.add_argument("--new", nargs=4, metavar=account, required=True)
    parser.add_argument("--tls-ca", metavar="FILE", help="use IMAPS and trust only this authority")
    args = parser.parse_args()
    try:
        result = compare(Side(*args.old, args.tls_ca), Side(*args.new, args.tls_ca))
    except (OSError, RuntimeError, imaplib.IMAP4.error) as error:
        print(f"compare.py: {error}", file=sys.stderr)
        return 2
    json.dump(result, sys.stdout, indent=1, sort_keys=True)
    print()
    return 0 if result["identical"] else 1


if __name__ == "__main__":
    sys.exit(main())
