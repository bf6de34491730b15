from __future__ import annotations

from typing import TYPE_CHECKING

from tui.settings import has_unicode_locale, load_settings, prepare_terminal

if TYPE_CHECKING:
    from pathlib import Path


def test_no_file_is_no_settings(tmp_path: Path) -> None:
    assert load_settings(tmp_path / "settings.toml").problems == ()


def test_mistakes_are_problems_and_the_rest_holds(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text('mouse = true\ncolour = 1\n[keys]\n"containers.stop" = "p"\nnothing = "x"\n')
    settings = load_settings(path)
    assert settings.has_mouse
    assert settings.keys == (("containers.stop", "p"),)
    text = "\n".join(settings.problems)
    assert "colour is not a setting" in text
    assert "no command has the id nothing" in text
    assert "containers.stop and of containers.pause" in text


def test_frames_are_capped_over_ssh_unless_the_person_chose() -> None:
    environment = {"SSH_CONNECTION": "x"}
    prepare_terminal(environment)
    assert environment["TEXTUAL_FPS"] == "20"
    assert environment["TEXTUAL_ANIMATIONS"] == "none"
    chosen = {"SSH_TTY": "x", "TEXTUAL_FPS": "5"}
    prepare_terminal(chosen)
    assert chosen["TEXTUAL_FPS"] == "5"


def test_a_locale_without_utf8_gets_ascii() -> None:
    assert has_unicode_locale({"LANG": "C.UTF-8"})
    assert not has_unicode_locale({"LANG": "de_DE.UTF-8", "LC_ALL": "C"})
    assert not has_unicode_locale({})
