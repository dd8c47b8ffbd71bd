"""A monitor that answers as an idle QEMU does: monitor.py SOCKET"""

import json
import os
import socket
import sys
import threading

GREETING = {"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": []}}
DELAY = {"name": "x-checkpoint-delay", "default": None, "type": "int"}
REPLIES = {
    "query-qmp-schema": [
        {"name": "7", "meta-type": "object", "members": [DELAY]},
        {"name": "migrate-set-parameters", "meta-type": "command", "arg-type": "7", "ret-type": "0"},
    ],
    "query-migrate-capabilities": [{"state": True, "capability": "x-colo"}, {"state": True, "capability": "events"}],
    "query-migrate-parameters": {"x-checkpoint-delay": 20000},
    "query-status": {"status": "running", "singlestep": False, "running": True},
    "query-yank": [],
    "query-rx-filter": [],
}


def serve(client):
    # A stream for both ways would forget, at each reply, the further requests that had come with one.
    def send(value):
        client.sendall((json.dumps(value) + "\r\n").encode())

    send(GREETING)
    for line in client.makefile("r"):
        request = json.loads(line)
        name = request.get("execute") or request.get("exec-oob")
        send({"return": REPLIES.get(name, {}), "id": request.get("id")})


listener = socket.socket(socket.AF_UNIX)
if os.path.exists(sys.argv[1]):
    os.unlink(sys.argv[1])
listener.bind(sys.argv[1])
listener.listen(8)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
