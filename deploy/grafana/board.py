#!/usr/bin/env python3
"""Writes dashboards/wardline.json, the Grafana board over src/telemetry/metrics.rs.

    board.py            write it
    board.py --check    exit 1 if what lies there is not what this script would write

Edit this file, never the JSON. Only the standard library is used.
"""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
BOARD = HERE / "dashboards" / "wardline.json"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH, HEIGHT = 24, 8


def series(name, matchers=""):
    """A selector that holds to the board's variables."""
    mine = 'job=~"$job", instance=~"$instance"'
    return f"{name}{{{mine}, {matchers}}}" if matchers else f"{name}{{{mine}}}"


def rate(name, by, matchers=""):
    return f"sum by ({by}) (rate({series(name, matchers)}[$__rate_interval]))"


def quantile(q, name, by="", matchers=""):
    by = f"{by}, le" if by else "le"
    return f"histogram_quantile({q}, {rate(name + '_bucket', by, matchers)})"


def p50_p99(name, by="", legend=""):
    legend = f" {legend}" if legend else ""
    return [(quantile(0.5, name, by), f"p50{legend}"), (quantile(0.99, name, by), f"p99{legend}")]


def rows():
    """The board, top to bottom: (row, [(title, description, unit, [(query, legend)], kind)])."""
    blocked = rate("wardline_guard_decisions_total", "job", 'action="block", mode="enforce"')
    requests = rate("wardline_http_requests_total", "job")
    failed_open = series("wardline_guard_failures_total", 'disposition="open"')
    return [
        ("Traffic", [
            ("Requests", "Requests answered, by status code.", "reqps",
             [(rate("wardline_http_requests_total", "code"), "{{code}}")], "timeseries"),
            ("In flight", "Requests under way at the moment of the scrape.", "short",
             [(f"sum by (route) ({series('wardline_http_inflight_requests')})", "{{route}}")], "timeseries"),
            ("Request duration", "Request received to last byte sent, as the client sees it.", "s",
             p50_p99("gen_ai_server_request_duration_seconds", "gen_ai_request_model", "{{gen_ai_request_model}}"),
             "timeseries"),
            ("Time to first token", "Request received to first answer bytes released, guards included.", "s",
             p50_p99("gen_ai_server_time_to_first_token_seconds", "gen_ai_request_model", "{{gen_ai_request_model}}"),
             "timeseries"),
            ("Tokens", "Tokens a second, as the providers count them.", "short",
             [(rate("gen_ai_client_token_usage_sum", "gen_ai_token_type"), "{{gen_ai_token_type}}")], "timeseries"),
            ("Refused as unreadable", "Requests refused because they could not be read strictly.", "reqps",
             [(rate("wardline_unscannable_requests_total", "route, reason"), "{{route}} {{reason}}")], "timeseries"),
        ]),
        ("Guards", [
            ("Decisions by action", "What rules decided; shadow rules are counted and not enforced.", "ops",
             [(rate("wardline_guard_decisions_total", "action, mode"), "{{action}} {{mode}}")], "timeseries"),
            ("Decisions by rule", "Decisions other than allow, by rule.", "ops",
             [(rate("wardline_guard_decisions_total", "policy, rule, stage, action", 'action!="allow"'),
               "{{policy}} {{rule}} {{stage}} {{action}}")], "timeseries"),
            ("Blocks per request", "Enforced blocks for each request; two rules that block one request count twice.",
             "percentunit", [(f"{blocked} / ({requests} > 0)", "{{job}}")], "timeseries"),
            ("Guard latency", "One guard on one text.", "s",
             p50_p99("wardline_guard_eval_duration_seconds", "guard, stage", "{{guard}} {{stage}}"), "timeseries"),
            ("Failures", "Guards that could not decide. open: the request passed unjudged; closed: it was refused.",
             "ops", [(rate("wardline_guard_failures_total", "guard, reason, disposition"),
                      "{{guard}} {{reason}} {{disposition}}")], "timeseries"),
            ("Added time by stage", "p99 of the time that the gateway itself added.", "s",
             [(quantile(0.99, "wardline_overhead_duration_seconds", "stage"), "p99 {{stage}}"),
              (quantile(0.5, "wardline_overhead_duration_seconds", "stage"), "p50 {{stage}}")], "timeseries"),
            ("Unscanned bytes", "Guarded text that went on without a scan. Must stay 0; no data means 0.", "bytes",
             [(f"sum({series('wardline_unscanned_bytes_total')}) or vector(0)", "bytes")], "stat"),
            ("Truncated texts", "Texts that were scored only in part. Must stay 0.", "short",
             [(f"sum({series('wardline_classifier_truncated_inputs_total')}) or vector(0)", "texts")], "stat"),
            ("Failed open, 24 h", "Times that a guard could not decide and the request passed unjudged.", "short",
             [(f"sum(increase({failed_open}[24h])) or vector(0)", "passes")], "stat"),
        ]),
        ("Normaliser, ledger and race", [
            ("Normalised texts", "Texts that were also judged in a normalised form, by what was undone.", "ops",
             [(rate("wardline_normalised_views_total", "kind"), "{{kind}}")], "timeseries"),
            ("First stage", "Texts by what the classifier's cheap first stage said; disagreed: audited ones that were no harmless texts.", "ops",
             [(rate("wardline_cascade_texts_total", "outcome"), "{{outcome}}")], "timeseries"),
            ("Ledger lookups", "Texts of prompts whose verdict was looked for in the ledger.", "ops",
             [(rate("wardline_ledger_lookups_total", "outcome"), "{{outcome}}")], "timeseries"),
            ("Ledger memory", "Memory that the ledger of verdicts takes.", "bytes",
             [(f"sum by (instance) ({series('wardline_ledger_bytes')})", "{{instance}}")], "timeseries"),
            ("Replayed blocks", "Texts that had been blocked before and came again, by what was done.", "ops",
             [(rate("wardline_replayed_blocks_total", "action"), "{{action}}")], "timeseries"),
            ("Hidden by the race", "Time of a prompt's verdict that the upstream's first bytes took as well.", "s",
             p50_p99("wardline_race_hidden_duration_seconds", "route", "{{route}}"), "timeseries"),
            ("Wasted calls", "Upstream calls that had begun when the prompt's verdict ended them.", "ops",
             [(rate("wardline_race_wasted_calls_total", "route"), "{{route}}")], "timeseries"),
        ]),
        ("Classifier", [
            ("Queue depth", "Texts waiting for a worker.", "short",
             [(f"sum by (model) ({series('wardline_classifier_queue_depth')})", "{{model}}")], "timeseries"),
            ("Wait for a worker", "How long texts waited.", "s",
             p50_p99("wardline_classifier_queue_duration_seconds", "model", "{{model}}"), "timeseries"),
            ("Inference", "One run of the model.", "s",
             p50_p99("wardline_classifier_inference_duration_seconds", "model, device", "{{model}} {{device}}"),
             "timeseries"),
            ("Tokenization", "Cutting one text into tokens.", "s",
             p50_p99("wardline_classifier_tokenize_duration_seconds", "model", "{{model}}"), "timeseries"),
            ("Work a run", "Average windows and tokens in one run of the model, padding counted.", "short",
             [(f"{rate('wardline_classifier_batch_size_sum', 'model')} / "
               f"{rate('wardline_classifier_batch_size_count', 'model')}", "windows {{model}}"),
              (f"{rate('wardline_classifier_batch_tokens_sum', 'model')} / "
               f"{rate('wardline_classifier_batch_tokens_count', 'model')}", "tokens {{model}}")], "timeseries"),
            ("Exchanges", "Attempts to serve another classifier, by outcome; after a refused one the old one serves on.", "ops",
             [(rate("wardline_classifier_exchanges_total", "outcome"), "{{outcome}}")], "timeseries"),
            ("Exchange refused", "Instances that refused the classifier that they found last.", "short",
             [(f"sum({series('wardline_classifier_last_exchange_successful')} == bool 0)", "instances")], "stat"),
            ("Servers of classifiers", "1: the last call was answered; 0: nobody was there, or it was late or busy.", "short",
             [(f"min by (model) ({series('wardline_classifier_server_up')})", "{{model}}")], "timeseries"),
            ("Devices", "Which device serves which model, by number of instances.", "short",
             [(f"count by (model, revision, device) ({series('wardline_classifier_info')})",
               "{{model}} {{revision}} on {{device}}")], "stat"),
            ("Fallbacks", "Instances on which a slower device serves than the one that was wanted.", "short",
             [(f"sum by (model, wanted) ({series('wardline_classifier_fallback')})", "{{model}} without {{wanted}}")], "stat"),
        ]),
        ("Streams", [
            ("How streams end", "Ends of streams by reason.", "ops",
             [(rate("wardline_stream_terminations_total", "reason"), "{{reason}}")], "timeseries"),
            ("Hold time", "How long answer text was held before its release.", "s",
             p50_p99("wardline_stream_hold_duration_seconds", "route", "{{route}}"), "timeseries"),
            ("Held back now", "Answer bytes that wait for their verdict.", "bytes",
             [(f"sum by (route) ({series('wardline_stream_held_bytes')})", "{{route}}")], "timeseries"),
        ]),
        ("Revision", [
            ("Outcomes", "How critique and revision ended.", "ops",
             [(rate("wardline_revision_outcomes_total", "policy, outcome"), "{{policy}} {{outcome}}")], "timeseries"),
            ("Duration", "Critique and revision of one answer.", "s",
             p50_p99("wardline_revision_duration_seconds", "policy", "{{policy}}"), "timeseries"),
            ("Second answers", "Second answers that were drawn and judged against the first, by what came of it.", "ops",
             [(rate("wardline_comparisons_total", "policy, outcome"), "{{policy}} {{outcome}}")], "timeseries"),
            ("Second answers, duration", "A second answer and its judgement, off the request's way.", "s",
             p50_p99("wardline_comparison_duration_seconds", "policy", "{{policy}}"), "timeseries"),
            ("Tokens", "Tokens a second that critiques, revisions and comparisons cost; clients are not told of them.", "short",
             [(rate("wardline_revision_tokens_total", "policy, role, type"), "{{policy}} {{role}} {{type}}")],
             "timeseries"),
        ]),
        ("Preference pairs", [
            ("Rows", "Rows handed to the sink, and rows lost by reason.", "ops",
             [(rate("wardline_pairs_sampled_total", "sink"), "sampled {{sink}}"),
              (rate("wardline_pairs_dropped_total", "sink, reason"), "lost {{sink}} {{reason}}")], "timeseries"),
            ("Capped", "Rows not made because their principle (or rule), user or client has left enough today.", "ops",
             [(rate("wardline_pairs_capped_total", "policy, principle, cap"), "{{policy}} {{principle}} ({{cap}})")],
             "timeseries"),
            ("Expired", "Rows deleted for their age; those that a sink still lacked are lost.", "ops",
             [(rate("wardline_pairs_expired_rows_total", "state"), "{{state}}")], "timeseries"),
            ("Feedback", "What people say of answers, and what is refused.", "ops",
             [(rate("wardline_feedback_total", "event, status"), "{{event}} {{status}}"),
              (rate("wardline_feedback_refused_total", "reason"), "refused: {{reason}}")], "timeseries"),
            ("Exchanges to rate", "Exchanges kept for feedback, and those given up early for want of room.", "short",
             [(f"sum by (instance) ({series('wardline_feedback_exchanges')})", "{{instance}}"),
              (rate("wardline_feedback_crowded_out_total", "instance"), "{{instance}} given up a second")], "timeseries"),
            ("Memory of them", "What these exchanges take; the bound is pairs.feedback.memory_bytes.", "bytes",
             [(f"sum by (instance) ({series('wardline_feedback_exchange_bytes')})", "{{instance}}")], "timeseries"),
            ("Not yet on disk", "Rows in the queue.", "short",
             [(f"sum by (instance) ({series('wardline_pairs_buffer_rows')})", "{{instance}}")], "timeseries"),
            ("Not yet synced", "Rows written that the disk has not been told to keep: what a power cut would cost.", "short",
             [(f"sum by (instance) ({series('wardline_pairs_unsynced_rows')})", "{{instance}}")], "timeseries"),
            ("Shipped", "Rows that sinks have confirmed.", "ops",
             [(rate("wardline_pairs_shipped_rows_total", "sink"), "{{sink}}")], "timeseries"),
            ("Shipped bytes", "Bytes that sinks have confirmed, as they were sent.", "Bps",
             [(rate("wardline_pairs_shipped_bytes_total", "sink"), "{{sink}}")], "timeseries"),
            ("Failed attempts to ship", "Each is made again; rows wait in the spool.", "ops",
             [(rate("wardline_pairs_ship_failures_total", "sink, reason"), "{{sink}} {{reason}}")], "timeseries"),
            ("Unshipped", "Bytes of the spool that a sink does not have yet.", "bytes",
             [(f"sum by (instance, sink) ({series('wardline_pairs_unshipped_bytes')})", "{{instance}} {{sink}}")],
             "timeseries"),
            ("Oldest unshipped row", "Its age; no data when a sink has all.", "s",
             [("time() - min by (instance, sink) "
               f"({series('wardline_pairs_oldest_unshipped_timestamp_seconds')} > 0)", "{{instance}} {{sink}}")],
             "timeseries"),
            ("Since last flush", "Time since rows last reached the disk; no data before the first.", "s",
             [(f"time() - max by (instance) ({series('wardline_pairs_last_flush_timestamp_seconds')} > 0)",
               "{{instance}}")], "stat"),
        ]),
        ("Upstream", [
            ("Answers", "Answers by upstream and status code.", "reqps",
             [(rate("wardline_upstream_requests_total", "upstream, code"), "{{upstream}} {{code}}")], "timeseries"),
            ("No answer", "Calls that brought no answer, by cause.", "reqps",
             [(rate("wardline_upstream_errors_total", "upstream, error_type"), "{{upstream}} {{error_type}}")],
             "timeseries"),
            ("Call duration", "First byte sent to last byte read.", "s",
             p50_p99("gen_ai_client_operation_duration_seconds", "gen_ai_provider_name", "{{gen_ai_provider_name}}"),
             "timeseries"),
            ("Client retries", "Requests that an SDK marked as its own retry.", "reqps",
             [(rate("wardline_client_retries_total", "sdk"), "{{sdk}}")], "timeseries"),
        ]),
        ("Policy and process", [
            ("Revision in force", "Policy revisions and how many instances enforce each.", "short",
             [(f"count by (policy, revision) ({series('wardline_policy_info')})", "{{policy}} {{revision}}")], "stat"),
            ("Last reload taken", "When a policy reload was last taken.", "dateTimeFromNow",
             [(f"1000 * max by (instance) ({series('wardline_config_last_reload_success_timestamp_seconds')})",
               "{{instance}}")], "stat"),
            ("Reloads refused", "Instances whose last reload was refused; the earlier policy stays in force.", "short",
             [(f"sum({series('wardline_config_last_reload_successful')} == bool 0)", "instances")], "stat"),
            ("Ready", "Instances that take traffic.", "short",
             [(f"sum({series('wardline_ready')})", "instances")], "stat"),
            ("Reloads", "Policy reloads by result.", "ops",
             [(rate("wardline_config_reloads_total", "result"), "{{result}}")], "timeseries"),
            ("Policy tests", "Embedded tests run when policies were loaded, by result.", "short",
             [(f"sum by (policy, result) ({series('wardline_policy_tests_total')})", "{{policy}} {{result}}")],
             "timeseries"),
            ("Tenants", "Requests by tenant and outcome, where `tenants.metrics` is set.", "reqps",
             [(rate("wardline_tenant_requests_total", "tenant, outcome"), "{{tenant}} {{outcome}}")], "timeseries"),
            ("Roll-out share", "Requests whose policy is being rolled out, by whether they are in the share.", "reqps",
             [(rate("wardline_rollout_requests_total", "candidate, mode, share"), "{{candidate}} {{mode}} {{share}}")],
             "timeseries"),
            ("Roll-out decisions", "What the old and the new policy decide on the same texts.", "ops",
             [(rate("wardline_rollout_decisions_total", "candidate, stage, old, new"),
               "{{candidate}} {{stage}}: {{old}} to {{new}}")], "timeseries"),
            ("Roll-out cases and losses", "Differing cases kept or not, and comparisons that were not made.", "ops",
             [(rate("wardline_rollout_cases_total", "outcome"), "cases {{outcome}}"),
              (rate("wardline_rollout_dropped_total", "policy, reason"), "{{policy}} not compared: {{reason}}")],
             "timeseries"),
            ("CPU", "CPU seconds a second.", "short",
             [(rate("process_cpu_seconds_total", "instance"), "{{instance}}")], "timeseries"),
            ("Memory", "Resident memory.", "bytes",
             [(f"sum by (instance) ({series('process_resident_memory_bytes')})", "{{instance}}")], "timeseries"),
            ("Versions", "Versions that run, by number of instances.", "short",
             [(f"count by (version) ({series('wardline_build_info')})", "{{version}}")], "stat"),
        ]),
    ]


