"""`history`, `images -a`, and `image ...`, which has every command for images by two words."""

import json
from dataclasses import replace

import pytest

from engine.types import ChangeKind, FileKind, LoadedImage
from tests.fakes import FakeEngine, file_entry


@pytest.fixture
def engine():
    fake = FakeEngine()
    fake.add_image("web:latest", steps=(("COPY rootfs /", 117_000_000), ("CMD [sh]", 0)))
    below = fake.add_image("")
    details = fake.images[below]
    fake.images[below] = replace(details, summary=replace(details.summary, is_intermediate=True))
    return fake


def test_history_has_dockers_fields_for_templates_and_json(lamella):
    _, out, _ = lamella("history", "web:latest", "--format", "{{.CreatedBy}}={{.Size}}")
    assert out.splitlines() == ["CMD [sh]=0B", "COPY rootfs /=117MB"]
    first = json.loads(lamella("history", "web:latest", "--format", "json")[1].splitlines()[1])
    assert first["ID"] == first["chain_id"][7:19]
    assert first["size_bytes"] == 117_000_000
    heads = lamella("history", "web:latest", "--format", r"table {{.ID}}\t{{.CreatedSince}}")[1]
    assert heads.splitlines()[0].split() == ["LAYER", "CREATED"]


def test_history_gives_exact_figures_and_ids_alone_when_asked_for(lamella):
    assert "117 MB" in lamella("history", "web:latest")[1]
    assert "117000000" in lamella("history", "--human=false", "web:latest")[1]
    assert lamella("history", "-q", "web:latest")[1].splitlines() == ["-", "0" * 12]
    whole = lamella("history", "-q", "--no-trunc", "web:latest")[1].splitlines()[1]
    assert whole == f"sha256:{200:064x}"


def test_an_image_that_another_one_stands_on_is_listed_with_a_only(lamella):
    form = ("--format", "{{.Repository}}")
    assert lamella("images", *form)[1].split() == ["web"]
    assert sorted(lamella("image", "ls", "-a", *form)[1].split()) == ["<none>", "web"]
    assert lamella("images", "-f", "dangling=true", *form)[1] == ""


@pytest.mark.parametrize(
    ("two", "one"),
    [
        (("image", "ls"), ("images",)),
        (("image", "list", "-q"), ("images", "-q")),
        (("image", "history", "web:latest"), ("history", "web:latest")),
        (("image", "inspect", "web:latest"), ("inspect", "--type", "image", "web:latest")),
        (
            ("image", "inspect", "-f", "{{.Id}}", "web:latest"),
            ("inspect", "-f", "{{.Id}}", "--type", "image", "web:latest"),
        ),
    ],
)
def test_two_words_do_what_one_does(lamella, two, one):
    assert lamella(*two) == lamella(*one)
    assert lamella(*two)[0] == 0


def test_image_inspect_finds_no_container(lamella, engine):
    engine.add_container("web-1", image="web:latest")
    assert lamella("inspect", "web-1")[0] == 0
    code, _, err = lamella("image", "inspect", "web-1")
    assert code == 1
    assert "No such image: web-1" in err
    assert lamella("image", "inspect", "--type", "container", "web-1")[0] == 125


def test_image_tag_and_rm_change_the_store(lamella, engine):
    assert lamella("image", "tag", "web:latest", "site:1")[0] == 0
    assert ("tag", "web:latest site:1") in engine.calls
    code, out, _ = lamella("image", "rm", "site:1")
    assert code == 0
    assert "Untagged: site:1\n" in out


def test_image_prune_of_what_does_not_dangle_is_all_of_it(lamella, engine):
    lamella("image", "prune", "-f", "--filter", "dangling=false")
    assert engine.calls == [("prune", "all images")]
    lamella("image", "prune", "-af", "--filter", "dangling=true")
    assert engine.calls[-1] == ("prune", "images")
    assert lamella("image", "prune", "-f", "--filter", "dangling=perhaps")[0] == 125


def test_rmi_by_force_of_what_is_not_here_is_no_error(lamella):
    assert lamella("rmi", "nothing")[0] == 1
    code, out, err = lamella("rmi", "-f", "nothing", "web:latest")
    assert code == 0
    assert "No such image: nothing" in err
    assert "Untagged: web:latest\n" in out


def test_a_load_says_what_docker_says(lamella, engine, tmp_path, monkeypatch):
    for _time in range(2):
        assert lamella("image", "load", "-i", str(tmp_path))[1] == "Loaded image: loaded:latest\n"
    image_id = engine.add_image("")
    nameless = LoadedImage(image_id=image_id, names=(), was_present=False)

    async def load(_archive, **_options):
        return (nameless,)

    monkeypatch.setattr(engine, "load_images", load)
    assert lamella("load", str(tmp_path))[1] == f"Loaded image ID: {image_id}\n"


def test_images_have_every_field_that_docker_has(lamella):
    fields = ("Containers", "CreatedAt", "CreatedSince", "Digest", "ID", "Repository", "Size",
              "SharedSize", "Tag", "UniqueSize", "VirtualSize")  # fmt: skip
    form = "|".join(f"{{{{.{field}}}}}" for field in fields)
    (line,) = lamella("images", "--format", form)[1].splitlines()
    assert line.split("|")[-4:] == ["N/A", "latest", "N/A", "117MB"]
    assert lamella("images", "--format", f"table {form}")[0] == 0


