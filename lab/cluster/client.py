"""The VM's clients: echo, pages and records on both families, each on its own thread, and datagrams 20 ms apart.

client.py DIR SEED: writes to DIR/waits each answer that took 100 ms or more, as it comes: client, when it was asked and
when it came, in milliseconds; to DIR/last five times a second when each client has had its last one; after SIGTERM to
DIR/clients what each client has seen. With a third word, the path of an image, it judges the image by DIR/clients
instead.
"""

import json
import os
import random
import signal
import socket
import struct
import sys
import threading
import time

HOSTS = {"v4": "10.0.0.2", "v6": "fd00::2"}
RECORD, REGION = 4096, 16384
# An answer that takes longer counts as a failure.
PATIENCE = 60
PAUSE = 0.02
# So a region lasts for half an hour.
RECORD_PAUSE = 0.1
folder, seed = sys.argv[1], int(sys.argv[2])
stopped = threading.Event()
lines = threading.Lock()


def now():
    return int(time.time() * 1000)


def record(region, number):
    """The bytes of a record: they follow from region, seed and number alone."""
    noise = random.Random(f"{seed} {region} {number}").randbytes(RECORD - 8)
    return struct.pack("<Q", region * REGION + number) + noise


def sum_of(data):
    total = 0xCBF29CE484222325
    for byte in data:
        total = (total ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return total


class Client(threading.Thread):
    """One client; a connection that fails is followed by another one."""

    def __init__(self, name, family, port):
        super().__init__(daemon=True)
        self.name, self.family, self.port = f"{name} {family}", family, port
        self.last = 0
        self.seen = {"answers": 0, "wrong": 0, "resets": 0, "failures": 0, "words": [], "longest": 0}
        self.noise = random.Random(f"{seed} {self.name}")

    def run(self):
        while not stopped.is_set():
            try:
                self.talk()
            except (ConnectionResetError, BrokenPipeError) as error:
                self.fails("resets", error)
            except (OSError, EOFError) as error:
                self.fails("failures", error)
            time.sleep(PAUSE)

    def fails(self, kind, error):
        if not stopped.is_set():
            self.seen[kind] += 1
            self.seen["words"].append(f"{now()}: {error!r}")

    def connect(self):
        connection = socket.create_connection((HOSTS[self.family], self.port), PATIENCE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def take(self, connection, wanted):
        """Reads as much as is wanted, and compares."""
        have = b""
        while len(have) < len(wanted):
            piece = connection.recv(len(wanted) - len(have))
            if not piece:
                raise EOFError(f"the connection ended after {len(have)} of {len(wanted)} bytes")
            have += piece
        if have != wanted:
            self.seen["wrong"] += 1
            self.seen["words"].append(f"{now()}: wrong bytes")

    def answered(self, asked):
        came = self.last = now()
        self.seen["answers"] += 1
        self.seen["longest"] = max(self.seen["longest"], came - asked)
        if came - asked >= 100:
            with lines, open(f"{folder}/waits", "a") as file:
                file.write(f"{self.name.replace(' ', '-')} {asked} {came}\n")


class Echo(Client):
    def talk(self):
        with self.connect() as connection:
            while not stopped.is_set():
                data = self.noise.randbytes(self.noise.randint(1, 8192))
                asked = now()
                connection.sendall(data)
                self.take(connection, data)
                self.answered(asked)
                time.sleep(PAUSE)


class Records(Client):
    def __init__(self, name, family, port, region):
        super().__init__(name, family, port)
        self.region = region
        self.seen["region"] = region

    def talk(self):
        with self.connect() as connection:
            while not stopped.is_set():
                number = self.seen["answers"] + 1
                if number == REGION:
                    return
                data = record(self.region, number)
                block = self.region * REGION + number
                asked = now()
                connection.sendall(data)
                self.take(connection, b"written %d %016x\r\n" % (block, sum_of(data)))
                self.answered(asked)
                time.sleep(RECORD_PAUSE)


class Pages(Client):
    """A connection for each page of one byte."""

    def talk(self):
        wanted = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n0"
        asked = now()
        with self.connect() as connection:
            connection.sendall(b"GET /small HTTP/1.1\r\n\r\n")
            self.take(connection, wanted)
        self.answered(asked)


class Datagrams(Client):
    """One is sent every 20 ms; what counts is how long none comes back."""

    def talk(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((HOSTS[self.family], self.port))
            sock.settimeout(0.02)
            last = now()
            while not stopped.is_set():
                try:
                    sock.send(b"%016d" % now())
                    sock.recv(64)
                except OSError:
                    continue
                self.answered(last)
                last = now()
                time.sleep(0.02)


def judge(image):
    """Whether each acknowledged record is in the image; its first block repeats the last one or the one in flight."""
    lost = right = 0
    with open(f"{folder}/clients") as file, open(image, "rb") as disk:
        for name, seen in json.load(file).items():
            if "region" not in seen:
                continue
            region, last = seen["region"], seen["answers"]
            for number in range(1, last + 1):
                disk.seek((region * REGION + number) * RECORD)
                same = disk.read(RECORD) == record(region, number)
                right, lost = right + same, lost + (not same)
            disk.seek(region * REGION * RECORD)
            head = disk.read(RECORD)
            if last and head not in (record(region, last), record(region, last + 1)):
                print(f"{name}: the first block does not repeat record {last}")
                lost += 1
    print(f"{image}: {right} acknowledged records are there, {lost} are not")
    return lost == 0


if len(sys.argv) > 3:
    sys.exit(0 if judge(sys.argv[3]) else 1)
clients = [Echo("echo", "v4", 7), Echo("echo", "v6", 7), Pages("pages", "v4", 80), Datagrams("datagrams", "v4", 7)]
clients += [Records("records", "v4", 8, 0), Records("records", "v6", 8, 1)]
signal.signal(signal.SIGTERM, lambda *_: stopped.set())
for client in clients:
    client.start()
while not stopped.wait(0.2):
    with open(f"{folder}/last.new", "w") as file:
        file.writelines(f"{client.name.replace(' ', '-')} {client.last}\n" for client in clients)
    os.rename(f"{folder}/last.new", f"{folder}/last")
for client in clients:
    client.join(2)
with open(f"{folder}/clients.new", "w") as file:
    json.dump({client.name: client.seen for client in clients}, file, indent=1)
os.rename(f"{folder}/clients.new", f"{folder}/clients")
