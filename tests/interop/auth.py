"""Secrets: the right one, a wrong one, none, and one that nobody asked for."""

import dataclasses

import dflockd_client as dflockd
from cases import main
from fleet import KINDS, Fleet, Kind, addresses, do


async def holds(fleet: Fleet, kind: Kind) -> None:
    holder = fleet.handle(kind, "secret")
    assert await do(holder.acquire)
    assert await do(holder.release)


async def is_refused(fleet: Fleet, kind: Kind, why: type[Exception]) -> None:
    try:
        await holds(fleet, kind)
    except why:
        return
    raise AssertionError("it was not refused")


parser = Fleet.arguments()
parser.add_argument("--open", required=True, help="HOST:PORT of a server without a secret")
args = parser.parse_args()
right = Fleet.of(args)
wrong = dataclasses.replace(right, secret="not it")
missing = dataclasses.replace(right, secret=None)
unneeded = dataclasses.replace(right, servers=addresses(args.open))
cases = {}
for kind in KINDS:
    cases[f"{kind.name}: the right secret holds"] = lambda kind=kind: holds(right, kind)
    cases[f"{kind.name}: a wrong secret is refused"] = lambda kind=kind: is_refused(wrong, kind, PermissionError)
    cases[f"{kind.name}: a missing secret is refused"] = lambda kind=kind: is_refused(missing, kind, dflockd.AuthError)
    cases[f"{kind.name}: an unneeded secret is refused"] = lambda kind=kind: is_refused(unneeded, kind, PermissionError)
main(cases)
