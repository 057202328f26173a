#!/usr/bin/env python3
"""What becomes of preference rows when something breaks: `make pairs-durability`.

A gateway whose every answer leaves a row ships to an S3 server (moto, behind a proxy that can be cut) and to NATS
JetStream. While requests go on, the gateway is killed, the S3 server is cut off in mid-flight and restarted, NATS is
killed, and the disk fills up. After each: rows in = rows out + counted drops, and no request failed. Exits 1 if not.
"""

import argparse
import asyncio
import http.client
import json
import pathlib
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import boto3
import datasets
import nats
import pyarrow.dataset

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from proving import FAILED, SAID, comes, free_port, hold, run, say

POLICY = """constitution: { preamble: Be kind. }
rules: [{ id: mail, guard: { entities: [EMAIL_ADDRESS] }, stages: [output], action: block }]
pairs: { rate: 1.0 }
"""
CONFIG = """listen: 127.0.0.1:{data}
admin: 127.0.0.1:{admin}
upstreams:
  openai: {{ dialect: openai, url: "http://127.0.0.1:9", api_key_env: KEY }}
policies: {{ dir: policies, active: proof }}
pairs:
  dir: spool
  seal_ms: 1000
  max_file_bytes: 1000000
  max_bytes: {max_bytes}
  sinks:
    - name: lake
      parquet: {{ url: "s3://rows/some/prefix", endpoint: "http://127.0.0.1:{s3}", allow_http: true, region: us-east-1,
        access_key_id_env: ID, secret_access_key_env: SECRET, timeout_ms: 3000 }}
    - name: stream
      nats: {{ url: "nats://127.0.0.1:{nats}", timeout_ms: 2000 }}
log: {{ level: warn }}
"""


def wait(what, seconds, until):
    if not comes(seconds, until):
        hold(f"waited {seconds} s in vain: {what}", False)


class Proxy:
    """TCP in front of the S3 server. `cut` ends what is under way and refuses what comes."""

    def __init__(self, port, target):
        self.target, self.cut, self.delay, self.open = target, False, 0.0, set()
        self.listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            if self.cut:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            self.open |= {client, server}
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=self.pump, args=(one, other), daemon=True).start()

    def pump(self, one, other):
        try:
            while data := one.recv(16384):
                time.sleep(self.delay)
                other.sendall(data)
        except OSError:
            pass
        for sock in (one, other):
            sock.close()

    def break_off(self):
        self.cut = True
        for sock in list(self.open):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.open.clear()


