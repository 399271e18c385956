"""A Ray cluster of two nodes on this machine, in a process of its own: told by its input, it tells of itself in lines.

It ends with its input, so that whoever started it leaves nothing behind.
"""

from __future__ import annotations

import json
import socket
import sys
from typing import Any

MEMORY = 100 * 1024 * 1024
QUICK = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_failure_threshold": 5,
}
"""How soon Ray takes a node for dead, which is later by default."""


def main() -> None:
    from ray.cluster_utils import Cluster

    with socket.socket() as free:
        free.bind(("127.0.0.2", 0))
        port = free.getsockname()[1]
    head = {
        "num_cpus": 1,
        "node_ip_address": "127.0.0.2",
        "ray_client_server_port": port,
        "include_dashboard": False,
        "object_store_memory": MEMORY,
        "_system_config": QUICK,
    }
    cluster = Cluster(initialize_head=True, head_node_args=head)
    second: Any = None
    try:
        while True:
            if second is None:
                second = cluster.add_node(num_cpus=1, node_ip_address="127.0.0.2", object_store_memory=MEMORY)
            raylet = second.all_processes["raylet"][0].process.pid
            print(json.dumps({"address": f"ray://127.0.0.2:{port}", "raylet": raylet}), flush=True)
            if not sys.stdin.readline():
                return
            cluster.remove_node(second, allow_graceful=False)  # SIGKILL for all its processes
            print(json.dumps({"killed": raylet}), flush=True)
            sys.stdin.readline()
            second = None
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
