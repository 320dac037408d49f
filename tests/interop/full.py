"""A server that is full: started with --max-locks KEYS and --max-waiters 1."""

from typing import Any

import dflockd_client as dflockd
from cases import main
from fleet import Fleet, Kind, do


async def is_refused(why: type[Exception], call: Any, *args: Any, **options: Any) -> None:
    try:
        await do(call, *args, **options)
    except why:
        return
    raise AssertionError("it was not refused")


# N7 too: as many keys make a reply of more than 64 KiB
async def keys_and_waiters_have_an_end(client: str) -> None:
    kind = Kind(client, None)
    conn, module = await fleet.connect(kind, "any"), kind.module
    # the clients take turns: both fill the server with the same keys
    for number in range(args.keys):
        await do(module.acquire, conn, f"key-{number}", 10)
    stats = await do(module.stats, conn)
    assert len(stats["locks"]) == args.keys
    await is_refused(dflockd.MaxLocksError, module.acquire, conn, "one-more", 0)
    await is_refused(dflockd.MaxLocksError, module.enqueue, conn, "one-more")
    first, second = fleet.handle(kind, f"key-{args.keys - 1}"), fleet.handle(kind, f"key-{args.keys - 1}")
    assert await do(first.enqueue) == "queued"
    await is_refused(dflockd.MaxWaitersError, second.enqueue)
    await is_refused(dflockd.MaxWaitersError, second.acquire)
    assert not await do(first.wait, 0)
    await do(conn.close)


parser = Fleet.arguments()
parser.add_argument("--keys", type=int, required=True)
args = parser.parse_args()
fleet = Fleet.of(args)
main({
    f"{client}: keys and waiters have an end": lambda client=client: keys_and_waiters_have_an_end(client)
    for client in ("sync", "async")
})
