"""What every engine does with networks: the real one and the one of memory."""

import ipaddress

import pytest

from engine.errors import (
    AmbiguousReferenceError,
    AttachmentError,
    InvalidInputError,
    NetworkNameInUseError,
    NetworkNotFoundError,
)
from engine.types import (
    AttachmentRequest,
    ContainerRequest,
    NetworkDriver,
    NetworkOptions,
    NetworkRequest,
    NetworkSubnet,
    PruneFilter,
    PublishedPort,
)


async def names(engine):
    return [one.name for one in await engine.list_networks()]


async def create(engine, name, **options):
    return await engine.create_network(NetworkRequest(name=name, **options))


async def test_three_networks_are_always_there(any_engine):
    networks = await any_engine.list_networks()
    assert [(one.name, one.driver, one.is_predefined) for one in networks] == [
        ("bridge", NetworkDriver.BRIDGE, True),
        ("host", NetworkDriver.HOST, True),
        ("none", NetworkDriver.NONE, True),
    ]
    assert networks == await any_engine.list_networks()
    assert len(networks[0].subnets) == 1
    assert not networks[1].subnets


async def test_a_network_is_made_found_and_removed(any_engine):
    made = await create(any_engine, "front", labels=(("use", "test"),), is_internal=True)
    assert (made.name, made.labels, made.is_internal) == ("front", (("use", "test"),), True)
    (subnet,) = made.subnets
    assert ipaddress.ip_address(subnet.gateway) == ipaddress.ip_network(subnet.subnet)[1]
    assert len(made.bridge) <= 15
    assert await names(any_engine) == ["bridge", "front", "host", "none"]
    for reference in ("front", made.network_id, made.network_id[:12]):
        found = await any_engine.inspect_network(reference)
        assert (found.network, found.members) == (made, ())
    await any_engine.remove_network("front")
    assert await names(any_engine) == ["bridge", "host", "none"]
    with pytest.raises(NetworkNotFoundError, match="network front not found"):
        await any_engine.inspect_network("front")


async def test_what_matches_several_ids_is_refused(any_engine):
    made = [await create(any_engine, f"net{number}") for number in range(17)]
    digits = [one.network_id[0] for one in made]
    doubled = next(digit for digit in digits if digits.count(digit) > 1)
    with pytest.raises(AmbiguousReferenceError):
        await any_engine.inspect_network(doubled)


async def test_networks_that_are_drawn_do_not_overlap(any_engine):
    made = [await create(any_engine, f"net{number}", has_ipv6=True) for number in range(8)]
    subnets = [ipaddress.ip_network(one.subnet) for network in made for one in network.subnets]
    assert len(subnets) == 16
    for one in subnets:
        assert not any(
            one.overlaps(other)
            for other in subnets
            if other is not one and other.version == one.version
        )
    assert all(one.is_private for one in subnets)
    sites = {one.network_address.packed[:6] for one in subnets if one.version == 6}
    assert len(sites) == 1  # one store, one site (RFC 4193)


async def test_what_is_asked_for_is_what_there_is(any_engine):
    asked = (
        NetworkSubnet(subnet="10.91.0.0/24", gateway="10.91.0.254", ip_range="10.91.0.128/25"),
        NetworkSubnet(subnet="fd12:3456::/64", gateway=""),
    )
    made = await create(any_engine, "mine", subnets=asked, has_ipv6=True)
    assert made.subnets == (
        asked[0],
        NetworkSubnet(subnet="fd12:3456::/64", gateway="fd12:3456::1"),
    )


@pytest.mark.parametrize(
    ("subnet", "message"),
    [
        (NetworkSubnet(subnet="10.91.0.1/24", gateway=""), "it should be 10.91.0.0/24"),
        (NetworkSubnet(subnet="nonsense", gateway=""), "invalid CIDR"),
        (NetworkSubnet(subnet="10.91.0.0/31", gateway=""), "no room"),
        (NetworkSubnet(subnet="127.0.0.0/24", gateway=""), "not for networks"),
        (NetworkSubnet(subnet="10.91.0.0/24", gateway="10.92.0.1"), "no matching subnet"),
        (NetworkSubnet(subnet="10.91.0.0/24", gateway="10.91.0.0"), "no matching subnet"),
        (NetworkSubnet(subnet="10.91.0.0/24", gateway="", ip_range="10.0.0.0/8"), "range"),
        (NetworkSubnet(subnet="fd00:1::/64", gateway=""), "IPv6"),
    ],
)
async def test_a_subnet_that_makes_no_sense_is_refused(any_engine, subnet, message):
    with pytest.raises(InvalidInputError, match=message):
        await create(any_engine, "odd", subnets=(subnet,))
    assert await names(any_engine) == ["bridge", "host", "none"]


