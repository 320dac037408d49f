"""Operations of the Python client: sync and async, locks and semaphores, one or more servers."""

import asyncio
from typing import Any

import dflockd_client as dflockd
from cases import main
from cluster import KINDS, Cluster, Kind, invoke


async def fill(cluster: Cluster, kind: Kind, key: str, **options: Any) -> list[Any]:
    """Holds every slot of `key`."""
    holders = [cluster.handle(kind, key, **options) for _ in range(kind.slots)]
    for holder in holders:
        assert await invoke(holder.acquire)
    return holders


async def holds_and_releases(cluster: Cluster, kind: Kind, key: str) -> None:
    holder = cluster.handle(kind, key)
    assert await invoke(holder.acquire)
    assert len(holder.token) == 32 and holder.lease == 33
    assert await cluster.counts(kind, key) == (1, 0)
    assert await invoke(holder.release)
    assert await cluster.counts(kind, key) == (0, 0)


async def accepts_keys_of_any_script(cluster: Cluster, kind: Kind, key: str) -> None:
    await holds_and_releases(cluster, kind, f"{key}/clé-鍵-🔑")


async def limit_is_kept(cluster: Cluster, kind: Kind, key: str) -> None:
    holders = await fill(cluster, kind, key)
    waiter = cluster.handle(kind, key, acquire_timeout_s=0)
    assert not await invoke(waiter.acquire)
    assert await invoke(holders[0].release)
    assert await invoke(waiter.acquire)
    for holder in [waiter, *holders[1:]]:
        assert await invoke(holder.release)


async def waits_in_the_queue(cluster: Cluster, kind: Kind, key: str) -> None:
    holders = await fill(cluster, kind, key)
    waiter = cluster.handle(kind, key)
    waiting = asyncio.create_task(invoke(waiter.acquire))
    await cluster.wait_for_counts(kind, key, (kind.slots, 1))
    assert await invoke(holders[0].release)
    assert await waiting
    for holder in [waiter, *holders[1:]]:
        assert await invoke(holder.release)


async def enqueue_acquires_a_free_slot(cluster: Cluster, kind: Kind, key: str) -> None:
    holder = cluster.handle(kind, key)
    assert await invoke(holder.enqueue) == "acquired"
    assert await invoke(holder.wait)
    assert await invoke(holder.release)


async def enqueues_and_waits(cluster: Cluster, kind: Kind, key: str) -> None:
    holders = await fill(cluster, kind, key)
    waiter = cluster.handle(kind, key)
    assert await invoke(waiter.enqueue) == "queued"
    assert await invoke(holders[0].release)
    assert await invoke(waiter.wait, 10)
    for holder in [waiter, *holders[1:]]:
        assert await invoke(holder.release)


async def wait_times_out_and_leaves_the_queue(cluster: Cluster, kind: Kind, key: str) -> None:
    holders = await fill(cluster, kind, key)
    waiter = cluster.handle(kind, key)
    assert await invoke(waiter.enqueue) == "queued"
    assert await cluster.counts(kind, key) == (kind.slots, 1)
    assert not await invoke(waiter.wait, 0)
    assert await cluster.counts(kind, key) == (kind.slots, 0)
    for holder in holders:
        assert await invoke(holder.release)


# P24
async def slots_are_granted_in_order_of_arrival(cluster: Cluster, kind: Kind, key: str) -> None:
    holders = await fill(cluster, kind, key)
    queue = [cluster.handle(kind, key) for _ in range(5)]
    for waiter in queue:
        assert await invoke(waiter.enqueue) == "queued"
    for left, waiter in zip(range(4, -1, -1), queue, strict=True):
        assert await invoke(holders.pop(0).release)
        assert await invoke(waiter.wait, 5)
        assert await cluster.counts(kind, key) == (kind.slots, left)
        holders.append(waiter)
    for holder in holders:
        assert await invoke(holder.release)


async def a_short_lease_is_kept(cluster: Cluster, kind: Kind, key: str) -> None:
    holders = await fill(cluster, kind, key, lease_ttl_s=2)
    assert not await invoke(cluster.handle(kind, key, acquire_timeout_s=4).acquire)
    for holder in holders:
        assert await invoke(holder.release)


async def unrenewed_lease_expires(cluster: Cluster, kind: Kind, key: str) -> None:
    conn = await cluster.connect(kind, key)
    for _ in range(kind.slots):
        token, lease = await invoke(kind.module.acquire, conn, key, 0, 1, **kind.acquire_options)
        assert lease == 1
    waiters = await fill(cluster, kind, key, acquire_timeout_s=5)
    for call in (kind.module.renew, kind.module.release):
        try:
            await invoke(call, conn, key, token, **kind.prefix_options)
            raise AssertionError("the token has expired")
        except dflockd.DflockdError:
            pass
    await invoke(conn.close)
    for waiter in waiters:
        assert await invoke(waiter.release)


