"""Child of L{bench.events}: changes VMs, each in a transaction of its own, at a steady pace, until it is ended."""

from __future__ import annotations

import itertools
import sys
import time

import psycopg2


def main() -> None:
    dsn, pace, vms = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    cursor = connection.cursor()
    # As on a server with a battery behind its cache: the disk of whoever measures is not what is measured.
    cursor.execute("SET synchronous_commit = off")
    cursor.execute("PREPARE change (text, integer) AS UPDATE vm_runtimes SET detail = $1 WHERE vm_id = $2")
    cursor.execute("SELECT vm_id FROM vm_runtimes ORDER BY vm_id DESC LIMIT %s", (vms,))
    ids = [row[0] for row in cursor.fetchall()]
    began = reported = time.monotonic()
    for number in itertools.count():
        ahead = began + number / pace - time.monotonic()
        if ahead > 0:
            time.sleep(ahead)
        cursor.execute("EXECUTE change (%s, %s)", (str(time.monotonic_ns()), ids[number % len(ids)]))
        if time.monotonic() - reported >= 1:
            reported = time.monotonic()
            print(f"{number / (reported - began):.0f}", flush=True)


if __name__ == "__main__":
    main()
