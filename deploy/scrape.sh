#!/usr/bin/env bash
# A real Prometheus against a real gateway: starts the demo, runs scrape_test.py against it, stops the demo.
#   usage: deploy/scrape.sh target/release/wardline
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
binary=$(realpath "${1:?usage: $0 BINARY}")
cd "$here/.."
work=$(mktemp -d)
read -r data admin < <(python3 -c '
import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(s.getsockname()[1] for s in sockets))')
sed -e "s/^listen: .*/listen: 127.0.0.1:$data/" -e "s/^admin: .*/admin: 127.0.0.1:$admin/" \
    -e "s|dir: policies|dir: $PWD/policies|" -e "s|dir: models|dir: $PWD/models|" wardline.yaml >"$work/wardline.yaml"
"$binary" demo --config "$work/wardline.yaml" >"$work/log" 2>&1 &
demo=$!
trap 'kill "$demo" 2>/dev/null || true; wait "$demo" 2>/dev/null || true; rm -rf "$work"' EXIT
for _ in $(seq 100); do
  "$binary" health --admin "127.0.0.1:$admin" 2>/dev/null && break
  kill -0 "$demo" 2>/dev/null || { cat "$work/log" >&2; exit 1; }
  sleep 0.1
done
python3 deploy/scrape_test.py --admin "127.0.0.1:$admin" --data "127.0.0.1:$data"