def test_a_switch_of_one_letter_is_turned_off_as_a_long_one(lamella):
    for off in ("-H=false", "--human=false"):
        assert "117000000" in lamella("history", off, "web:latest")[1]
    assert lamella("history", "-H=perhaps", "web:latest")[0] == 125


def test_every_command_for_images_has_two_words_as_dockers(lamella):
    help_text = lamella("image", "--help")[1]
    for name in ("history", "import", "inspect", "load", "ls", "prune", "pull", "push", "rm",
                 "save", "tag"):  # fmt: skip
        assert f"\n  {name} " in help_text
        assert lamella("image", name, "--help")[1].startswith(f"Usage: lamella image {name} ")


@pytest.fixture
def files(engine):
    """What the topmost layer of `files:1` has; step 1 of it."""
    engine.add_image(
        "files:1",
        steps=(("COPY rootfs /", 1000), ("COPY app /srv", 10)),
        files=(
            file_entry("srv", kind=FileKind.DIRECTORY, change=ChangeKind.UNCHANGED),
            file_entry("srv/app", size_bytes=5),
            file_entry("srv/old", change=ChangeKind.REMOVED, kind=FileKind.WHITEOUT),
        ),
    )
    engine.file_contents["srv/app"] = b"a\x1b[2Jb\n"


def test_history_lists_the_files_of_a_step_and_shows_one(lamella, files, monkeypatch):
    rows = lamella("history", "files:1")[1].splitlines()
    assert [row.split()[0] for row in rows] == ["STEP", "1", "0"]
    lines = lamella("history", "--files", "1", "files:1")[1].splitlines()
    assert [line.split()[0] for line in lines] == ["CHANGE", "unchanged", "added", "removed"]
    documents = json.loads(lamella("history", "--files=1", "--format", "json", "files:1")[1])
    assert [one["path"] for one in documents] == ["srv", "srv/app", "srv/old"]
    shown = ("history", "--files", "1", "--show", "/srv/app", "files:1")
    assert lamella(*shown) == (0, "a\x1b[2Jb\n", "")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert "\x1b" not in lamella(*shown)[1]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--show", "x"), "--show needs --files STEP"),
        (("--files", "one"), "the number of a step"),
        (("--files", "-1"), "the number of a step"),
        (("--files", "9"), "No such image: files:1 (step 9)"),
        (("--files", "1", "--format", "{{.ID}}"), "unknown format"),
        (("--files", "1", "--show", "none"), "Could not find the file none in files:1 (step 1)"),
        (("--files", "1", "--show", "srv"), "srv is no file: directory"),
    ],
)
def test_files_that_cannot_be_listed_or_shown_say_why(lamella, files, words, text):
    code, out, err = lamella("history", *words, "files:1")
    assert code != 0
    assert out == ""
    assert text in err


def test_rmi_takes_what_has_no_name_below_along_unless_told_otherwise(lamella, engine):
    below = engine.add_image("", steps=(("COPY rootfs /", 1000),))
    for words, parents in ((("--no-prune",), []), ((), [below])):
        top = engine.add_image("top:1", steps=(("COPY rootfs /", 1000), ("COPY a /", 10)))
        for image in [one for one in engine.images if one not in {top, below}]:
            del engine.images[image]
        lines = lamella("rmi", *words, "top:1")[1].splitlines()
        assert lines == [
            "Untagged: top:1", *(f"Deleted: {image}" for image in (top, *parents)),
        ]  # fmt: skip


def test_the_platform_of_a_load_is_passed_on(lamella, engine, tmp_path):
    assert lamella("load", "--platform", "linux/arm64", str(tmp_path / "a"))[0] == 0
    assert ("load", f"{tmp_path}/a linux/arm64") in engine.calls
    code, _, err = lamella("load", "--platform", "linux/a/b/c", str(tmp_path / "a"))
    assert code != 0
    assert "is an invalid platform" in err


def test_an_image_for_another_platform_is_neither_saved_nor_pushed(lamella, engine, tmp_path):
    text = "image with reference web:latest was found but does not provide the specified platform"
    target = tmp_path / "saved"
    for words in (("save", "-o", str(target)), ("push",)):
        code, _, err = lamella(*words, "--platform", "linux/arm64", "web:latest")
        assert code == 1
        assert f"{text} (linux/arm64)" in err
        assert lamella(*words, "--platform", "linux/amd64", "web:latest")[0] == 0
    assert target.exists()


def test_a_tree_shows_each_image_with_its_platform_and_what_the_disk_holds(lamella, engine):
    image_id = next(iter(engine.images))
    details = engine.images[image_id]
    summary = replace(
        details.summary,
        names=("web:1", "web:latest"),
        kept_bytes=40_000_000,
        container_count=1,
        platform="linux/arm/v7",
        digest=f"sha256:{'d' * 64}",
    )
    engine.images[image_id] = replace(details, summary=summary)
    code, out, err = lamella("images", "--tree")
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["IMAGE", "ID", "DISK", "USAGE", "CONTENT", "SIZE", "EXTRA"]
    sizes = ["157MB", "40MB", "U"]
    assert rows[1:] == [
        ["web:1", image_id[7:19], *sizes],
        ["web:latest", image_id[7:19], *sizes],
        ["└─", "linux/arm/v7", "d" * 12, *sizes],
    ]
    whole = lamella("images", "--tree", "--no-trunc", "-a")[1]
    assert image_id in whole
    assert "<untagged>" in whole
    for option in ("-q", "--digests", "--format=json"):
        code, out, err = lamella("images", "--tree", option)
        assert (code, out) == (125, "")
        assert "is not yet supported with --tree" in err
