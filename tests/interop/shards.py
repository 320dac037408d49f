"""Prints the shards of random keys: the number of servers, the index of the server, and the key."""

import argparse
import random
import sys

from dflockd_client import stable_hash_shard

# Letters of several scripts, with one to four bytes each in UTF-8.
LETTERS = (
    "abcdefghijklmnopqrstuvwxyzABCXYZ0123456789-_./:%"
    "éßøñжщλωאבعن中文鍵日本語かな한국어ไทย☃€𝄞🔑🦀𐍈\u00a0\u0301"
)

parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, required=True)
parser.add_argument("--keys", type=int, required=True)
args = parser.parse_args()
sys.stdout.reconfigure(encoding="utf-8")
draw = random.Random(args.seed)
for _ in range(args.keys):
    key = "".join(draw.choices(LETTERS, k=draw.randint(1, 64)))
    servers = draw.randint(1, 100)
    print(servers, stable_hash_shard(key, servers), key)
