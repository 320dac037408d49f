"""Runs cases concurrently, and prints one line for each and a summary."""

import asyncio
import sys
import traceback
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

Case = Callable[[], Awaitable[None]]

CASE_TIMEOUT_S = 20
# A case may have several blocked calls of the sync client at the same time.
THREADS = 200


def main(cases: dict[str, Case]) -> NoReturn:
    sys.exit(asyncio.run(_run(cases)))


async def _run(cases: dict[str, Case]) -> int:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
    passed = await asyncio.gather(*(_run_case(name, case) for name, case in cases.items()))
    print(f"{sum(passed)} passed, {len(passed) - sum(passed)} failed", flush=True)
    return 0 if all(passed) else 1


async def _run_case(name: str, case: Case) -> bool:
    try:
        async with asyncio.timeout(CASE_TIMEOUT_S):
            await case()
    except Exception as error:
        frames = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if "site-packages" not in frame.filename
        ]
        print(f"FAIL {name}: {error!r} at `{frames[-1].line}`", flush=True)
        return False
    print(f"ok {name}", flush=True)
    return True