def panel(number, place, title, description, unit, queries, kind):
    options = {
        "timeseries": {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
                       "tooltip": {"mode": "multi", "sort": "desc"}},
        "stat": {"colorMode": "none", "graphMode": "none", "textMode": "auto",
                 "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}},
    }[kind]
    return {
        "id": number,
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0} if kind == "timeseries" else {"unit": unit},
                        "overrides": []},
        "options": options,
        "targets": [{"datasource": DATASOURCE, "expr": query, "legendFormat": legend, "refId": chr(ord("A") + n)}
                    for n, (query, legend) in enumerate(queries)],
    }


def panels():
    """Rows of up to three panels side by side."""
    out, top = [], 0
    for row, contents in rows():
        out.append({"id": len(out) + 1, "type": "row", "title": row, "collapsed": False, "panels": [],
                    "gridPos": {"x": 0, "y": top, "w": WIDTH, "h": 1}})
        top += 1
        for first in range(0, len(contents), 3):
            line = contents[first:first + 3]
            width = WIDTH // len(line)
            height = HEIGHT if any(kind == "timeseries" for *_, kind in line) else HEIGHT // 2
            for n, content in enumerate(line):
                out.append(panel(len(out) + 1, {"x": n * width, "y": top, "w": width, "h": height}, *content))
            top += height
    return out


