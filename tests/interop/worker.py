"""Takes slots on order. `acquire` is answered `held TOKEN`, `release` is answered `released`; anything else says what went wrong."""

import asyncio
import sys

from fleet import Fleet, Kind, do

parser = Fleet.arguments()
parser.add_argument("--client", choices=["sync", "async"], required=True)
parser.add_argument("--limit", type=int, help="how many may hold a semaphore; without it, a lock")
parser.add_argument("--two-phase", action="store_true", help="enqueue, then wait")
parser.add_argument("--key", required=True)
args = parser.parse_args()
handle = Fleet.of(args).handle(Kind(args.client, args.limit), args.key, acquire_timeout_s=20)


async def answer(order: str) -> str:
    match order:
        case "acquire" if args.two_phase:
            await do(handle.enqueue)
            return f"held {handle.token}" if await do(handle.wait) else "timeout"
        case "acquire":
            return f"held {handle.token}" if await do(handle.acquire) else "timeout"
        case "release":
            return "released" if await do(handle.release) else "it was not held"
    return "unknown order"


async def main() -> None:
    while order := await asyncio.to_thread(sys.stdin.readline):
        try:
            reply = await answer(order.strip())
        except Exception as error:
            reply = repr(error)
        print(reply, flush=True)


asyncio.run(main())
