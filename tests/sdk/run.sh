#!/usr/bin/env bash
# The official SDKs, Python and Node, against the built binary. `make sdk-test` calls this.
#   WARDLINE_BIN   the binary; else target/release/wardline, else target/debug/wardline
# Packages go to .venv/sdk and .venv/node, pinned, and are fetched again only when the pins change.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)
venv=$repo/.venv/sdk
modules=$repo/.venv/node
export PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 SDK_TEST_NODE=$modules

if ! cmp -s "$here/requirements.txt" "$venv/requirements.txt"; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --requirement "$here/requirements.txt"
  cp "$here/requirements.txt" "$venv/requirements.txt"
fi

if ! cmp -s "$here/package-lock.json" "$modules/package-lock.json" || [ ! -e "$modules/.whole" ]; then
  rm -rf "$modules"
  mkdir -p "$modules"
  cp "$here/package.json" "$here/package-lock.json" "$modules/"
  npm ci --prefix "$modules" --ignore-scripts --no-audit --no-fund --silent
  touch "$modules/.whole"
fi

# What a user's shell says about providers is not for the tests.
unset OPENAI_BASE_URL OPENAI_API_KEY OPENAI_ORG_ID OPENAI_PROJECT_ID ANTHROPIC_BASE_URL ANTHROPIC_API_KEY ANTHROPIC_AUTH_TOKEN

python=$venv/bin/python
PYTHONPATH=$here "$python" -c 'import gateway; print("Binary:", gateway.binary())'
"$python" -c 'import sys, openai, anthropic
print(f"Python {sys.version.split()[0]}: openai {openai.__version__}, anthropic {anthropic.__version__}")'
node -e 'const at = (name) => require(`${process.env.SDK_TEST_NODE}/node_modules/${name}/package.json`).version
console.log(`Node ${process.versions.node}: openai ${at("openai")}, @anthropic-ai/sdk ${at("@anthropic-ai/sdk")}`)'

failed=0
"$python" -m pytest -q --rootdir "$here" "$here" || failed=1
"$python" "$here/with_gateways.py" node --test --test-reporter=spec "$here"/node/*.test.mjs || failed=1
exit $failed
