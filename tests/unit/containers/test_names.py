"""Names and ids of containers."""

from engine.containers.names import check_container_name, draw_container_id, draw_container_name


def test_a_drawn_name_is_a_valid_one():
    for attempt in range(20):
        name = draw_container_name(attempt)
        check_container_name(name)
        assert "_" in name


def test_later_attempts_draw_from_more_names():
    assert any(draw_container_name(10)[-1].isdigit() for _ in range(3))


def test_an_id_is_64_hexadecimal_digits_and_its_beginning_is_no_number():
    for _ in range(50):
        container_id = draw_container_id()
        assert len(container_id) == 64
        assert set(container_id) <= set("0123456789abcdef")
        assert not container_id[:12].isdigit()