def variable(name, label, query):
    return {"name": name, "label": label, "type": "query", "datasource": DATASOURCE, "definition": query,
            "query": {"query": query, "refId": name}, "includeAll": True, "allValue": ".+", "multi": True,
            "current": {"text": ["All"], "value": ["$__all"]}, "refresh": 2, "sort": 1, "hide": 0}


def board():
    return {
        "uid": "wardline",
        "title": "Wardline",
        "description": "Guardrail gateway: traffic, decisions, classifier, streams, revision, pairs, upstreams, policy.",
        "tags": ["wardline", "llm", "guardrails"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "",
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": [
            {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1,
             "hide": 0, "includeAll": False, "multi": False, "current": {}},
            variable("job", "Job", "label_values(wardline_build_info, job)"),
            variable("instance", "Instance", 'label_values(wardline_build_info{job=~"$job"}, instance)'),
        ]},
        "panels": panels(),
    }


def main():
    text = json.dumps(board(), indent=2) + "\n"
    if sys.argv[1:] == ["--check"]:
        if not BOARD.exists() or BOARD.read_text() != text:
            sys.exit(f"{BOARD} is out of date: run {sys.argv[0]}")
        return
    if sys.argv[1:]:
        sys.exit(__doc__)
    BOARD.write_text(text)


if __name__ == "__main__":
    main()