class Place:
    def __init__(self, binary, root, max_bytes=10 << 30, spool=None):
        self.binary, self.root = binary, root
        self.data, self.admin, self.nats_port, self.moto_port, s3 = (free_port() for _ in range(5))
        (root / "policies").mkdir(parents=True)
        (root / "policies/proof.yaml").write_text(POLICY)
        text = CONFIG.format(data=self.data, admin=self.admin, s3=s3, nats=self.nats_port, max_bytes=max_bytes)
        (root / "wardline.yaml").write_text(text.replace("dir: spool", f"dir: {spool or 'spool'}"))
        self.proxy = Proxy(s3, self.moto_port)
        self.snapshot = root / "snapshot"
        self.start_moto()
        self.start_nats()
        asyncio.run(self.make_stream())
        self.gateway = None

    def run(self, *command, name):
        return run(command, self.root / f"{name}.log")

    def start_moto(self):
        self.moto = self.run(sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", self.moto_port, name="moto")
        wait("moto", 60, lambda: socket.create_connection(("127.0.0.1", self.moto_port), 1))
        self.s3().create_bucket(Bucket="rows")

    def s3(self):
        return boto3.client("s3", endpoint_url=f"http://127.0.0.1:{self.moto_port}", region_name="us-east-1",
                            aws_access_key_id="demo", aws_secret_access_key="demo")

    def start_nats(self):
        self.nats = self.run("nats-server", "-a", "127.0.0.1", "-p", self.nats_port, "-js", "-sd", self.root / "js", name="nats")
        wait("nats-server", 30, lambda: socket.create_connection(("127.0.0.1", self.nats_port), 1))

    async def make_stream(self):
        client = await nats.connect(f"nats://127.0.0.1:{self.nats_port}")
        await client.jetstream().add_stream(name="rows", subjects=["wardline.>"])
        await client.close()

    def start(self):
        self.gateway = self.run(self.binary, "demo", "--config", self.root / "wardline.yaml", name="gateway")
        wait("gateway", 60, lambda: urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/readyz", timeout=1))

    def metrics(self):
        text = urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=5).read().decode()
        lines = (line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("wardline_pairs"))
        return {name: float(value) for name, value in lines}

    def drops(self):
        return {name: value for name, value in self.metrics().items() if "dropped" in name and value}

    def settled(self):
        metrics = self.metrics()
        left = [metrics.get(f'wardline_pairs_unshipped_bytes{{sink="{sink}"}}', 1) for sink in ("lake", "stream")]
        return metrics["wardline_pairs_buffer_rows"] == 0 and not any(left) and not any(file.stat().st_size for file in self.spool().glob("*.jsonl"))

    def spool(self):
        return self.root / "spool"

    def fetch(self):
        for entry in self.s3().list_objects_v2(Bucket="rows").get("Contents", []):
            file = self.snapshot / entry["Key"]
            file.parent.mkdir(parents=True, exist_ok=True)
            self.s3().download_file("rows", entry["Key"], str(file))

    def in_lake(self):
        self.fetch()
        files = sorted(str(file) for file in self.snapshot.rglob("*.parquet"))
        return [row["request_id"] for row in pyarrow.dataset.dataset(files).to_table(columns=["meta"])["meta"].to_pylist()] if files else []

    def in_stream(self):
        async def read():
            client = await nats.connect(f"nats://127.0.0.1:{self.nats_port}")
            context, ids = client.jetstream(), []
            total = (await context.stream_info("rows")).state.messages
            puller = await context.pull_subscribe("wardline.>", stream="rows")
            while len(ids) < total:
                for message in await puller.fetch(min(500, total - len(ids))):
                    ids.append(json.loads(message.data)["meta"]["request_id"])
                    await message.ack()
            await client.close()
            return ids
        return asyncio.run(read())

    def end(self):
        for process in (self.gateway, self.moto, self.nats):
            if process and process.poll() is None:
                process.terminate()
                process.wait(40)


class Load:
    """Requests on a few connections, each answer a blocked one that leaves a row."""

    def __init__(self, place, connections=4):
        self.place, self.ids, self.times, self.failures, self.stop = place, [], [], [], False
        self.begun = time.monotonic()
        self.threads = [threading.Thread(target=self.work) for _ in range(connections)]
        for thread in self.threads:
            thread.start()

    def work(self):
        body = json.dumps({"model": "demo", "messages": [{"role": "user", "content": "Your contact?"}]})
        connection = http.client.HTTPConnection("127.0.0.1", self.place.data, timeout=30)
        while not self.stop:
            began = time.perf_counter()
            try:
                connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
                answer = connection.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                return
            if answer.status != 200 or b"content_filter" not in text:
                self.failures.append(f"{answer.status} {text[:200]}")
                continue
            self.times.append(time.perf_counter() - began)
            self.ids.append(answer.headers["x-request-id"])

    def end(self):
        self.stop = True
        for thread in self.threads:
            thread.join()
        took = time.monotonic() - self.begun
        cuts = statistics.quantiles(self.times, n=100) if len(self.times) > 1 else [0] * 99
        return f"{len(self.ids)} requests, {len(self.ids) / took:.0f}/s, p50 {cuts[49] * 1e3:.1f} ms, p99 {cuts[98] * 1e3:.1f} ms"


def balance(place, rows_in, lost=0):
    """Both sinks have each row once, but for counted drops and what a kill may cost."""
    for name, ids in (("lake", place.in_lake()), ("stream", place.in_stream())):
        missing = len(set(rows_in) - set(ids))
        dropped = sum(place.drops().values())
        hold(f"{name}: {len(rows_in)} rows in = {len(set(rows_in) & set(ids))} out + {missing} ({dropped:.0f} counted as dropped, "
             f"{missing - dropped:.0f} lost with a kill); {len(ids) - len(set(ids))} twice",
             len(ids) == len(set(ids)) and 0 <= missing - dropped <= lost)


def kills(binary, root, seconds):
    say("kill -9, five times under load (bound: 256 unsynced rows, and the queue)")
    place = Place(binary, root)
    ids = []
    try:
        for _ in range(5):
            place.start()
            load = Load(place)
            time.sleep(seconds)
            place.gateway.send_signal(signal.SIGKILL)
            place.gateway.wait()
            say(f"  {load.end()}, killed")
            ids += load.ids
        place.start()
        wait("all is shipped", 60, place.settled)
        balance(place, ids, lost=5 * 256)
    finally:
        place.end()


def outages(binary, root, seconds):
    place = Place(binary, root)
    ids = []

    def phase(what, begin=None, middle=None):
        say(what)
        load = Load(place)
        if begin:
            begin()
        time.sleep(seconds)
        if middle:
            middle()
            time.sleep(seconds)
        say(f"  {load.end()}")
        hold(f"no request failed {load.failures[:2] or ''}", not load.failures)
        ids.extend(load.ids)

    def restart_moto():
        # moto keeps objects in memory: what it has is taken out while nothing can come in.
        place.fetch()
        place.moto.kill()
        place.moto.wait()
        place.start_moto()

    def slow():
        place.proxy.delay = 0.5

    def whole():
        place.proxy.delay, place.proxy.cut = 0.0, False

    def kill_nats():
        place.nats.kill()
        place.nats.wait()

    try:
        place.start()
        phase("both sinks well")
        phase("S3 slow (half a second for each 16 KB)", slow)
        phase("S3 cut off in mid-flight, restarted empty, back", place.proxy.break_off, lambda: (restart_moto(), whole()))
        phase("NATS killed (-9), back", kill_nats, place.start_nats)
        phase("both away", lambda: (kill_nats(), place.proxy.break_off()))
        waiting = place.metrics()['wardline_pairs_unshipped_bytes{sink="lake"}']
        say(f"  waiting: {waiting / 1e6:.1f} MB for the lake")
        place.start_nats()
        whole()
        wait("all is shipped", 120, place.settled)
        balance(place, ids)
        failures = {k: v for k, v in place.metrics().items() if "ship_failures" in k}
        hold(f"failures are counted by sink and reason: {failures}", len(failures) >= 2)
        files = [str(file) for file in place.snapshot.rglob("unpaired/**/*.parquet")]
        table = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(root / "cache"))
        hold(f"datasets loads them: {table.num_rows} rows, columns {table.column_names}", table.num_rows == len(ids))
    finally:
        place.end()


