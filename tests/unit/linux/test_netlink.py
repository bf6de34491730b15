"""Messages to the kernel: what pyroute2 reads in them, and what is read of hostile ones."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from engine.linux.netlink import (
    _split,
    attribute,
    attributes_of,
    iterate_attributes,
    message,
    nested,
    read_text,
)
from engine.linux.routes import (
    add_address,
    add_bridge,
    add_default_route,
    add_veth,
    pack_address,
    set_port,
)

MAC = bytes.fromhex("024c0a500002")


def decoded(kind, data):
    """What another implementation reads in a message."""
    read = kind(data)
    read.decode()
    return read


def test_a_pair_is_one_request():
    data = add_veth(
        "lmv0", bridge_index=7, peer_name="eth0", peer_namespace=9, peer_mac=MAC, mtu=1400
    )
    read = decoded(ifinfmsg, data)
    assert read.get_attr("IFLA_IFNAME") == "lmv0"
    assert read.get_attr("IFLA_MASTER") == 7
    assert read.get_attr("IFLA_MTU") == 1400
    assert read["flags"] == read["change"] == 1
    information = read.get_attr("IFLA_LINKINFO")
    assert information.get_attr("IFLA_INFO_KIND") == "veth"
    peer = information.get_attr("IFLA_INFO_DATA").get_attr("VETH_INFO_PEER")
    assert peer.get_attr("IFLA_IFNAME") == "eth0"
    assert peer.get_attr("IFLA_ADDRESS") == "02:4c:0a:50:00:02"
    assert peer.get_attr("IFLA_NET_NS_FD") == 9
    assert peer.get_attr("IFLA_MTU") == 1400


def test_a_bridge_has_an_address_of_its_own_and_forwards_at_once():
    read = decoded(ifinfmsg, add_bridge("lm-0", mac=MAC))
    assert read.get_attr("IFLA_ADDRESS") == "02:4c:0a:50:00:02"
    data = read.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_DATA")
    assert data.get_attr("IFLA_BR_FORWARD_DELAY") == 0
    assert data.get_attr("IFLA_BR_STP_STATE") == 0
    assert data.get_attr("IFLA_BR_MCAST_SNOOPING") == 0


def test_a_port_is_set_up_as_a_bridge_has_it():
    read = decoded(ifinfmsg, set_port(5, is_hairpin=True, is_isolated=False))
    assert (read["family"], read["index"]) == (socket.AF_BRIDGE, 5)
    port = read.get_attr("IFLA_PROTINFO")
    assert port.get_attr("IFLA_BRPORT_MODE") == 1
    assert port.get_attr("IFLA_BRPORT_ISOLATED") == 0


@pytest.mark.parametrize(
    ("address", "broadcast"), [("10.80.4.2/22", "10.80.7.255"), ("fd00::2/64", None)]
)
def test_an_address_has_its_prefix(address, broadcast):
    read = decoded(ifaddrmsg, add_address(3, address))
    text, _, length = address.partition("/")
    assert (read["index"], read["prefixlen"]) == (3, int(length))
    assert read.get_attr("IFA_LOCAL") == read.get_attr("IFA_ADDRESS") == text
    assert read.get_attr("IFA_BROADCAST") == broadcast


@pytest.mark.parametrize("gateway", ["10.80.4.1", "fd00::1"])
def test_a_default_route_leads_to_its_gateway(gateway):
    read = decoded(rtmsg, add_default_route(3, gateway))
    assert read.get_attr("RTA_GATEWAY") == gateway
    assert read.get_attr("RTA_OIF") == 3
    assert read["dst_len"] == 0


@given(st.ip_addresses())
def test_addresses_are_packed_as_the_library_does(address):
    assert pack_address(str(address)) == (address.packed, address.max_prefixlen)
    assert pack_address(f"{address}/7") == (address.packed, 7)


@given(st.dictionaries(st.integers(1, 0x3FFF), st.binary(max_size=70), max_size=8))
def test_what_is_written_is_read_again(values):
    body = b"".join(attribute(kind, value) for kind, value in values.items())
    assert attributes_of(body) == values
    assert attributes_of(attributes_of(nested(9, body))[9]) == values


@given(st.binary(max_size=300))
def test_whatever_the_bytes_are_reading_them_ends(body):
    for kind, value in iterate_attributes(body):
        assert 0 <= kind <= 0x3FFF
        assert value in body
        read_text(value)
    list(_split(body))


def test_messages_in_one_datagram_are_told_apart():
    first, second = message(20, 0, b"abc"), message(21, 0, b"defgh")
    assert [(kind, body) for _number, kind, _flags, body in _split(first + second)] == [
        (20, b"abc"),
        (21, b"defgh"),
    ]
