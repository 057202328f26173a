"""What the proofs have in common: what they say, and the processes that they start."""

import http.client
import os
import socket
import subprocess
import time

SAID, FAILED = [], []


def say(line):
    print(line, flush=True)
    SAID.append(line)


def hold(what, holds):
    say(f"  {'ok    ' if holds else 'FAILED'}  {what}")
    if not holds:
        FAILED.append(what)


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def comes(seconds, until):
    """Whether it comes about within so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if until():
                return True
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.1)
    return False


def run(command, log, cwd=None):
    """Starts a process that writes to the end of a file."""
    env = {**os.environ, "ORT_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1"}
    with log.open("a") as out:
        return subprocess.Popen([str(part) for part in command], stdout=out, stderr=out, cwd=cwd, env=env)
