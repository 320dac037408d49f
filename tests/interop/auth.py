"""Auth tokens: the right one, a wrong one, none, and one that the server does not require."""

import dataclasses
from functools import partial

import dflockd_client as dflockd
from cases import main
from cluster import KINDS, Cluster, Kind, addresses, invoke


async def acquire_and_release(cluster: Cluster, kind: Kind) -> None:
    holder = cluster.handle(kind, "auth-token")
    assert await invoke(holder.acquire)
    assert await invoke(holder.release)


async def check_refused(cluster: Cluster, kind: Kind, why: type[Exception]) -> None:
    try:
        await acquire_and_release(cluster, kind)
    except why:
        return
    raise AssertionError("not refused")


parser = Cluster.arguments()
parser.add_argument("--open", required=True, help="HOST:PORT of a server without an auth token")
args = parser.parse_args()
right = Cluster.of(args)
wrong = dataclasses.replace(right, auth_token="wrong")
missing = dataclasses.replace(right, auth_token=None)
unneeded = dataclasses.replace(right, servers=addresses(args.open))
cases = {}
for kind in KINDS:
    cases[f"{kind.name}: the right auth token is accepted"] = partial(
        acquire_and_release, right, kind
    )
    for name, cluster, error in [
        ("a wrong", wrong, PermissionError),
        ("a missing", missing, dflockd.AuthError),
        ("an unneeded", unneeded, PermissionError),
    ]:
        cases[f"{kind.name}: {name} auth token is refused"] = partial(
            check_refused, cluster, kind, error
        )
main(cases)
