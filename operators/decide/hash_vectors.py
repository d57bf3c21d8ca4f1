"""Test vectors of the `random:` rules, by Python's standard library alone. Prints the Rust tables of the tests."""
import hashlib
from fractions import Fraction

for seed, shard, key in [
    (0, "", ""),
    (0, "00000.tar", "000000000"),
    (1, "00000.tar", "000000000"),
    (0, "00000.tar", "000000001"),
    (0, "00000.tar0", "00000000"),
    (2**64 - 1, "laion/é/00001.tar", "ключ"),
    (42, "a" * 100, "b" * 100),
]:
    name = shard.encode()
    message = b"trommel random 1" + seed.to_bytes(8, "little") + len(name).to_bytes(8, "little") + name + key.encode()
    value = int.from_bytes(hashlib.sha256(message).digest()[:8], "little")
    print(f"    ({seed}, {shard!r}, {key!r}, {value:#018x}),".replace("'", '"'))

for percent in ["0", "0.000000000000000001", "1", "12.5", "33.3333", "50", "99.9", "99.999999999999999999", "7.0"]:
    print(f'    ("{percent}", {Fraction(percent) * 2**64 // 100}),')