async def test_a_subnet_that_overlaps_another_is_refused(any_engine):
    await create(any_engine, "first", subnets=(NetworkSubnet(subnet="10.91.0.0/16", gateway=""),))
    with pytest.raises(InvalidInputError, match="Pool overlaps with other one"):
        await create(
            any_engine, "second", subnets=(NetworkSubnet(subnet="10.91.4.0/24", gateway=""),)
        )


async def test_names_are_unique_and_some_are_taken_from_the_start(any_engine):
    await create(any_engine, "front")
    with pytest.raises(NetworkNameInUseError, match="network with name front already exists"):
        await create(any_engine, "front")
    for name in ("bridge", "host", "none", "default"):
        with pytest.raises(InvalidInputError, match="operation is not permitted on predefined"):
            await create(any_engine, name)
    for name in ("", "../up", "with space", "-dash", "x" * 129):
        with pytest.raises(InvalidInputError, match="invalid network name"):
            await create(any_engine, name)


async def test_what_is_always_there_stays(any_engine):
    for name in ("bridge", "host", "none"):
        with pytest.raises(InvalidInputError, match=f"{name} is a pre-defined network"):
            await any_engine.remove_network(name)
    assert (await any_engine.prune_networks(PruneFilter())).names == ()
    assert await names(any_engine) == ["bridge", "host", "none"]


@pytest.mark.parametrize(
    "options",
    [
        (("com.docker.network.driver.mtu", "12"),),
        (("com.docker.network.bridge.enable_icc", "maybe"),),
        (("unheard.of", "1"),),
    ],
)
async def test_an_option_that_would_be_ignored_is_refused(any_engine, options):
    with pytest.raises(InvalidInputError):
        await create(any_engine, "front", options=options)


async def test_prune_spares_what_a_container_is_to_be_in(any_engine, image):
    await create(any_engine, "used")
    await create(any_engine, "kept", labels=(("keep", "yes"),))
    await create(any_engine, "idle")
    options = NetworkOptions(attachments=(AttachmentRequest(network="used"),))
    await any_engine.create_container(ContainerRequest(image=image, name="web", network=options))
    pruned = await any_engine.prune_networks(PruneFilter(label_filters=("!keep=yes",)))
    assert pruned.names == ("idle",)
    assert await names(any_engine) == ["bridge", "host", "kept", "none", "used"]


async def test_a_container_is_put_into_networks_and_taken_out(any_engine, image):
    front = await create(any_engine, "front")
    await any_engine.create_container(ContainerRequest(image=image, name="web"))
    await any_engine.connect_network(
        "web", AttachmentRequest(network=front.network_id[:12], aliases=("www",))
    )
    details = await any_engine.inspect_container("web")
    default = (await any_engine.inspect_network("bridge")).network
    assert [one.network for one in details.network.attachments] == [
        default.network_id,
        front.network_id,
    ]
    with pytest.raises(AttachmentError, match="already exists in network front"):
        await any_engine.connect_network("web", AttachmentRequest(network="front"))
    await any_engine.disconnect_network("web", "bridge")
    await any_engine.disconnect_network("web", "front")
    with pytest.raises(AttachmentError, match="is not connected to network front"):
        await any_engine.disconnect_network("web", "front")
    await any_engine.disconnect_network("web", "front", is_forced=True)
    # Out of all of them it has none, and not the usual one again.
    assert (await any_engine.inspect_container("web")).network.mode == "disconnected"
    await any_engine.connect_network("web", AttachmentRequest(network="front"))
    details = await any_engine.inspect_container("web")
    assert [one.network for one in details.network.attachments] == [front.network_id]
    (summary,) = await any_engine.list_containers()
    assert summary.network_names == details.summary.network_names == ("front",)


