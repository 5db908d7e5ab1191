"""Ports, uids and addresses of a run."""

import pytest

from labs.engine.errors import LabError
from labs.engine.layout import Layout


def draw(seed: int | None) -> tuple[object, ...]:
    layout = Layout(seed)
    host = layout.host("server")
    return layout.port(8080), layout.uid("alice"), layout.uid("bob"), host.ipv4, host.ipv6


def test_without_a_seed_the_usual_numbers() -> None:
    assert draw(None) == (8080, 64001, 64002, "10.77.0.2", "fd00:4d::1")


@pytest.mark.parametrize("seed", range(50))
def test_a_seed_always_gives_the_same(seed: int) -> None:
    assert draw(seed) == draw(seed)


def test_seeds_vary_everything() -> None:
    for column in zip(*(draw(seed) for seed in range(50)), strict=True):
        assert len(set(column)) > 25


@pytest.mark.parametrize("seed", [None, *range(200)])
def test_users_differ_and_are_neither_root_nor_nobody(seed: int | None) -> None:
    layout = Layout(seed)
    uids = [layout.uid(user) for user in ("alice", "bob", "carol", "dave", "root")]
    assert len(set(uids)) == 5
    assert uids[-1] == 0
    assert all(0 < uid < 65534 for uid in uids[:-1])


def test_asking_again_gives_the_same() -> None:
    layout = Layout(3)
    assert layout.uid("carol") == layout.uid("carol")
    assert layout.port(80) == layout.port(80)
    assert layout.port(80) != layout.port(81)


@pytest.mark.parametrize("seed", [None, *range(50)])
def test_a_low_port_stays_one_and_ports_never_collide(seed: int | None) -> None:
    layout = Layout(seed)
    low = [layout.port(usual) for usual in (1, 22, 80, 443, 1023)]
    high = [layout.port(usual) for usual in (1024, 8080, 8081)]
    assert all(0 < port < 1024 for port in low)
    assert all(1024 <= port < 32_768 for port in high)
    assert len({*low, *high}) == 8
    assert seed is not None or low == [1, 22, 80, 443, 1023]


def test_a_uid_has_its_users_name() -> None:
    layout = Layout(None)
    assert layout.user(layout.uid("carol")) == "carol"
    assert layout.user(0) == "root"
    assert layout.user(12345) == "12345"


def test_addresses_of_many_hosts_differ_and_are_addresses() -> None:
    import ipaddress

    layout = Layout(None)
    plans = [layout.host(f"h{number}") for number in range(1000)]
    assert len({ipaddress.ip_address(plan.ipv4) for plan in plans}) == 1000
    assert len({ipaddress.ip_address(plan.ipv6) for plan in plans}) == 1000
    networks = {ipaddress.ip_network(f"{p.ipv4}/{p.ipv4_prefix}", strict=False) for p in plans}
    assert len(networks) == 1
    assert not {plan.ipv4.rsplit(".", 1)[1] for plan in plans} & {"0", "255"}


def test_two_hosts_of_one_name_are_a_fault_of_the_lab() -> None:
    layout = Layout(None)
    layout.host("server")
    with pytest.raises(LabError, match="server"):
        layout.host("server")
