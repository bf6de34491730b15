"""Options of `docker build` that can mean nothing here, each with what to do instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from engine.errors import InvalidInputError
from tui.cli.options import Option

if TYPE_CHECKING:
    from tui.cli.options import Arguments


class _Refused(NamedTuple):
    """One such option.

    Attributes:
        option: Known, and in no help.
        reason: Why it is refused.
        remedy: What to do instead.
        harmless: The value with which it asks for what is done anyway.
    """

    option: Option
    reason: str
    remedy: str
    harmless: str = ""


_LIMITS = (
    "a step has no limits of its own",
    "--ulimit limits each of its processes",
)
_LEAVE_OUT = "Leave it out"


def _switch(
    name: str, reason: str, remedy: str, *, short: str = "", harmless: str = ""
) -> _Refused:
    return _Refused(Option(name, short, "", "", is_hidden=True), reason, remedy, harmless)


def _value(name: str, reason: str, remedy: str, *, short: str = "", harmless: str = "") -> _Refused:
    option = Option(name, short, "VALUE", "", is_repeated=True, is_hidden=True)
    return _Refused(option, reason, remedy, harmless)


_REFUSED = (
    _value("allow", "--network host needs no permission here, and no step gets privileges",
           f"{_LEAVE_OUT}; `lamella run --privileged` runs what needs privileges"),
    _value("annotation", "manifests of builds have no annotations",
           "--label puts it into the image's configuration, where `inspect` shows it"),
    _value("attest", "no attestations are made",
           f"{_LEAVE_OUT}; `lamella builder history` says how the image was built"),
    _value("builder", "there is one builder, which is part of this program", _LEAVE_OUT),
    _value("cache-to", "a cache is kept in the store, and every image serves as one",
           "Push the image, and name it with --cache-from where it is built again"),
    _value("cgroup-parent", "steps of a build are in a control group of their own", _LEAVE_OUT),
    _value("cpu-period", *_LIMITS),
    _value("cpu-quota", *_LIMITS),
    _value("cpu-shares", *_LIMITS, short="c"),
    _value("cpuset-cpus", "steps of a build are not bound to processors",
           "--parallel COUNT says how many steps run at once; `taskset` in RUN binds a program"),
    _value("cpuset-mems", "steps of a build are not bound to memory nodes", _LEAVE_OUT),
    _value("isolation", "there is one isolation, by namespaces", _LEAVE_OUT, harmless="default"),
    _value("memory", *_LIMITS, short="m"),
    _value("memory-swap", *_LIMITS),
    _value("policy", "no policies are evaluated", _LEAVE_OUT),
    _value("provenance", "no attestations are made",
           f"{_LEAVE_OUT}; `lamella builder history` says how the image was built",
           harmless="false"),
    _value("sbom", "no bill of materials is made",
           "A scanner makes one of `lamella save IMAGE`", harmless="false"),
    _value("security-opt", "steps run with the isolation that every container has by default",
           _LEAVE_OUT),
    _switch("compress", "the context is read where it is, and sent nowhere", _LEAVE_OUT),
    _switch("debug", "there is no service whose messages could be shown",
            "--progress plain shows all that a build says", short="D"),
    _switch("disable-content-trust", "images are known by digests, and no signatures are read",
            _LEAVE_OUT, harmless="true"),
    _switch("stream", "the context is read where it is, and sent nowhere", _LEAVE_OUT),
    _switch("rm", "a step leaves no container that could be kept",
            "--on-failure shell looks into what a failed step has left", harmless="true"),
    _switch("force-rm", "a step leaves no container that could be kept",
            "--on-failure shell looks into what a failed step has left", harmless="true"),
)  # fmt: skip
OPTIONS = tuple(one.option for one in _REFUSED)


def refuse_options(arguments: Arguments) -> None:
    """Refuse what is asked for and cannot be.

    Raises:
        InvalidInputError: With a reason and a remedy.
    """
    for refused in _REFUSED:
        for text in arguments.texts(refused.option.name):
            is_off = not refused.option.value and text == "false" and refused.harmless != "true"
            if text != refused.harmless and not is_off:
                raise InvalidInputError(
                    f"--{refused.option.name}: {refused.reason}", hint=refused.remedy
                )
