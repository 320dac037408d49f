"""Keys that another program holds, one a line on the standard input: each is refused to the Python client on the same servers."""

import sys

from cases import main
from fleet import Fleet, Kind, do


async def is_held(client: str, key: str) -> None:
    assert not await do(fleet.handle(Kind(client, None), key, acquire_timeout_s=0).acquire)
    assert not await do(fleet.handle(Kind(client, 3), key, acquire_timeout_s=0).acquire)


fleet = Fleet.of(Fleet.arguments().parse_args())
keys = sys.stdin.read().splitlines()
main({
    f"{client}: {key} is held": lambda client=client, key=key: is_held(client, key)
    for client in ("sync", "async")
    for key in keys
})
