"""What the Python client can do, sync and async, lock and semaphore, each on any number of servers."""

import asyncio
from typing import Any

import dflockd_client as dflockd
from cases import main
from fleet import KINDS, Fleet, Kind, do


async def fill(fleet: Fleet, kind: Kind, key: str, **options: Any) -> list[Any]:
    """Holds every slot of `key`."""
    holders = [fleet.handle(kind, key, **options) for _ in range(kind.slots)]
    for holder in holders:
        assert await do(holder.acquire)
    return holders


async def holds_and_releases(fleet: Fleet, kind: Kind, key: str) -> None:
    holder = fleet.handle(kind, key)
    assert await do(holder.acquire)
    assert len(holder.token) == 32 and holder.lease == 33
    assert await fleet.counts(kind, key) == (1, 0)
    assert await do(holder.release)
    assert await fleet.counts(kind, key) == (0, 0)


async def takes_a_key_of_any_script(fleet: Fleet, kind: Kind, key: str) -> None:
    await holds_and_releases(fleet, kind, f"{key}/clé-鍵-🔑")


async def no_more_than_the_limit_hold(fleet: Fleet, kind: Kind, key: str) -> None:
    holders = await fill(fleet, kind, key)
    rival = fleet.handle(kind, key, acquire_timeout_s=0)
    assert not await do(rival.acquire)
    assert await do(holders[0].release)
    assert await do(rival.acquire)
    for holder in [rival, *holders[1:]]:
        assert await do(holder.release)


async def waits_in_line(fleet: Fleet, kind: Kind, key: str) -> None:
    holders = await fill(fleet, kind, key)
    rival = fleet.handle(kind, key)
    waiting = asyncio.create_task(do(rival.acquire))
    await fleet.until(kind, key, (kind.slots, 1))
    assert await do(holders[0].release)
    assert await waiting
    for holder in [rival, *holders[1:]]:
        assert await do(holder.release)


async def enqueues_and_holds_at_once(fleet: Fleet, kind: Kind, key: str) -> None:
    holder = fleet.handle(kind, key)
    assert await do(holder.enqueue) == "acquired"
    assert await do(holder.wait)
    assert await do(holder.release)


async def enqueues_and_waits(fleet: Fleet, kind: Kind, key: str) -> None:
    holders = await fill(fleet, kind, key)
    rival = fleet.handle(kind, key)
    assert await do(rival.enqueue) == "queued"
    assert await do(holders[0].release)
    assert await do(rival.wait, 10)
    for holder in [rival, *holders[1:]]:
        assert await do(holder.release)


async def a_wait_in_vain_leaves_the_line(fleet: Fleet, kind: Kind, key: str) -> None:
    holders = await fill(fleet, kind, key)
    rival = fleet.handle(kind, key)
    assert await do(rival.enqueue) == "queued"
    assert await fleet.counts(kind, key) == (kind.slots, 1)
    assert not await do(rival.wait, 0)
    assert await fleet.counts(kind, key) == (kind.slots, 0)
    for holder in holders:
        assert await do(holder.release)


# P24
async def slots_are_granted_in_order_of_arrival(fleet: Fleet, kind: Kind, key: str) -> None:
    holders = await fill(fleet, kind, key)
    line = [fleet.handle(kind, key) for _ in range(5)]
    for rival in line:
        assert await do(rival.enqueue) == "queued"
    for left, rival in zip(range(4, -1, -1), line, strict=True):
        assert await do(holders.pop(0).release)
        assert await do(rival.wait, 5)
        assert await fleet.counts(kind, key) == (kind.slots, left)
        holders.append(rival)
    for holder in holders:
        assert await do(holder.release)


async def a_short_lease_is_kept(fleet: Fleet, kind: Kind, key: str) -> None:
    holders = await fill(fleet, kind, key, lease_ttl_s=2)
    assert not await do(fleet.handle(kind, key, acquire_timeout_s=4).acquire)
    for holder in holders:
        assert await do(holder.release)


async def a_lease_that_nobody_renews_ends(fleet: Fleet, kind: Kind, key: str) -> None:
    conn = await fleet.connect(kind, key)
    for _ in range(kind.slots):
        token, lease = await do(kind.module.acquire, conn, key, 0, 1, **kind.wish)
        assert lease == 1
    rivals = await fill(fleet, kind, key, acquire_timeout_s=5)
    for call in (kind.module.renew, kind.module.release):
        try:
            await do(call, conn, key, token, **kind.words)
            raise AssertionError("the token is dead")
        except dflockd.DflockdError:
            pass
    await do(conn.close)
    for rival in rivals:
        assert await do(rival.release)


