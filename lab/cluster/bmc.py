"""The controllers of both hosts, outside of them: ends a host's first process, and says whether a host is on."""

import os
import signal
import socket
import time

LAB = "/srv/lab"


def init(host):
    """The host's first process; 0 if it does not run."""
    try:
        with open(f"{LAB}/{host}.init") as file:
            pid = int(file.read())
        # Numbers of processes come again.
        with open(f"/proc/{pid}/cmdline") as file:
            return pid if f"{LAB}/host" in file.read() else 0
    except (OSError, ValueError):
        return 0


listener = socket.socket(socket.AF_UNIX)
listener.bind(f"{LAB}/bmc")
listener.listen(8)
while True:
    client = listener.accept()[0]
    action, host = (client.makefile().readline().split() + ["", ""])[:2]
    if action in ("off", "reboot"):
        pid = init(host)
        if pid:
            os.kill(pid, signal.SIGKILL)
        while init(host):
            time.sleep(0.01)
        print(time.strftime("%T"), action, host, flush=True)
    client.sendall(b"on\n" if init(host) else b"off\n")
    client.close()
