"""Limits of a server that was started with --max-locks KEYS and --max-waiters 1."""

from functools import partial
from typing import Any

import dflockd_client as dflockd
from cases import main
from cluster import Cluster, Kind, invoke


async def check_refused(why: type[Exception], call: Any, *args: Any, **options: Any) -> None:
    try:
        await invoke(call, *args, **options)
    except why:
        return
    raise AssertionError("not refused")


# Covers N7, too: with that many keys the reply is larger than 64 KiB.
async def key_and_waiter_limits_are_enforced(client: str) -> None:
    kind = Kind(client, None)
    conn, module = await cluster.connect(kind, "any"), kind.module
    # Both clients take turns and fill the server with the same keys.
    for number in range(args.keys):
        await invoke(module.acquire, conn, f"key-{number}", 10)
    stats = await invoke(module.stats, conn)
    assert len(stats["locks"]) == args.keys
    await check_refused(dflockd.MaxLocksError, module.acquire, conn, "one-more", 0)
    await check_refused(dflockd.MaxLocksError, module.enqueue, conn, "one-more")
    last_key = f"key-{args.keys - 1}"
    first, second = cluster.handle(kind, last_key), cluster.handle(kind, last_key)
    assert await invoke(first.enqueue) == "queued"
    await check_refused(dflockd.MaxWaitersError, second.enqueue)
    await check_refused(dflockd.MaxWaitersError, second.acquire)
    assert not await invoke(first.wait, 0)
    await invoke(conn.close)


parser = Cluster.arguments()
parser.add_argument("--keys", type=int, required=True)
args = parser.parse_args()
cluster = Cluster.of(args)
main({
    f"{client}: key and waiter limits are enforced": partial(
        key_and_waiter_limits_are_enforced, client
    )
    for client in ("sync", "async")
})