def same_rows(binary, root, seconds):
    say("Parquet has the rows and columns of the JSON lines")
    place = Place(binary, root)
    text = (root / "wardline.yaml").read_text()
    (root / "wardline.yaml").write_text(text.replace("  sinks:", "  after_shipping: keep\n  sinks:"))
    try:
        place.start()
        load = Load(place)
        time.sleep(seconds)
        say(f"  {load.end()}")
        wait("all is shipped", 60, place.settled)
        lines = [json.loads(line) for file in (place.spool() / "shipped").glob("*.jsonl") for line in file.open()]
        place.fetch()
        files = [str(file) for file in place.snapshot.rglob("*.parquet")]
        rows = pyarrow.dataset.dataset(files).to_table().to_pylist()

        def bare(row):
            for name in ("prompt", "completion"):
                for message in row[name]:
                    more = json.loads(message.pop("more", None) or "{}")
                    for key in [key for key, value in message.items() if value is None]:
                        del message[key]
                    message.update(more)
            return json.dumps(row, sort_keys=True)
        hold(f"{len(lines)} lines, {len(rows)} Parquet rows, all equal", sorted(map(bare, lines)) == sorted(map(bare, rows)) and len(lines) == len(load.ids))
        for where in (place.spool() / "shipped", place.snapshot):
            told = subprocess.run([binary, "pairs", "stats", where], check=True, capture_output=True, text=True).stdout
            hold(f"wardline pairs stats: {told.splitlines()[0]}", told.startswith(f"{len(load.ids)} rows"))
    finally:
        place.end()


def full_disk(binary, root, seconds):
    say("disk full (tmpfs of 1 MB under the spool, both sinks away), then back")
    spool = root / "spool"
    spool.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", spool], capture_output=True, text=True)
    if mounted.returncode:
        say(f"  not done: tmpfs cannot be mounted here ({mounted.stderr.strip()})")
        return
    place = Place(binary, root)
    try:
        place.proxy.break_off()
        place.nats.kill()
        place.nats.wait()
        place.start()
        load = Load(place)
        wait("the disk is full", 60, lambda: place.drops())
        time.sleep(seconds)
        say(f"  {load.end()}")
        hold(f"no request failed {load.failures[:2] or ''}", not load.failures)
        place.proxy.cut = False
        place.start_nats()
        # A request that hangs may take its 60 s, and a sink rests up to a minute after failures.
        wait("all is shipped", 180, place.settled)
        more = Load(place)
        time.sleep(1)
        more.end()
        wait("all is shipped", 180, place.settled)
        say(f"  {place.drops()}")
        hold("rows were dropped, and counted", bool(place.drops()))
        balance(place, load.ids + more.ids)
    finally:
        place.end()
        subprocess.run(["umount", "-l", spool], check=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True, type=lambda text: str(pathlib.Path(text).resolve()))
    parser.add_argument("--record", type=pathlib.Path)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--only", nargs="*")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        for proof in (same_rows, kills, outages, full_disk):
            if not arguments.only or proof.__name__ in arguments.only:
                proof(arguments.binary, pathlib.Path(root) / proof.__name__, arguments.seconds)
    say("all held" if not FAILED else f"{len(FAILED)} did not hold")
    if arguments.record:
        head = "# Last output of `make pairs-durability`\n\n```\n"
        arguments.record.write_text(head + "\n".join(SAID) + "\n```\n")
    return 1 if FAILED else 0


if __name__ == "__main__":
    sys.exit(main())
