"""Which host the VM's frames come from, seen at the bridge: watch.py DIR

A line in DIR/speakers when another host begins to send frames with the VM's source address, with the time in
milliseconds; behind it, once the next one begins or at SIGTERM, when the last frame came and how many there were.
DIR/unseen then has how many frames came too fast to be looked at.
"""

import ctypes
import signal
import socket
import struct
import sys
import time

MAC = bytes.fromhex("525400123456")
HOSTS = {"h12": "n1", "h22": "n2"}
SO_ATTACH_FILTER = 26
SOL_PACKET, PACKET_STATISTICS = 263, 6
# The kernel passes on what has the VM's source address, and no more.
CODE = [
    (0x20, 0, 0, 6),
    (0x15, 0, 3, int.from_bytes(MAC[:4], "big")),
    (0x28, 0, 0, 10),
    (0x15, 0, 1, int.from_bytes(MAC[4:], "big")),
    (0x06, 0, 0, 256),
    (0x06, 0, 0, 0),
]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in CODE))
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(CODE), ctypes.addressof(program)))
sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
sock.settimeout(0.2)
ended = []
signal.signal(signal.SIGTERM, lambda *_: ended.append(1))
speaker, last, count = None, 0, 0
with open(f"{sys.argv[1]}/speakers", "w") as file:
    while not ended:
        try:
            _, (name, _, kind, _, _) = sock.recvfrom(256)
        except TimeoutError:
            continue
        if kind == socket.PACKET_OUTGOING or name not in HOSTS:
            continue
        now = int(time.time() * 1000)
        if HOSTS[name] != speaker:
            if speaker:
                file.write(f" until {last}, {count} frames\n")
            speaker, count = HOSTS[name], 0
            file.write(f"{speaker} from {now}")
            file.flush()
        last, count = now, count + 1
    if speaker:
        file.write(f" until {last}, {count} frames\n")
with open(f"{sys.argv[1]}/unseen", "w") as file:
    file.write(f"{struct.unpack('II', sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1]}\n")
