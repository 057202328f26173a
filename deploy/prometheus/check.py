#!/usr/bin/env python3
"""Holds rules, alerts and board against src/telemetry/metrics.rs, with promtool's help.

1. Every metric that a query names exists in metrics.rs (or is one of Prometheus' own), and every label that it names
   is a label of a metric in that query.
2. Every board query parses, and returns samples from series that have the shape metrics.rs gives them.
3. Every alert has a test in tests.yml in which it fires and one in which it stays silent.

Needs promtool; otherwise only the standard library.
"""

import itertools
import json
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
METRICS = HERE.parents[1] / "src" / "telemetry" / "metrics.rs"
BOARD = HERE.parent / "grafana" / "dashboards" / "wardline.json"

# Not ours: `up` is Prometheus' own, process_* come from the prometheus crate's collector.
FOREIGN = {
    "up": "gauge", "process_cpu_seconds_total": "counter", "process_resident_memory_bytes": "gauge",
    "process_virtual_memory_bytes": "gauge", "process_start_time_seconds": "gauge", "process_open_fds": "gauge",
    "process_max_fds": "gauge", "process_threads": "gauge",
}
KINDS = {"counter": "counter", "hist": "histogram", "int_gauges": "gauge", "gauge_vec": "gauge",
         "int_gauge": "gauge", "gauge": "gauge", "plain_counter": "counter"}
# Words that queries select on; every other label gets one made-up value.
WORDS = {"code": ["200", "502"], "action": ["allow", "block"], "mode": ["enforce", "shadow"],
         "disposition": ["open", "closed"], "state": ["kept", "unshipped"],
         "outcome": ["ok", "failed", "out_of_time", "preferred"]}
PROMQL = set("""sum count min max avg topk by without on ignoring group_left group_right rate irate increase
    histogram_quantile avg_over_time min_over_time max_over_time offset bool and or unless vector time""".split())


def metrics():
    """Name -> (kind, labels), read from the registrations in metrics.rs."""
    source = METRICS.read_text()
    constants = {name: re.findall(r'"([^"]+)"', body)
                 for name, body in re.findall(r"const (\w+): &\[&str\] =\s*&\[(.*?)\];", source, re.S)}
    text = r'"(?:[^"\\]|\\.)*"'
    call = re.compile(rf"\b({'|'.join(KINDS)})\(\s*r,\s*({text}),\s*{text},?\s*(&\[.*?\]|[A-Z_]+)?", re.S)
    found = {}
    for function, name, labels in call.findall(source):
        labels = constants[labels] if labels in constants else re.findall(r'"([^"]+)"', labels)
        found[name.strip('"')] = (KINDS[function], labels)
    registered = len(re.findall(rf"\b(?:{'|'.join(KINDS)})\(\s*r,", source))
    if not found or len(found) < registered:
        sys.exit(f"{METRICS} has {registered} registrations, and {len(found)} could be read: mend {__file__}")
    return found | {name: (kind, []) for name, kind in FOREIGN.items()}


def exposed(known):
    """Series name -> labels, as a scrape brings them."""
    out = {}
    for name, (kind, labels) in known.items():
        labels = {*labels, "job", "instance"}
        if kind == "histogram":
            out |= {f"{name}_bucket": labels | {"le"}, f"{name}_sum": labels, f"{name}_count": labels}
        else:
            out[name] = labels
    return out


def written_rules():
    """(where, expression, recorded name) of rules.yml and alerts.yml; of YAML only what these files use."""
    for file in ("rules.yml", "alerts.yml"):
        name = record = None
        lines = (HERE / file).read_text().splitlines()
        for at, line in enumerate(lines):
            if match := re.match(r"\s+- (record|alert): (\S+)", line):
                name, record = match[2], match[2] if match[1] == "record" else None
            elif match := re.match(r"(\s+)expr: (.*)", line):
                deeper = itertools.takewhile(lambda next: not next.strip() or next.startswith(match[1] + " "),
                                             lines[at + 1:])
                expression = "\n".join(deeper) if match[2] == "|" else match[2]
                yield f"{file}:{at + 1} {name}", expression, record


