"""What is found out of what a host gives networks, and that finding it out changes nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from engine.linux.netfilter import BRIDGE, INET, has_table, list_base_chains
from engine.linux.netlink import NETFILTER, NetlinkSocket
from engine.network.features import network_features
from engine.network.firewall import Firewall

pytestmark = pytest.mark.root

DROPPING = """
add table ip filter
add chain ip filter FORWARD { type filter hook forward priority filter; policy drop; }
add table inet lamella
add chain inet lamella forward { type filter hook forward priority filter; policy drop; }
add table inet open
add chain inet open forward { type filter hook forward priority filter; policy accept; }
add table inet own
add chain inet own input { type filter hook input priority filter; policy drop; }
"""
AS_NOBODY = """
import json, os
from pathlib import Path
from engine.network.features import network_features
from engine.network.firewall import Firewall
firewall = Firewall(Path("/nowhere"))
network_features(firewall)  # Whatever is loaded late: nobody may not read root's Python.
os.setgid(65534)
os.setuid(65534)
found = network_features(firewall)
print(json.dumps([(one.name, one.is_available, one.detail, one.remedy) for one in found]))
"""


def features():
    found = network_features(Firewall(Path("/var/lib/lamella")))
    return [(one.name, one.is_available) for one in found], found


def tables_and_chains():
    with NetlinkSocket(NETFILTER) as connection:
        tables = [
            (family, name)
            for family in (INET, BRIDGE)
            for name in ("lamella", "lamella_trial")
            if has_table(connection, family, name)
        ]
        return tables, list_base_chains(connection)


def test_a_usual_host_gives_everything_and_is_the_same_afterwards(world):
    before = (tables_and_chains(), world.machine.links(), world.machine.setting("ipv4/ip_forward"))
    names, found = features()
    assert names == [
        ("network", True),
        ("network guard", True),
        ("forwarding", True),
        ("loopback ports", True),
        ("ipv6", True),
    ]
    assert all(not one.remedy for one in found)
    after = (tables_and_chains(), world.machine.links(), world.machine.setting("ipv4/ip_forward"))
    assert after == before
    assert before[0] == ([], ())


def test_what_is_in_use_already_is_found_as_it_is(world):
    del world
    firewall = Firewall(Path("/var/lib/lamella"))
    firewall.make(())
    before = tables_and_chains()
    assert before[0] == [(INET, "lamella"), (BRIDGE, "lamella")]
    assert features()[0][0] == ("network", True)
    assert tables_and_chains() == before


@pytest.mark.usefixtures("has_nft")
def test_rules_of_others_that_drop_everything_are_named_with_a_remedy(world):
    world.nft("-f", "-", rules=DROPPING)
    (dropping,) = [one for one in features()[1] if one.name == "rules of others"]
    assert not dropping.is_available
    assert "The table ip filter drops what the host forwards" in dropping.remedy
    assert "-j ACCEPT" in dropping.remedy


@pytest.mark.parametrize(
    ("setting", "value", "detail"),
    [
        ("ipv4/ip_forward", "0", "net.ipv4.ip_forward is 0: it is set when a container needs it"),
        ("ipv4/ip_forward", "1", "net.ipv4.ip_forward is 1"),
    ],
)
def test_forwarding_that_is_off_is_no_fault_of_a_host_where_it_can_be_set(
    world, setting, value, detail
):
    del world
    Path(f"/proc/sys/net/{setting}").write_text(value)
    (forwarding,) = [one for one in features()[1] if one.name == "forwarding"]
    assert (forwarding.is_available, forwarding.detail) == (True, detail)


def test_ipv6_that_is_off_is_said_with_the_setting(world):
    del world
    Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
    (ipv6,) = [one for one in features()[1] if one.name == "ipv6"]
    assert not ipv6.is_available
    assert "sysctl -w net.ipv6.conf.all.disable_ipv6=0" in ipv6.remedy


def test_who_may_make_no_rules_is_told_what_it_takes(world):
    with world.machine.entered():
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY], capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    found = {name: rest for name, *rest in json.loads(done.stdout)}
    assert found["network"][0] is False
    assert "It takes root" in found["network"][2]
    assert "network guard" not in found
    # The machine does not forward, and nobody may change that.
    assert found["forwarding"][0] is False
    assert found["forwarding"][2] == "As root: sysctl -w net.ipv4.ip_forward=1"
