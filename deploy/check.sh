#!/bin/sh
# Checks everything under deploy/ that can be checked without a gateway: scrape config, rules, alerts, board.
# Needs promtool (Debian: apt-get install prometheus) and Python 3. Starts no service; says what failed and exits 1.
set -u
cd "$(dirname "$0")" || exit 1

command -v promtool >/dev/null || {
    echo "deploy/check.sh: there is no promtool (Debian: apt-get install --no-install-recommends prometheus)" >&2
    exit 1
}

failed=0
check() {
    what=$1
    shift
    if said=$("$@" 2>&1); then
        last=$(printf '%s\n' "$said" | sed '/^[[:space:]]*$/d' | tail -n 1 | sed 's/^[[:space:]]*//')
        printf 'ok      %s%s\n' "$what" "${last:+ ($last)}"
    else
        printf 'FAILED  %s\n%s\n' "$what" "$said"
        failed=1
    fi
}

check "scrape config and the rules it loads" promtool check config prometheus/prometheus.yml
check "each alert fires and stays silent" promtool test rules prometheus/tests.yml
check "board is what board.py writes" python3 grafana/board.py --check
check "names and queries against src/telemetry/metrics.rs" python3 prometheus/check.py
exit $failed