async def renewal_returns_the_lease(cluster: Cluster, kind: Kind, key: str) -> None:
    conn = await cluster.connect(kind, key)
    token, lease = await invoke(kind.module.acquire, conn, key, 0, 5, **kind.acquire_options)
    assert lease == 5
    assert await invoke(kind.module.renew, conn, key, token, 60, **kind.prefix_options) == 60
    await invoke(kind.module.release, conn, key, token, **kind.prefix_options)
    await invoke(conn.close)


async def close_grants_the_slot_to_the_next_waiter(cluster: Cluster, kind: Kind, key: str) -> None:
    holders = await fill(cluster, kind, key)
    waiter = cluster.handle(kind, key)
    assert await invoke(waiter.enqueue) == "queued"
    await invoke(holders[0].close if kind.client == "sync" else holders[0].aclose)
    assert await invoke(waiter.wait, 5)
    for holder in [waiter, *holders[1:]]:
        assert await invoke(holder.release)


async def fences_increase(cluster: Cluster, kind: Kind, key: str) -> None:
    holder, fences = cluster.handle(kind, key), []
    for _ in range(3):
        assert await invoke(holder.acquire)
        fences.append(dflockd.fence_from_token(holder.token))
        assert await invoke(holder.release)
    assert fences == sorted(set(fences))


async def errors_have_types(cluster: Cluster, kind: Kind, key: str) -> None:
    holders = await fill(cluster, kind, key)
    conn = await cluster.connect(kind, key)
    module = kind.module
    for expected, call in [
        (dflockd.NotQueuedError, invoke(module.wait, conn, key, 0, **kind.prefix_options)),
        (None, invoke(module.enqueue, conn, key, **kind.acquire_options)),
        (dflockd.AlreadyQueuedError, invoke(module.enqueue, conn, key, **kind.acquire_options)),
        (dflockd.DflockdTimeoutError, invoke(module.wait, conn, key, 0, **kind.prefix_options)),
        (dflockd.DflockdError, invoke(module.renew, conn, key, "0" * 32, **kind.prefix_options)),
        (dflockd.DflockdError, invoke(module.release, conn, key, "0" * 32, **kind.prefix_options)),
        (None, invoke(module.stats, conn)),
    ]:
        try:
            await call
            raised = None
        except (dflockd.DflockdError, dflockd.DflockdTimeoutError) as error:
            raised = type(error)
        assert raised is expected, raised
    await invoke(conn.close)
    for holder in holders:
        assert await invoke(holder.release)


async def another_limit_check_refused(cluster: Cluster, kind: Kind, key: str) -> None:
    assert kind.limit
    holder = cluster.handle(kind, key)
    assert await invoke(holder.acquire)
    try:
        await invoke(cluster.handle(kind, key, limit=kind.limit + 1).acquire)
        raise AssertionError("not refused")
    except dflockd.LimitMismatchError:
        pass
    assert await invoke(holder.release)


# S17
async def lock_and_semaphore_are_separate(cluster: Cluster, kind: Kind, key: str) -> None:
    lock = cluster.handle(Kind(kind.client, None), key)
    assert await invoke(lock.acquire)
    holders = await fill(cluster, kind, key)
    for holder in [lock, *holders]:
        assert await invoke(holder.release)


BOTH = [
    holds_and_releases,
    accepts_keys_of_any_script,
    limit_is_kept,
    waits_in_the_queue,
    enqueue_acquires_a_free_slot,
    enqueues_and_waits,
    wait_times_out_and_leaves_the_queue,
    slots_are_granted_in_order_of_arrival,
    a_short_lease_is_kept,
    unrenewed_lease_expires,
    renewal_returns_the_lease,
    close_grants_the_slot_to_the_next_waiter,
    fences_increase,
    errors_have_types,
]
SEMAPHORES = [another_limit_check_refused, lock_and_semaphore_are_separate]

cluster = Cluster.of(Cluster.arguments().parse_args())
cases = {}
for kind in KINDS:
    for case in BOTH if kind.limit is None else BOTH + SEMAPHORES:
        name = f"{kind.name}: {case.__name__.replace('_', ' ')}"
        key = name.replace(" ", "-")
        cases[name] = lambda case=case, kind=kind, key=key: case(cluster, kind, key)
main(cases)
