"""The servers that a script is pointed at, and the Python client's ways to use them."""

import argparse
import asyncio
import inspect
import ssl
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import dflockd_client as dflockd

MODULES = {"sync": dflockd._sync, "async": dflockd._async}


async def do(call: Any, *args: Any, **options: Any) -> Any:
    """Calls either client; the sync one on a thread, so that it may block."""
    if inspect.iscoroutinefunction(call):
        return await call(*args, **options)
    return await asyncio.to_thread(call, *args, **options)


def addresses(text: str) -> list[tuple[str, int]]:
    pairs = [server.rsplit(":", 1) for server in text.split(",")]
    return [(host, int(port)) for host, port in pairs]


@dataclass(frozen=True)
class Kind:
    """A client and what it asks for."""

    client: str
    limit: int | None

    @property
    def name(self) -> str:
        return f"{self.client} {'lock' if self.limit is None else 'semaphore'}"

    @property
    def slots(self) -> int:
        return self.limit or 1

    @property
    def module(self) -> ModuleType:
        return MODULES[self.client]

    @property
    def words(self) -> dict[str, Any]:
        """What the functions below the handles take to tell a semaphore from a lock."""
        return {} if self.limit is None else {"prefix": "s"}

    @property
    def wish(self) -> dict[str, Any]:
        """The same for those that join the line."""
        return {} if self.limit is None else {"prefix": "s", "limit": self.limit}


KINDS = [Kind(client, limit) for client in MODULES for limit in (None, 3)]


@dataclass(frozen=True)
class Fleet:
    """One server, or several that share the keys."""

    servers: list[tuple[str, int]]
    secret: str | None = None
    tls: ssl.SSLContext | None = None

    @staticmethod
    def arguments() -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser()
        parser.add_argument("--servers", required=True, help="HOST:PORT, several with a comma between them")
        parser.add_argument("--secret")
        parser.add_argument("--ca", help="a PEM file: speak TLS, and trust what it signed")
        return parser

    @classmethod
    def of(cls, args: argparse.Namespace) -> "Fleet":
        tls = ssl.create_default_context(cafile=args.ca) if args.ca else None
        return cls(addresses(args.servers), args.secret, tls)

    def handle(self, kind: Kind, key: str, **options: Any) -> Any:
        """The client's own class for locks or semaphores."""
        limit = {} if kind.limit is None else {"limit": options.pop("limit", kind.limit)}
        make = kind.module.DistributedLock if kind.limit is None else kind.module.DistributedSemaphore
        return make(key, servers=self.servers, auth_token=self.secret, ssl_context=self.tls, **limit, **options)

    async def connect(self, kind: Kind, key: str) -> Any:
        """A bare connection to the server of `key`, for the client's functions below its classes."""
        host, port = self.servers[dflockd.stable_hash_shard(key, len(self.servers))]
        conn = await do(kind.module.open_conn, host, port, ssl_context=self.tls, connect_timeout_s=5)
        if self.secret is not None:
            await do(kind.module.authenticate, conn, self.secret)
        return conn

    async def counts(self, kind: Kind, key: str) -> tuple[int, int]:
        """How many hold `key`, and how many wait for it, as its server says."""
        conn = await self.connect(kind, key)
        stats = await do(kind.module.stats, conn)
        await do(conn.close)
        for lock in stats["locks"] if kind.limit is None else []:
            if lock["key"] == key:
                return (1 if lock["owner_conn_id"] else 0, lock["waiters"])
        for semaphore in stats["semaphores"] if kind.limit is not None else []:
            if semaphore["key"] == key:
                return (semaphore["holders"], semaphore["waiters"])
        return (0, 0)

    async def until(self, kind: Kind, key: str, counts: tuple[int, int]) -> None:
        """Waits until `counts` are so: no event tells who joins or leaves a line."""
        while await self.counts(kind, key) != counts:
            await asyncio.sleep(0.01)
