#!/usr/bin/env python3
"""What rows and sinks add to a request: one gateway without `pairs:`, others with, on the same work in one run.

    benches/pairs/run.py [--binary target/release/wardline] [--repeats 8] [--seconds 2] [--connections 1,16]

Every answer breaks a rule (a recogniser) and is blocked, so that at a rate of 1 every request leaves a row: far more than any
policy will ask for. The gateways take turns, another one first in each repeat; a figure is the median, over the repeats, of the
ratio to the gateway without rows in the same repeat. Needs wrk, nginx (the upstream: one fixed answer) and nats-server from
Debian; only loopback sockets; nothing is left running. Nothing is asserted but that all answers and all rows are there.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

REPO = pathlib.Path(__file__).resolve().parents[2]
TEXT = "The sea is wide and blue, and nobody has counted its waves. You are worthless, said the gull to the stone. " * 5
ANSWER = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [
    {"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 300, "completion_tokens": 120, "total_tokens": 420}}
QUESTION = {"model": "m", "messages": [{"role": "user", "content": "Tell me of the sea, the gull and the stone. " * 25}]}
POLICY = """\
constitution: {{ preamble: Be kind. }}
rules:
  - {{ id: word, guard: {{ patterns: [{{ id: w, regex: worthless }}] }}, stages: [output], action: block }}