def board_queries():
    """(where, expression) of every panel, variables replaced by what they stand for."""
    for panel in json.loads(BOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            query = target["expr"]
            for variable, value in {"$__rate_interval": "5m", "$job": ".*", "$instance": ".*"}.items():
                query = query.replace(variable, value)
            yield f"board, panel {panel['title']} ({target['refId']})", query


def names(query):
    """(metrics, labels) that a query names."""
    text = r'"(?:[^"\\]|\\.)*"'
    labels = {label for group in re.findall(r"\b(?:by|without|on|ignoring|group_left|group_right) ?\(([^)]*)\)", query)
              for label in re.findall(r"\w+", group)}
    labels |= {label for group in re.findall(rf"\{{((?:{text}|[^{{}}\"])*)\}}", query)
               for label in re.findall(rf"(\w+)\s*[=!]~?\s*{text}", group)}
    bare = re.sub(r"\b(?:by|without|on|ignoring|group_left|group_right) ?\([^)]*\)", " ", query)
    bare = re.sub(rf"\{{(?:{text}|[^{{}}\"])*\}}|\[[^]]*\]|\boffset \w+|{text}", " ", bare)
    return set(re.findall(r"[a-zA-Z_:][\w:]*", bare)) - PROMQL, labels


def unknown_names(queries, series):
    recorded = {}
    for where, query, record in queries:
        used, labels = names(query)
        allowed = set().union(*({*series.get(name, ()), *recorded.get(name, ())} for name in used))
        for name in sorted(used - series.keys() - recorded.keys()):
            yield f"{where}: {name} is not in {METRICS.name}"
        for label in sorted(labels - allowed):
            yield f"{where}: no metric in it has a label {label}"
        if record:
            recorded[record] = allowed


def sample_series(known):
    """Input series for promtool, as a test's YAML (JSON is YAML)."""
    for name, (kind, labels) in known.items():
        sets = [dict(zip(labels, values)) for values in
                itertools.product(*(WORDS.get(label, ["some"]) for label in labels))]
        for labels_of_one in sets:
            every = {"job": "wardline", "instance": "one:9787", **labels_of_one}
            rising, level = "0+3x30", "1+0x30"
            if kind == "histogram":
                for le in ("0.01", "1", "+Inf"):
                    yield one(f"{name}_bucket", {**every, "le": le}, rising)
                yield one(f"{name}_sum", every, rising)
                yield one(f"{name}_count", every, rising)
            else:
                yield one(name, every, rising if kind == "counter" else level)


def one(name, labels, values):
    inner = ", ".join(f'{label}="{value}"' for label, value in labels.items())
    return {"series": f"{name}{{{inner}}}", "values": values}


def promtool(verb, content):
    with tempfile.TemporaryDirectory() as place:
        file = pathlib.Path(place) / "board.yml"
        file.write_text(json.dumps(content))
        done = subprocess.run(["promtool", *verb, str(file)], capture_output=True, text=True)
        return [] if done.returncode == 0 else (done.stdout + done.stderr).strip().splitlines()


def board_faults(known):
    queries = list(board_queries())
    rules = [{"record": f"board:query_{n}", "expr": query} for n, (_, query) in enumerate(queries)]
    faults = promtool(["check", "rules"], {"groups": [{"name": "board", "rules": rules}]})
    if faults:
        return faults
    tests = [{"expr": f"count({query}) > bool 0", "eval_time": "20m", "exp_samples": [{"labels": "{}", "value": 1}]}
             for _, query in queries]
    return promtool(["test", "rules"], {"evaluation_interval": "1m", "tests": [
        {"interval": "1m", "input_series": list(sample_series(known)), "promql_expr_test": tests}]})


def untested_alerts():
    alerts = re.findall(r"- alert: (\S+)", (HERE / "alerts.yml").read_text())
    tests = re.findall(r"alertname: (\w+),?\s+exp_alerts:( \[\])?", (HERE / "tests.yml").read_text())
    for alert in alerts:
        if (alert, "") not in tests:
            yield f"tests.yml: {alert} never fires"
        if (alert, " []") not in tests:
            yield f"tests.yml: {alert} is never silent"


def main():
    known = metrics()
    queries = [*written_rules(), *((where, query, None) for where, query in board_queries())]
    faults = [*unknown_names(queries, exposed(known)), *board_faults(known), *untested_alerts()]
    for fault in faults:
        print(fault)
    if faults:
        sys.exit(1)
    used = set().union(*(names(query)[0] for _, query, _ in queries))
    unseen = sorted(name for name in known if name not in FOREIGN
                    and not used & {name, f"{name}_bucket", f"{name}_sum", f"{name}_count"})
    print(f"{len(queries)} queries over {len(known) - len(FOREIGN)} metrics"
          + (f"; on no panel and in no rule: {', '.join(unseen)}" if unseen else ""))


if __name__ == "__main__":
    main()
