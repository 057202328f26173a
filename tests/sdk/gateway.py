"""Starts the built binary in a directory of its own, and stops it again."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from upstream import SAID

HERE = Path(__file__).parent
REPO = HERE.parent.parent
POLICIES = ("guarded", "refusing", "revising")
READY_S, STOP_S = 120, 60

CONFIG = """\
listen: 127.0.0.1:{listen}
admin: 127.0.0.1:{admin}
upstreams:
  openai: {{ dialect: openai, url: "{upstream}", api_key_env: SDK_TEST_KEY }}
  anthropic: {{ dialect: anthropic, url: "{upstream}", api_key_env: SDK_TEST_KEY }}
  azure: {{ dialect: azure, url: "{upstream}", api_key_env: SDK_TEST_KEY }}
policies: {{ dir: policies, active: {policy} }}
classifier: {{ dir: "{model}", threads: 1 }}
pairs: {{ dir: pairs, feedback: {{}} }}
log: {{ format: text, level: info }}
"""


def binary() -> Path:
    """WARDLINE_BIN, else the release build, else the debug build."""
    named = os.environ.get("WARDLINE_BIN")
    found = [Path(named)] if named else [REPO / "target/release/wardline", REPO / "target/debug/wardline"]
    for path in found:
        if path.is_file():
            return path.resolve()
    raise FileNotFoundError(f"no binary at {' or '.join(map(str, found))}: run `make build`, or set WARDLINE_BIN")


class Gateway:
    """One running gateway under one policy of `policies/`."""

    def __init__(self, policy: str, upstream_url: str) -> None:
        self.policy = policy
        self.dir = Path(tempfile.mkdtemp(prefix=f"wardline-sdk-{policy}-"))
        (self.dir / "policies").mkdir()
        shutil.copy(HERE / "policies" / f"{policy}.yaml", self.policy_file)
        listen, admin = free_ports(2)
        self.url, self.admin = f"http://127.0.0.1:{listen}", f"http://127.0.0.1:{admin}"
        model = os.environ.get("WARDLINE_SDK_MODEL", str(REPO / "models/guard"))
        config = CONFIG.format(listen=listen, admin=admin, upstream=upstream_url, policy=policy, model=model)
        (self.dir / "wardline.yaml").write_text(config, encoding="utf-8")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def policy_file(self) -> Path:
        return self.dir / "policies" / f"{self.policy}.yaml"

    def start(self) -> Gateway:
        log = (self.dir / "log").open("wb")
        command = [str(binary()), "serve", "--config", str(self.dir / "wardline.yaml")]
        env = {**os.environ, "SDK_TEST_KEY": SAID["upstream_key"]}
        self.process = subprocess.Popen(command, cwd=REPO, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        try:
            self._await_ready()
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise
        return self

    def stop(self) -> None:
        """Asks it to end, and insists on a clean end."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{self.policy}: still running {STOP_S} s after SIGTERM\n{self.log()}") from None
        assert code == 0, f"{self.policy}: exit code {code}\n{self.log()}"
        shutil.rmtree(self.dir)

    def log(self) -> str:
        return (self.dir / "log").read_text(encoding="utf-8", errors="replace")

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's series that have these labels; 0 where there is none."""
        total = 0.0
        for line in self._get("/metrics").splitlines():
            series = re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line)
            if series and labels.items() <= dict(re.findall(r'(\w+)="([^"]*)"', series[1] or "")).items():
                total += float(series[2])
        return total

    def pairs(self) -> list[dict]:
        return self.rows("pairs")

    def rows(self, kind: str) -> list[dict]:
        """What was kept: `pairs`, or rows that are `unpaired`."""
        files = sorted((self.dir / "pairs").rglob(f"{kind}-*.jsonl*"))
        return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]

    def _get(self, path: str) -> str:
        with urlopen(self.admin + path, timeout=10) as answer:
            return answer.read().decode()

    def _await_ready(self) -> None:
        assert self.process is not None
        patience = time.monotonic() + READY_S
        while time.monotonic() < patience:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.policy}: ended with {self.process.returncode} at once\n{self.log()}")
            try:
                self._get("/readyz")
            except (URLError, ConnectionError):
                time.sleep(0.05)
            else:
                return
        raise RuntimeError(f"{self.policy}: not ready after {READY_S} s\n{self.log()}")


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