pairs: {{ rate: {rate}, feedback: {feedback} }}
"""
SCRIPT = """\
wrk.method, wrk.body = "POST", [==[{body}]==]
wrk.headers["content-type"] = "application/json"
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format('{{"requests": %d, "us": %d, "p50": %d, "p99": %d, "errors": %d}}\\n', summary.requests,
    summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""
# Name, rate of the rows, feedback, and the `pairs:` of the configuration.
SPOOL = "pairs: {{ dir: '{dir}/pairs', queue_rows: 65536"
PARQUET = "{{ name: lake, parquet: {{ url: '{dir}/lake' }} }}"
NATS = "{{ name: stream, nats: {{ url: 'nats://127.0.0.1:{nats}' }} }}"
TARGETS = [
    ("no rows", 1, 0, ""),
    ("spool, a row in 20 requests", 0.05, 0, SPOOL + " }}"),
    ("spool, a row each request", 1, 0, SPOOL + " }}"),
    ("and Parquet", 1, 0, SPOOL + ", seal_ms: 1000, sinks: [" + PARQUET + "] }}"),
    ("and Parquet and NATS", 1, 0, SPOOL + ", seal_ms: 1000, sinks: [" + PARQUET + ", " + NATS + "] }}"),
]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def until(what, true, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if true():
                return
        time.sleep(0.05)
    sys.exit(f"pairs bench: {what} did not come about within {seconds} s")


@contextlib.contextmanager
def process(command, log, **more):
    with open(log, "wb") as out:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, **more)
    try:
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(60)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def upstream(work, port):
    """nginx with one answer for everybody."""
    config = f"""daemon off; worker_processes 1; pid {work}/nginx.pid; error_log stderr crit;
events {{ worker_connections 256; }}
http {{ access_log off; client_body_temp_path {work}/b; proxy_temp_path {work}/p; fastcgi_temp_path {work}/f;
uwsgi_temp_path {work}/u; scgi_temp_path {work}/s; keepalive_requests 1000000000; client_body_buffer_size 64k;
server {{ listen 127.0.0.1:{port}; location / {{ default_type application/json; return 200 '{json.dumps(ANSWER)}'; }} }} }}
"""
    (work / "nginx.conf").write_text(config, encoding="utf-8")
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    return process([nginx, "-e", "stderr", "-p", str(work), "-c", str(work / "nginx.conf")], work / "nginx.log")


def make_stream(port):
    """A JetStream stream that takes the rows; in memory, so that the disk is the spool's own."""
    body = json.dumps({"name": "rows", "subjects": ["wardline.>"], "storage": "memory", "max_bytes": 1 << 29, "discard": "old"})
    with socket.create_connection(("127.0.0.1", port), timeout=10) as nats:
        nats.recv(65536)
        nats.sendall(b'CONNECT {"verbose":false}\r\nSUB inbox 1\r\n'
                     + f"PUB $JS.API.STREAM.CREATE.rows inbox {len(body)}\r\n{body}\r\n".encode())
        said = b""
        while b'"config"' not in said and b'"error"' not in said:
            said += nats.recv(65536)
        if b'"error"' in said:
            sys.exit(f"pairs bench: no stream: {said!r}")


class Gateway:
    """One running gateway, and what is known of it."""

    def __init__(self, target, work, ports, binary):
        self.name, rate, feedback, pairs = target
        self.dir = work / re.sub(r"\W+", "-", self.name)
        (self.dir / "policies").mkdir(parents=True)
        (self.dir / "policies" / "bench.yaml").write_text(POLICY.format(rate=rate, feedback=feedback), encoding="utf-8")
        self.port, self.admin = free_port(), free_port()
        config = f"""listen: 127.0.0.1:{self.port}
admin: 127.0.0.1:{self.admin}
upstreams: {{ openai: {{ dialect: openai, url: 'http://127.0.0.1:{ports["upstream"]}', api_key_env: BENCH_KEY }} }}
policies: {{ dir: policies, active: bench }}
{pairs.format(dir=self.dir, nats=ports["nats"])}
log: {{ format: text, level: error }}
"""
        (self.dir / "wardline.yaml").write_text(config, encoding="utf-8")
        self.command = [str(binary), "serve", "--config", str(self.dir / "wardline.yaml")]
        self.runs = []

    def started(self):
        env = {**os.environ, "BENCH_KEY": "bench", "ORT_DISABLE_TELEMETRY": "1"}
        return process(self.command, self.dir / "log", env=env)

    def metric(self, name):
        page = get(f"http://127.0.0.1:{self.admin}/metrics")
        return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if re.match(rf"{name}[ {{]", line))

    def cpu(self):
        fields = (pathlib.Path("/proc") / str(self.child.pid) / "stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self):
        status = (pathlib.Path("/proc") / str(self.child.pid) / "status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def load(self, connections, seconds, script):
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script),
                   f"http://127.0.0.1:{self.port}/v1/chat/completions"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return json.loads(next(line for line in said.splitlines() if line.startswith("{")))

    def measure(self, connections, seconds, script):
        self.load(connections, 1, script)
        rows, cpu = self.metric("wardline_pairs_sampled_total"), self.cpu()
        run = self.load(connections, seconds, script)
        rows = self.metric("wardline_pairs_sampled_total") - rows
        if run["errors"]:
            sys.exit(f"pairs bench: {self.name}: {run['errors']} wrong answers\n{(self.dir / 'log').read_text()}")
        run |= {"rows_s": rows / run["us"] * 1e6, "cpu_us": (self.cpu() - cpu) / run["requests"] * 1e6,
                "mib": self.memory(), "connections": connections}
        self.runs.append(run)


def spaced(number):
    return f"{number:,.0f}".replace(",", " ")


def table(gateways, connections):
    print(f"\n| {connections} connection{'s' if connections > 1 else ''} | requests/s | p50 ms | p99 ms | x p50 | x p99 | "
          "CPU µs a request | rows/s | MiB |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    of = lambda gateway: [run for run in gateway.runs if run["connections"] == connections]
    plain = of(gateways[0])
    middle = lambda values: statistics.median(values)
    for gateway in gateways:
        runs = of(gateway)
        ratio = lambda what: middle([run[what] / beside[what] for run, beside in zip(runs, plain)])
        rate = middle([run["requests"] / run["us"] * 1e6 for run in runs])
        print(f"| {gateway.name} | {spaced(rate)} | {middle([r['p50'] for r in runs]) / 1000:.2f} "
              f"| {middle([r['p99'] for r in runs]) / 1000:.2f} | {ratio('p50'):.2f} | {ratio('p99'):.2f} "
              f"| {middle([r['cpu_us'] for r in runs]):.0f} | {spaced(middle([r['rows_s'] for r in runs]))} "
              f"| {max(r['mib'] for r in runs):.0f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, default=REPO / "target/release/wardline")
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--connections", default="1,16")
    arguments = parser.parse_args()
    for tool in ("wrk", "nats-server"):
        if not (shutil.which(tool) or pathlib.Path(f"/usr/sbin/{tool}").is_file()):
            sys.exit(f"pairs bench: there is no {tool} (Debian: apt-get install {tool})")
    connections = [int(number) for number in arguments.connections.split(",")]
    with contextlib.ExitStack() as stack:
        work = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wardline-pairs-bench-")))
        ports = {"upstream": free_port(), "nats": free_port()}
        script = work / "post.lua"
        script.write_text(SCRIPT.format(body=json.dumps(QUESTION)), encoding="utf-8")
        stack.enter_context(upstream(work, ports["upstream"]))
        nats = shutil.which("nats-server") or "/usr/sbin/nats-server"
        stack.enter_context(process([nats, "-js", "-a", "127.0.0.1", "-p", str(ports["nats"]), "-sd", str(work / "js")],
                                    work / "nats.log"))
        until("NATS", lambda: socket.create_connection(("127.0.0.1", ports["nats"]), 1).close() or True)
        make_stream(ports["nats"])
        gateways = [Gateway(target, work, ports, arguments.binary.resolve()) for target in TARGETS]
        for gateway in gateways:
            gateway.child = stack.enter_context(gateway.started())
            until(gateway.name, lambda: get(f"http://127.0.0.1:{gateway.admin}/readyz"))
        for repeat in range(arguments.repeats):
            for number in connections:
                order = gateways[repeat % len(gateways):] + gateways[:repeat % len(gateways)]
                for gateway in order:
                    print(f"repeat {repeat + 1} of {arguments.repeats}: {number} connections, {gateway.name}", file=sys.stderr)
                    gateway.measure(number, arguments.seconds, script)
        for number in connections:
            table(gateways, number)
        print()
        for gateway in gateways[1:]:
            until("the last rows", lambda: gateway.metric("wardline_pairs_buffer_rows") == 0, 60)
            rows, lost = gateway.metric("wardline_pairs_sampled_total"), gateway.metric("wardline_pairs_dropped_total")
            print(f"{gateway.name}: {spaced(rows)} rows, {spaced(lost)} dropped")


if __name__ == "__main__":
    main()
