#!/usr/bin/env python3
"""Writes a sample account as Maildir++, as an old Dovecot would have left it. The same every time.

    sample_mail.py FOLDER

UID gaps, keywords, nested and non-ASCII mailboxes, an empty mailbox with a past, subscriptions.
"""

import os
import random
import sys

BASE_DATE = 1_709_208_000  # 2024-02-29T12:00:00Z
KEYWORDS = ["$Forwarded", "NonJunk", "$label1", "Invoice"]
# Mailbox -> number of messages, how many of a hundred UIDs were expunged, UIDVALIDITY.
MAILBOXES = {
    "INBOX": (400, 20, 1_388_534_401),
    "Sent": (150, 5, 1_388_534_402),
    "Archive/2022": (200, 0, 1_388_534_403),
    "Archive/2023": (200, 40, 1_388_534_404),
    "Projekte/Brücke & Hafen": (60, 30, 1_388_534_405),
    "日本語/受信": (25, 10, 1_388_534_406),
    "Überfahrt 🚢": (12, 50, 1_388_534_407),
    "Old newsletters": (0, 0, 1_388_534_408),
}
SUBSCRIBED = ["INBOX", "Sent", "Archive/2023", "Projekte/Brücke & Hafen", "日本語/受信", "Deleted long ago"]
SUBJECTS = ["Lunch?", "Timetable", "Re: the quay", "Grüße aus Travemünde", "Invoice 2024-17", "船の時間", "Fwd: Harbour dues"]
WORDS = "ferry quay tide anchor deck rope signal harbour light wave bow stern crew cargo pilot chart".split()


def modified_utf7(part):
    """RFC 3501 §5.1.3."""
    out, pending = "", ""
    for character in part + "\0":
        if character == "&" or " " <= character <= "~" or character == "\0":
            if pending:
                coded = pending.encode("utf-7").decode("ascii")
                out += "&" + coded[1:].rstrip("-").replace("/", ",") + "-"
                pending = ""
            out += {"&": "&-", "\0": ""}.get(character, character)
        else:
            pending += character
    return out


def message(noise, mailbox, uid):
    subject = noise.choice(SUBJECTS)
    lines = [" ".join(noise.choices(WORDS, k=10)) for _ in range(noise.choice([5, 20, 60, 400]))]
    text = "\n".join(
        [
            "From: Bert <bert@example.org>",
            "To: Anna <anna@example.net>",
            f"Subject: {subject}",
            f"Message-ID: <{uid}.{abs(hash_of(mailbox))}@example.org>",
            "Date: Thu, 29 Feb 2024 12:00:00 +0000",
            "MIME-Version: 1.0",
            "Content-Type: text/plain; charset=utf-8",
            "Content-Transfer-Encoding: 8bit",
            "",
            *lines,
            "",
        ]
    )
    return text.encode()


def hash_of(text):
    return sum(byte * (at + 1) for at, byte in enumerate(text.encode()))


def write_mailbox(root, name, count, gaps, validity, noise):
    folder = root if name == "INBOX" else os.path.join(root, "".join("." + modified_utf7(part) for part in name.split("/")))
    for sub in ("cur", "new", "tmp"):
        os.makedirs(os.path.join(folder, sub), mode=0o700)
    if folder != root:
        open(os.path.join(folder, "maildirfolder"), "w").close()
    records, uid = [], 0
    for number in range(count):
        uid += 1
        while noise.randrange(100) < gaps:
            uid += 1
        body = message(noise, name, uid)
        flags = "".join(sorted(letter for letter in "FRS" if noise.randrange(3) == 0))
        flags += "".join(letter for letter in "abcd"[: len(KEYWORDS)] if noise.randrange(6) == 0)
        date = BASE_DATE + number * 3600
        base = f"{date}.M{uid}V{validity}.demo,S={len(body)},W={len(body) + body.count(10)}"
        path = os.path.join(folder, "cur", f"{base}:2,{flags}")
        with open(path, "wb") as file:
            file.write(body)
        os.utime(path, (date, date))
        records.append(f"{uid} :{base}\n")
    with open(os.path.join(folder, "dovecot-uidlist"), "w", encoding="ascii") as file:
        file.write(f"3 V{validity} N{uid + 18}\n" + "".join(records))
    with open(os.path.join(folder, "dovecot-keywords"), "w", encoding="ascii") as file:
        file.writelines(f"{at} {keyword}\n" for at, keyword in enumerate(KEYWORDS))


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    root = sys.argv[1]
    noise = random.Random(2024)
    os.makedirs(root, mode=0o700, exist_ok=True)
    for name, (count, gaps, validity) in MAILBOXES.items():
        write_mailbox(root, name, count, gaps, validity, noise)
    with open(os.path.join(root, "subscriptions"), "w", encoding="ascii") as file:
        file.write("V\t2\n\n")
        file.writelines("\t".join(modified_utf7(part) for part in name.split("/")) + "\n" for name in SUBSCRIBED)


if __name__ == "__main__":
    main()
