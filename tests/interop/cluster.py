"""Servers under test, and access to them with the Python client."""

import argparse
import asyncio
import inspect
import ssl
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import dflockd_client as dflockd

MODULES = {"sync": dflockd._sync, "async": dflockd._async}


async def invoke(call: Any, *args: Any, **options: Any) -> Any:
    """Calls either client. Calls of the sync client run on a thread, because they block."""
    if inspect.iscoroutinefunction(call):
        return await call(*args, **options)
    return await asyncio.to_thread(call, *args, **options)


def addresses(text: str) -> list[tuple[str, int]]:
    pairs = [server.rsplit(":", 1) for server in text.split(",")]
    return [(host, int(port)) for host, port in pairs]


@dataclass(frozen=True)
class Kind:
    """A client variant, and a lock or a semaphore."""

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
    def prefix_options(self) -> dict[str, Any]:
        """Options with which the low-level functions distinguish a semaphore from a lock."""
        return {} if self.limit is None else {"prefix": "s"}

    @property
    def acquire_options(self) -> dict[str, Any]:
        """Options of the low-level functions that acquire or enqueue."""
        return {} if self.limit is None else {"prefix": "s", "limit": self.limit}


KINDS = [Kind(client, limit) for client in MODULES for limit in (None, 3)]


@dataclass(frozen=True)
class Cluster:
    """One server, or several servers among which the keys are sharded."""

    servers: list[tuple[str, int]]
    auth_token: str | None = None
    tls: ssl.SSLContext | None = None

    @staticmethod
    def arguments() -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser()
        parser.add_argument(
            "--servers", required=True, help="addresses as HOST:PORT, separated by commas"
        )
        parser.add_argument("--auth-token")
        parser.add_argument("--ca", help="PEM file of the certificate authority; enables TLS")
        return parser

    @classmethod
    def of(cls, args: argparse.Namespace) -> "Cluster":
        tls = ssl.create_default_context(cafile=args.ca) if args.ca else None
        return cls(addresses(args.servers), args.auth_token, tls)

    def handle(self, kind: Kind, key: str, **options: Any) -> Any:
        """Returns a lock or semaphore of the client."""
        limit = {} if kind.limit is None else {"limit": options.pop("limit", kind.limit)}
        module = kind.module
        make = module.DistributedLock if kind.limit is None else module.DistributedSemaphore
        return make(
            key,
            servers=self.servers,
            auth_token=self.auth_token,
            ssl_context=self.tls,
            **limit,
            **options,
        )

    async def connect(self, kind: Kind, key: str) -> Any:
        """Connects to the server of `key`, for the low-level functions of the client."""
        host, port = self.servers[dflockd.stable_hash_shard(key, len(self.servers))]
        conn = await invoke(
            kind.module.open_conn, host, port, ssl_context=self.tls, connect_timeout_s=5
        )
        if self.auth_token is not None:
            await invoke(kind.module.authenticate, conn, self.auth_token)
        return conn

    async def counts(self, kind: Kind, key: str) -> tuple[int, int]:
        """Returns the numbers of holders and waiters of `key` on its server."""
        conn = await self.connect(kind, key)
        stats = await invoke(kind.module.stats, conn)
        await invoke(conn.close)
        for lock in stats["locks"] if kind.limit is None else []:
            if lock["key"] == key:
                return (1 if lock["owner_conn_id"] else 0, lock["waiters"])
        for semaphore in stats["semaphores"] if kind.limit is not None else []:
            if semaphore["key"] == key:
                return (semaphore["holders"], semaphore["waiters"])
        return (0, 0)

    async def wait_for_counts(self, kind: Kind, key: str, counts: tuple[int, int]) -> None:
        """Polls until the server reports `counts`, because it sends no event for them."""
        while await self.counts(kind, key) != counts:
            await asyncio.sleep(0.01)
