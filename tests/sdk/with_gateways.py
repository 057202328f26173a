"""Starts the scripted upstream and one gateway a policy, runs a command that finds them in SDK_TEST_WORLD, stops all.

    python with_gateways.py node --test node/*.test.mjs
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack

from gateway import POLICIES, Gateway
from upstream import Upstream


def main(command: list[str]) -> int:
    with ExitStack() as stack:
        upstream = Upstream().start()
        stack.callback(upstream.stop)
        world = {"upstream": upstream.url}
        for policy in POLICIES:
            gateway = Gateway(policy, upstream.url).start()
            stack.callback(gateway.stop)
            world[policy] = {"url": gateway.url, "admin": gateway.admin, "pairs": str(gateway.dir / "pairs")}
        return subprocess.run(command, env={**os.environ, "SDK_TEST_WORLD": json.dumps(world)}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