async def a_renewal_says_what_is_left(fleet: Fleet, kind: Kind, key: str) -> None:
    conn = await fleet.connect(kind, key)
    token, lease = await do(kind.module.acquire, conn, key, 0, 5, **kind.wish)
    assert lease == 5
    assert await do(kind.module.renew, conn, key, token, 60, **kind.words) == 60
    await do(kind.module.release, conn, key, token, **kind.words)
    await do(conn.close)


async def one_who_closes_hands_over(fleet: Fleet, kind: Kind, key: str) -> None:
    holders = await fill(fleet, kind, key)
    rival = fleet.handle(kind, key)
    assert await do(rival.enqueue) == "queued"
    await do(holders[0].close if kind.client == "sync" else holders[0].aclose)
    assert await do(rival.wait, 5)
    for holder in [rival, *holders[1:]]:
        assert await do(holder.release)


async def fences_grow(fleet: Fleet, kind: Kind, key: str) -> None:
    holder, fences = fleet.handle(kind, key), []
    for _ in range(3):
        assert await do(holder.acquire)
        fences.append(dflockd.fence_from_token(holder.token))
        assert await do(holder.release)
    assert fences == sorted(set(fences))


async def mistakes_have_names(fleet: Fleet, kind: Kind, key: str) -> None:
    holders = await fill(fleet, kind, key)
    conn = await fleet.connect(kind, key)
    module = kind.module
    for mistake, call in [
        (dflockd.NotQueuedError, do(module.wait, conn, key, 0, **kind.words)),
        (None, do(module.enqueue, conn, key, **kind.wish)),
        (dflockd.AlreadyQueuedError, do(module.enqueue, conn, key, **kind.wish)),
        (dflockd.DflockdTimeoutError, do(module.wait, conn, key, 0, **kind.words)),
        (dflockd.DflockdError, do(module.renew, conn, key, "0" * 32, **kind.words)),
        (dflockd.DflockdError, do(module.release, conn, key, "0" * 32, **kind.words)),
        (None, do(module.stats, conn)),
    ]:
        try:
            await call
            made = None
        except (dflockd.DflockdError, dflockd.DflockdTimeoutError) as error:
            made = type(error)
        assert made is mistake, made
    await do(conn.close)
    for holder in holders:
        assert await do(holder.release)


async def another_limit_is_refused(fleet: Fleet, kind: Kind, key: str) -> None:
    assert kind.limit
    holder = fleet.handle(kind, key)
    assert await do(holder.acquire)
    try:
        await do(fleet.handle(kind, key, limit=kind.limit + 1).acquire)
        raise AssertionError("it was not refused")
    except dflockd.LimitMismatchError:
        pass
    assert await do(holder.release)


# S17
async def a_lock_of_the_same_key_is_another(fleet: Fleet, kind: Kind, key: str) -> None:
    lock = fleet.handle(Kind(kind.client, None), key)
    assert await do(lock.acquire)
    holders = await fill(fleet, kind, key)
    for holder in [lock, *holders]:
        assert await do(holder.release)


BOTH = [
    holds_and_releases,
    takes_a_key_of_any_script,
    no_more_than_the_limit_hold,
    waits_in_line,
    enqueues_and_holds_at_once,
    enqueues_and_waits,
    a_wait_in_vain_leaves_the_line,
    slots_are_granted_in_order_of_arrival,
    a_short_lease_is_kept,
    a_lease_that_nobody_renews_ends,
    a_renewal_says_what_is_left,
    one_who_closes_hands_over,
    fences_grow,
    mistakes_have_names,
]
SEMAPHORES = [another_limit_is_refused, a_lock_of_the_same_key_is_another]

fleet = Fleet.of(Fleet.arguments().parse_args())
cases = {}
for kind in KINDS:
    for case in BOTH if kind.limit is None else BOTH + SEMAPHORES:
        name = f"{kind.name}: {case.__name__.replace('_', ' ')}"
        key = name.replace(" ", "-")
        cases[name] = lambda case=case, kind=kind, key=key: case(fleet, kind, key)
main(cases)
