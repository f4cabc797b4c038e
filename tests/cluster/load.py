#!/usr/bin/env python3
"""Clients of the cluster, in their namespace: `load.py HOST THREADS FILES`.

Each thread stores small files, fetches each and compares, with a new session after every ten, from an address of its own that it shares
with one other thread. Ends after FILES files in all, or with FILES 0 at the end of standard input. Prints a line of JSON: transfers that
succeeded, and what failed.
"""

import ftplib
import io
import itertools
import json
import sys
import threading

from network import CONTROL, client_address

PER_SESSION = 10
MOST_ERRORS = 20


class Load:
    def __init__(self, host, files):
        self.host = host
        self.files = files
        self.numbers = itertools.count()
        self.ended = threading.Event()
        self.lock = threading.Lock()
        self.transfers = 0
        self.failed = 0
        self.errors = []

    def next_file(self):
        number = next(self.numbers)
        return None if self.ended.is_set() or (self.files and number >= self.files) else number

    def client(self, thread):
        source = (client_address(thread // 2), 0)
        number = self.next_file()
        while number is not None:
            ftp = ftplib.FTP(timeout=60)
            try:
                ftp.connect(self.host, CONTROL, source_address=source)
                ftp.login("load", "secret")
                for _ in range(PER_SESSION):
                    self.transfer(ftp, f"{thread}-{number}", f"content of {number}\n".encode() * (number % 50 + 1))
                    number = self.next_file()
                    if number is None:
                        break
                ftp.quit()
            except (*ftplib.all_errors, AssertionError) as error:
                self.count(0, f"thread {thread}, file {number}: {error!r}")
                number = self.next_file()
            finally:
                ftp.close()

    def transfer(self, ftp, name, content):
        ftp.storbinary(f"STOR {name}", io.BytesIO(content))
        self.count(1)
        back = io.BytesIO()
        ftp.retrbinary(f"RETR {name}", back.write)
        assert back.getvalue() == content, f"{len(back.getvalue())} of {len(content)} bytes"
        self.count(1)

    def count(self, transfers, error=None):
        with self.lock:
            self.transfers += transfers
            if error:
                self.failed += 1
                self.errors = [*self.errors, error][:MOST_ERRORS]


def main():
    host, threads, files = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    load = Load(host, files)
    clients = [threading.Thread(target=load.client, args=[number]) for number in range(threads)]
    for client in clients:
        client.start()
    if not files:
        sys.stdin.read()
        load.ended.set()
    for client in clients:
        client.join()
    print(json.dumps({"transfers": load.transfers, "failed": load.failed, "errors": load.errors}))


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    main()
