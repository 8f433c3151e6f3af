"""What a URL of a server or a cluster says, and where the keys of a Dict lie by it."""

from __future__ import annotations

import pickle
from binascii import crc_hqx
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdall import Client, Dict, InvalidError
from holdall.client.redis.keyspace import CLUSTER_SLOTS, Keyspace, slot_of_key, tag_of
from holdall.client.redis.target import Options, target_of
from holdall.client.redis.verdict import Kind, address_of, verdict
from holdall.slots import SLOTS, part_hash, slot_range


def test_seeds_users_and_options_are_read() -> None:
    target = target_of(
        "rediss://me:p%40ss%2Fword@h1,[2001:db8::1]:7000,h3:1/0?wait=2&namespace=team&parts=64&ca=/x.pem&verify=none"
    )
    assert target.seeds == (("h1", 6379), ("2001:db8::1", 7000), ("h3", 1))
    assert (target.user, target.password) == ("me", "p@ss/word")
    assert target.options == Options(2, "team", 64, "/x.pem", "", "", "none")
    assert target_of("valkey://h").seeds == (("h", 6379),)
    assert target_of("redis://:secret@h/3").database == 3


BAD = [
    "redis://",
    "redis://h:0",
    "redis://h:65536",
    "redis://h:x",
    "redis://h,,k",
    "redis://h,",
    "redis://h/x",
    "redis://h/-1",
    "redis://h?wait=6",
    "redis://h?wait=-1",
    "redis://h?wait=all",
    "redis://h?parts=3",
    "redis://h?parts=0",
    "redis://h?parts=2048",
    "redis://h?namespace=a/b",
    "redis://h?namespace=",
    "redis://h?verify=no",
    "redis://h?unknown=1",
    "redis://h?wait",
    "redis://h#1",
    "redis://[::1",
    "redis://a b",
]


@pytest.mark.parametrize("url", BAD)
def test_what_is_no_url_is_an_invalid_error(url: str) -> None:
    with pytest.raises(InvalidError, match="Invalid URL"):
        Client(url)


@pytest.mark.parametrize("url", ["redis://me:secret@h1,h2?wait=1", "rediss://:secret@h1", "valkey://me:secret@h?parts=3"])
def test_a_password_is_shown_nowhere(url: str) -> None:
    shown: list[str] = []
    try:
        with Client(url) as client:
            d = Dict.from_name("kv", client=client)
            shown += [repr(client), client.address, repr(d), repr(target_of(url)), pickle.dumps(d).decode("latin-1")]
            with pytest.raises(TypeError, match="not to be pickled"):
                pickle.dumps(target_of(url))
    except InvalidError as error:
        shown.append(str(error))
    assert shown
    assert not any("secret" in each for each in shown)


def test_a_connection_file_is_for_another_kind_of_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDALL_CONNECTION", "/some/file")
    monkeypatch.setenv("HOLDALL_URL", "redis://h")
    with pytest.raises(InvalidError, match="unset"):
        Client()
    assert Client("redis://h").address == "redis://h"  # an argument wins


@given(st.integers(0, CLUSTER_SLOTS - 1))
def test_each_slot_has_a_tag(slot: int) -> None:
    assert slot_of_key(tag_of(slot)) == slot
    assert tag_of(slot).isalnum()


@given(st.binary(min_size=16, max_size=16), st.sampled_from([1, 2, 16, 1024]))
def test_the_parts_of_a_dict_lie_evenly_and_their_keys_together(dict_id: bytes, parts: int) -> None:
    keyspace = Keyspace("team", parts)
    found = [keyspace.of(dict_id, part_hash(*slot_range(index, parts))) for index in range(parts)]
    thirds = Counter(each.slot * 3 // CLUSTER_SLOTS for each in found)
    assert max(thirds.values()) - min(thirds.get(third, 0) for third in range(3)) <= 1 or parts < 3
    for each in found:
        for key in (*each.keys, each.session(b"s" * 16), each.blob(b"b" * 16)):
            tag = key[key.index(b"{") + 1 : key.index(b"}")]
            assert crc_hqx(tag, 0) % CLUSTER_SLOTS == each.slot
            assert key.startswith(b"team:")
    assert keyspace.index((SLOTS - 1) << 22) == parts - 1


REFUSALS = {
    "MOVED 3999 127.0.0.1:6381": (Kind.MOVED, 3999, "127.0.0.1:6381"),
    "MOVED 3999 ::1:6381": (Kind.MOVED, 3999, "::1:6381"),
    "ASK 16383 host.example:7000": (Kind.ASK, 16383, "host.example:7000"),
    "MOVED": (Kind.ELSEWHERE, -1, ""),
    "MOVED 20000 h:1": (Kind.ELSEWHERE, -1, ""),
    "TRYAGAIN Multiple keys request during rehashing of slot": (Kind.AGAIN, -1, ""),
    "BUSY Redis is busy running a script": (Kind.AGAIN, -1, ""),
    "CLUSTERDOWN The cluster is down": (Kind.ELSEWHERE, -1, ""),
    "LOADING Redis is loading the dataset in memory": (Kind.ELSEWHERE, -1, ""),
    "READONLY You can't write against a read only replica.": (Kind.ELSEWHERE, -1, ""),
    "MASTERDOWN Link with MASTER is down": (Kind.ELSEWHERE, -1, ""),
    "NOSCRIPT No matching script.": (Kind.EVAL, -1, ""),
    "NOAUTH Authentication required.": (Kind.SHUT, -1, ""),
    "WRONGPASS invalid username-password pair": (Kind.SHUT, -1, ""),
    "ERR max number of clients reached": (Kind.FULL, -1, ""),
    "OOM command not allowed when used memory > 'maxmemory'.": (Kind.FINAL, -1, ""),
    "MISCONF Redis is configured to save RDB snapshots": (Kind.FINAL, -1, ""),
    "NOPERM this user has no permissions to run the 'evalsha' command": (Kind.FINAL, -1, ""),
    "ERR unknown command 'EVALSHA'": (Kind.FINAL, -1, ""),
    "": (Kind.FINAL, -1, ""),
}


@pytest.mark.parametrize("error", REFUSALS)
def test_what_a_refusal_means(error: str) -> None:
    found = verdict(error)
    assert (found.kind, found.slot, found.where) == REFUSALS[error]
    if found.kind is Kind.FINAL:
        assert found.status
        assert error in found.text


def test_where_a_redirection_leads() -> None:
    assert address_of("127.0.0.1:6381", "h") == ("127.0.0.1", 6381)
    assert address_of(":6381", "h") == ("h", 6381)  # a node that does not know its own name
    assert address_of("[::1]:6381", "h") == address_of("::1:6381", "h") == ("::1", 6381)
    with pytest.raises(ValueError, match="invalid literal"):
        address_of("nowhere", "h")
