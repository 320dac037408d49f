"""Acquires and releases slots on command.

Replies to `acquire` with `held TOKEN` and to `release` with `released`, or with an error.
"""

import asyncio
import sys

from cluster import Cluster, Kind, invoke

parser = Cluster.arguments()
parser.add_argument("--client", choices=["sync", "async"], required=True)
parser.add_argument("--limit", type=int, help="limit of the semaphore; a lock without it")
parser.add_argument("--two-phase", action="store_true", help="enqueue, then wait")
parser.add_argument("--key", required=True)
args = parser.parse_args()
handle = Cluster.of(args).handle(Kind(args.client, args.limit), args.key, acquire_timeout_s=20)


async def execute(command: str) -> str:
    match command:
        case "acquire" if args.two_phase:
            await invoke(handle.enqueue)
            return f"held {handle.token}" if await invoke(handle.wait) else "timeout"
        case "acquire":
            return f"held {handle.token}" if await invoke(handle.acquire) else "timeout"
        case "release":
            return "released" if await invoke(handle.release) else "not held"
    return "unknown command"


async def main() -> None:
    while command := await asyncio.to_thread(sys.stdin.readline):
        try:
            reply = await execute(command.strip())
        except Exception as error:
            reply = repr(error)
        print(reply, flush=True)


asyncio.run(main())