@pytest.mark.parametrize(
    ("mode", "message"),
    [("host", "host network"), ("none", r"private \(none\) mode")],
)
async def test_one_without_networks_of_its_own_is_put_into_none(any_engine, image, mode, message):
    await create(any_engine, "front")
    await any_engine.create_container(
        ContainerRequest(image=image, name="web", network=NetworkOptions(mode=mode))
    )
    with pytest.raises(AttachmentError, match=message):
        await any_engine.connect_network("web", AttachmentRequest(network="front"))
    with pytest.raises(AttachmentError, match=message):
        await any_engine.disconnect_network("web", "front")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ipv4_address": "10.80.0.9"}, "supported on user defined networks only"),
        ({"aliases": ("www",)}, "only supported for user-defined networks"),
    ],
)
async def test_the_usual_network_gives_no_addresses_and_names_of_choice(
    any_engine, image, options, message
):
    wanted = NetworkOptions(attachments=(AttachmentRequest(network="bridge", **options),))
    with pytest.raises(InvalidInputError, match=message):
        await any_engine.create_container(ContainerRequest(image=image, network=wanted))


async def test_an_address_outside_of_the_network_is_refused(any_engine, image):
    await create(any_engine, "front", subnets=(NetworkSubnet(subnet="10.91.0.0/24", gateway=""),))
    for address in ("10.92.0.2", "fd00::2"):
        field = "ipv6_address" if ":" in address else "ipv4_address"
        attachment = AttachmentRequest(network="front", **{field: address})
        with pytest.raises(InvalidInputError, match="no configured subnet"):
            await any_engine.create_container(
                ContainerRequest(image=image, network=NetworkOptions(attachments=(attachment,)))
            )
    attachment = AttachmentRequest(network="nowhere")
    with pytest.raises(NetworkNotFoundError, match="network nowhere not found"):
        await any_engine.create_container(
            ContainerRequest(image=image, network=NetworkOptions(attachments=(attachment,)))
        )


async def test_a_container_is_taken_out_of_a_network_that_was_removed_meanwhile(any_engine, image):
    gone = await create(any_engine, "gone")
    await create(any_engine, "front")
    attachments = tuple(AttachmentRequest(network=name) for name in ("gone", "front"))
    for container, names_left in (("first", ("front",)), ("second", ())):
        wanted = NetworkOptions(attachments=attachments if names_left else attachments[:1])
        await any_engine.create_container(
            ContainerRequest(image=image, name=container, network=wanted)
        )
    await any_engine.remove_network("gone")
    for container, names_left in (("first", ("front",)), ("second", ())):
        await any_engine.disconnect_network(container, gone.network_id[:12])
        details = await any_engine.inspect_container(container)
        assert details.summary.network_names == names_left
        for reference in (gone.network_id, "gone", ""):
            with pytest.raises(NetworkNotFoundError):
                await any_engine.disconnect_network(container, reference)
        # It can go on elsewhere.
        if not names_left:
            await any_engine.connect_network(container, AttachmentRequest(network="front"))
            details = await any_engine.inspect_container(container)
            assert details.summary.network_names == ("front",)


@pytest.mark.parametrize("mode", ["host", "none"])
async def test_ports_that_nothing_can_lead_to_are_said_to_be_discarded(any_engine, image, mode):
    ports = (PublishedPort(container_port=80, host_port=8080),)
    for options, told in (
        (NetworkOptions(mode=mode, published_ports=ports), True),
        (NetworkOptions(mode=mode, publishes_all=True), True),
        (NetworkOptions(mode=mode), False),
        (NetworkOptions(published_ports=ports), False),
    ):
        created = await any_engine.create_container(ContainerRequest(image=image, network=options))
        text = f"Published ports are discarded when using {mode} network mode"
        assert (text in created.warnings) is told


async def test_whatever_the_host_does_not_give_networks_has_a_remedy(any_engine):
    for feature in await any_engine.list_network_features():
        assert feature.name
        assert feature.detail
        assert bool(feature.remedy) is not feature.is_available


async def test_one_that_asks_for_nothing_is_to_be_in_the_default_network(any_engine, image):
    created = await any_engine.create_container(ContainerRequest(image=image))
    details = await any_engine.inspect_container(created.container_id)
    assert details.summary.network_names == ("bridge",)
    # It is drawn when it starts: until then there is nothing to tell of it.
    assert details.attachments == ()
    await any_engine.connect_network(
        created.container_id, AttachmentRequest(network=(await create(any_engine, "back")).name)
    )
    details = await any_engine.inspect_container(created.container_id)
    assert details.summary.network_names == ("bridge", "back")
    assert [one.network_name for one in details.attachments] == ["bridge", "back"]
    assert not any(one.ipv4_address or one.interface for one in details.attachments)
