import pytest

from engine.images.documents import container_config, history_steps
from engine.oci.documents import ConfigSection, HealthCheckDocument, HistoryDocument, ImageDocument
from engine.store.image_records import ImageLayerRecord, LayerRecord
from engine.types import ChainId, DiffId


def layers(count):
    return [
        ImageLayerRecord(
            layer=LayerRecord(
                chain_id=ChainId(f"sha256:{number:064}"),
                diff_id=DiffId(f"sha256:{number:064}"),
                parent_chain_id=None,
                size_bytes=number * 10,
                entry_count=number,
            ),
            blob_digest=None,
            blob_media_type="",
            blob_size_bytes=0,
        )
        for number in range(1, count + 1)
    ]


def steps_of(history, count):
    return history_steps(ImageDocument(history=history), layers(count), {})


def test_each_step_gets_the_layer_it_made_and_empty_ones_none():
    history = (
        HistoryDocument(created_by="ADD rootfs"),
        HistoryDocument(created_by="ENV A=b", empty_layer=True),
        HistoryDocument(created_by="RUN make"),
    )
    steps = steps_of(history, 2)
    assert [(step.created_by, step.is_empty, step.size_bytes) for step in steps] == [
        ("ADD rootfs", False, 10),
        ("ENV A=b", True, 0),
        ("RUN make", False, 20),
    ]
    assert [step.position for step in steps] == [0, 1, 2]


@pytest.mark.parametrize(
    "history",
    [
        None,
        (),
        (HistoryDocument(created_by="squashed"),),
        (HistoryDocument(empty_layer=True),) * 2,
        (HistoryDocument(created_by="RUN"),) * 4,
    ],
)
def test_a_history_of_another_number_of_layers_is_not_believed(history):
    steps = steps_of(history, 3)
    assert [step.size_bytes for step in steps] == [10, 20, 30]
    assert all(step.created_by == "" and not step.is_empty for step in steps)


def test_a_layer_is_shared_by_as_many_images_as_have_it():
    found = layers(2)
    counts = {found[0].layer.chain_id: 3}
    steps = history_steps(ImageDocument(), found, counts)
    assert [step.shared_image_count for step in steps] == [3, 0]


def test_an_image_without_a_config_says_nothing_about_its_containers():
    config = container_config(ImageDocument())
    assert (config.command, config.entrypoint, config.environment, config.user) == ((), (), (), "")
    assert config.health_check is None


def test_a_command_that_is_a_text_is_one_for_the_shell():
    section = ConfigSection(cmd="echo one", labels={"a": None}, exposed_ports={"80/tcp": None})
    config = container_config(ImageDocument(config=section))
    assert config.command == ("/bin/sh", "-c", "echo one")
    assert config.labels == (("a", ""),)
    assert config.exposed_ports == ("80/tcp",)


def test_a_health_check_has_the_defaults_of_docker():
    section = ConfigSection(healthcheck=HealthCheckDocument(test=("CMD", "true"), interval=10**9))
    check = container_config(ImageDocument(config=section)).health_check
    assert check is not None
    assert (check.interval_seconds, check.timeout_seconds, check.retries) == (1.0, 30.0, 3)
    none = ConfigSection(healthcheck=HealthCheckDocument(test=("NONE",)))
    assert container_config(ImageDocument(config=none)).health_check is None
