"""Keys that another program holds, one per line on standard input.

The Python client must not acquire any of them on the same servers.
"""

import sys

from cases import main
from cluster import Cluster, Kind, invoke


async def check_held(client: str, key: str) -> None:
    assert not await invoke(cluster.handle(Kind(client, None), key, acquire_timeout_s=0).acquire)
    assert not await invoke(cluster.handle(Kind(client, 3), key, acquire_timeout_s=0).acquire)


cluster = Cluster.of(Cluster.arguments().parse_args())
keys = sys.stdin.read().splitlines()
main({
    f"{client}: {key} is held": lambda client=client, key=key: check_held(client, key)
    for client in ("sync", "async")
    for key in keys
})
