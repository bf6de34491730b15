"""Templates of `--format`, as Docker's users type them: `{{.Names}}`, `{{json .}}`, `{{range …}}`.

What Go's text/template calls actions, pipelines, variables and trimming, over records as JSON
documents. A template is read into a small tree and walked: nothing of it is ever executed as code.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from engine.errors import InvalidInputError
from engine.late_dataclasses import dataclass
from tui.cli.template_functions import FUNCTIONS, LabelMap, is_true, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tui.cli.documents import Document

_ACTION = re.compile(
    r"""\{\{(?P<left>-\s)?(?P<body>(?:"(?:\\.|[^"\\])*"|`[^`]*`|[^"`])*?)(?P<right>\s-)?\}\}""",
    re.DOTALL,
)
_TOKEN = re.compile(
    r"""(?P<space>\s+)|(?P<string>"(?:\\.|[^"\\])*")|(?P<raw>`[^`]*`)|(?P<number>-?\d+(?:\.\d+)?)
    |(?P<variable>\$\w*)|(?P<fields>(?:\.[A-Za-z_]\w*)+)|(?P<dot>\.)|(?P<name>[A-Za-z_]\w*)
    |(?P<sign>:=|=|\||\(|\)|,)""",
    re.VERBOSE,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}
_CONSTANTS: Mapping[str, Document] = {"true": True, "false": False, "nil": None}


class TemplateError(InvalidInputError):
    """A template that cannot be read, or asks for what is not there."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"--format: {reason}",
            hint="`--format json` shows every field; {{.Name}} picks one, {{json .}} all",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    """Fields of an operand, or of the current value when there is none."""

    of: _Operand | None
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Constant:
    value: Document


@dataclass(frozen=True, slots=True, kw_only=True)
class _Variable:
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Function:
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pipeline:
    """Commands; each has an operand and its arguments, and gets the one before as the last."""

    commands: tuple[tuple[_Operand, ...], ...]


_Operand: TypeAlias = _Field | _Constant | _Variable | _Function | _Pipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class _Text:
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Print:
    """Writes a value, or with a variable keeps it."""

    pipeline: _Pipeline
    variable: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """`if`, `with` or `range`."""

    kind: str
    pipeline: _Pipeline
    variables: tuple[str, ...]
    body: tuple[_Node, ...]
    otherwise: tuple[_Node, ...]


_Node: TypeAlias = _Text | _Print | _Block


class Template:
    """A template that has been read."""

    def __init__(self, text: str) -> None:
        """Read a template.

        Raises:
            TemplateError: It is none.
        """
        try:
            self._nodes = _Parser(text).parse()
        except RecursionError:
            raise TemplateError("the template is nested too deeply") from None

    def render(self, document: Document, *, further: Mapping[str, Document] | None = None) -> str:
        """Fill the template in.

        Args:
            document: What `.` is.
            further: Fields that `.` has beside those that are shown as JSON.

        Raises:
            TemplateError: It asks for a field that is not there.
        """
        return "".join(_Walk(document, further or {}).walk(self._nodes, document))


class _Parser:
    def __init__(self, text: str) -> None:
        self._pieces = tuple(_split(text))
        self._at = 0

    def parse(self) -> tuple[_Node, ...]:
        nodes, ended = self._nodes()
        if ended:
            raise TemplateError(f"unexpected {{{{{ended}}}}}")
        return nodes

    def _nodes(self) -> tuple[tuple[_Node, ...], str]:
        """Read up to `end` or `else`, or to the end; says which."""
        nodes: list[_Node] = []
        while self._at < len(self._pieces):
            is_action, text = self._pieces[self._at]
            self._at += 1
            if not is_action:
                nodes.append(_Text(text=text))
                continue
            word, _, rest = text.partition(" ")
            if text.startswith("/*"):
                continue
            if word in {"if", "with", "range"}:
                nodes.append(self._block(word, rest))
            elif word in {"end", "else"}:
                return tuple(nodes), text
            else:
                pipeline, variables = _Line(text).read()
                if len(variables) > 1:
                    raise TemplateError(f"too many variables: {text}")
                nodes.append(_Print(pipeline=pipeline, variable="".join(variables)))
        return tuple(nodes), ""

    def _block(self, kind: str, condition: str) -> _Block:
        pipeline, variables = _Line(condition).read()
        body, ended = self._nodes()
        otherwise: tuple[_Node, ...] = ()
        if ended.startswith("else "):
            word, _, rest = ended.removeprefix("else ").strip().partition(" ")
            if word != kind:
                raise TemplateError(f"unexpected {{{{{ended}}}}}")
            otherwise, ended = (self._block(word, rest),), "end"
        elif ended == "else":
            otherwise, ended = self._nodes()
        if ended != "end":
            raise TemplateError(f"{{{{{kind}}}}} without {{{{end}}}}")
        return _Block(
            kind=kind, pipeline=pipeline, variables=variables, body=body, otherwise=otherwise
        )


def _split(text: str) -> Iterator[tuple[bool, str]]:
    """Text and actions in turn, with the blanks gone that `{{-` and `-}}` take away."""
    at = 0
    is_trimmed = False
    for match in _ACTION.finditer(text):
        before = text[at : match.start()]
        before = before.lstrip() if is_trimmed else before
        before = before.rstrip() if match["left"] else before
        if "{{" in before:
            raise TemplateError(f"unclosed action: {before[before.index('{{') :]}")
        if before:
            yield False, before
        yield (
            True,
            " ".join(match["body"].split()) if '"' not in match["body"] else match["body"].strip(),
        )
        at, is_trimmed = match.end(), bool(match["right"])
    rest = text[at:].lstrip() if is_trimmed else text[at:]
    if "{{" in rest:
        raise TemplateError(f"unclosed action: {rest[rest.index('{{') :]}")
    if rest:
        yield False, rest


class _Line:
    """One action's pipeline."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, str, bool]] = []
        """Kind, text, and whether it stands right behind the one before."""
        at, is_close = 0, False
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None or match.lastgroup is None:
                raise TemplateError(f"unexpected {text[at]!r} in {{{{{text}}}}}")
            if match.lastgroup != "space":
                self._tokens.append((match.lastgroup, match[0], is_close))
            is_close = match.lastgroup != "space"
            at = match.end()
        self._at = 0

    def read(self) -> tuple[_Pipeline, tuple[str, ...]]:
        """Read the pipeline, and the variables that take its value."""
        variables: tuple[str, ...] = ()
        signs = [token[1] for token in self._tokens]
        for sign in (":=", "="):
            if sign in signs:
                place = signs.index(sign)
                variables = tuple(
                    text for kind, text, _ in self._tokens[:place] if kind == "variable"
                )
                self._at = place + 1
                break
        pipeline = self._pipeline()
        if self._at < len(self._tokens):
            self._fail()
        return pipeline, variables

    def _pipeline(self) -> _Pipeline:
        commands = [self._command()]
        while self._peek() == "|":
            self._at += 1
            commands.append(self._command())
        return _Pipeline(commands=tuple(commands))

    def _command(self) -> tuple[_Operand, ...]:
        operands: list[_Operand] = []
        while self._at < len(self._tokens) and self._peek() not in {"|", ")"}:
            operands.append(self._operand())
        if not operands:
            self._fail()
        return tuple(operands)

    def _operand(self) -> _Operand:
        kind, text, _ = self._tokens[self._at]
        self._at += 1
        operand: _Operand
        match kind:
            case "string":
                operand = _Constant(value=_unquoted(text))
            case "raw":
                operand = _Constant(value=text[1:-1])
            case "number":
                operand = _Constant(value=float(text) if "." in text else int(text))
            case "dot":
                operand = _Field(of=None, names=())
            case "fields":
                return _Field(of=None, names=tuple(text[1:].split(".")))
            case "variable":
                operand = _Variable(name=text)
            case "name" if text in _CONSTANTS:
                operand = _Constant(value=_CONSTANTS[text])
            case "name" if text in FUNCTIONS:
                return _Function(name=text)
            case "name":
                raise TemplateError(f"no such function: {text}")
            case _ if text == "(":
                operand = self._pipeline()
                if self._peek() != ")":
                    self._fail()
                self._at += 1
            case _:
                self._fail()
        if self._at < len(self._tokens):
            kind, text, is_close = self._tokens[self._at]
            if kind == "fields" and is_close:
                self._at += 1
                return _Field(of=operand, names=tuple(text[1:].split(".")))
        return operand

    def _peek(self) -> str:
        return self._tokens[self._at][1] if self._at < len(self._tokens) else ""

    def _fail(self) -> NoReturn:
        raise TemplateError(f"this cannot be read: {{{{{self._text}}}}}")


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[0]), text[1:-1])


class _Walk:
    """Fills one document in."""

    def __init__(self, document: Document, further: Mapping[str, Document]) -> None:
        self._document = document
        self._further = further
        self._variables: dict[str, Document] = {"$": document}

    def walk(self, nodes: tuple[_Node, ...], current: Document) -> Iterator[str]:
        for node in nodes:
            match node:
                case _Text():
                    yield node.text
                case _Print():
                    value = self._value(node.pipeline, current)
                    if node.variable:
                        self._variables[node.variable] = value
                    else:
                        yield shown(value)
                case _Block():
                    yield from self._block(node, current)

    def _block(self, node: _Block, current: Document) -> Iterator[str]:
        value = self._value(node.pipeline, current)
        if not is_true(value):
            yield from self.walk(node.otherwise, current)
        elif node.kind == "range":
            for key, item in _items(value):
                names = node.variables
                values = (item,) if len(names) == 1 else (key, item)
                self._variables.update(zip(names, values, strict=False))
                yield from self.walk(node.body, item)
        else:
            self._variables.update((name, value) for name in node.variables)
            yield from self.walk(node.body, value if node.kind == "with" else current)

    def _value(self, operand: _Operand, current: Document) -> Document:
        match operand:
            case _Constant():
                return operand.value
            case _Variable():
                if operand.name not in self._variables:
                    raise TemplateError(f"no such variable: {operand.name}")
                return self._variables[operand.name]
            case _Field():
                value = current if operand.of is None else self._value(operand.of, current)
                for name in operand.names:
                    value = self._field(value, name)
                return value
            case _Function():
                return self._call(operand.name, ())
            case _Pipeline():
                passed: tuple[Document, ...] = ()
                for command in operand.commands:
                    passed = (self._command(command, current, passed),)
                return passed[0]

    def _command(
        self, command: tuple[_Operand, ...], current: Document, passed: tuple[Document, ...]
    ) -> Document:
        first, *rest = command
        arguments = (*(self._value(operand, current) for operand in rest), *passed)
        if isinstance(first, _Function):
            return self._call(first.name, arguments)
        value = self._value(first, current)
        if not arguments:
            return value
        # The one method that documents have: `.Label "name"`.
        if isinstance(value, LabelMap) and len(arguments) == 1:
            return value.get(str(arguments[0]), "")
        raise TemplateError(f"not a function: {shown(value)}")

    def _call(self, name: str, arguments: tuple[Document, ...]) -> Document:
        try:
            return FUNCTIONS[name](*arguments)
        except (TypeError, ValueError, IndexError, KeyError) as error:
            raise TemplateError(f"{name} cannot be used like this: {error}") from None

    def _field(self, value: Document, name: str) -> Document:
        if isinstance(value, LabelMap):
            return value.get(name, "<no value>")
        if isinstance(value, dict):
            if name in value:
                return value[name]
            if value is self._document and name in self._further:
                return self._further[name]
            known = ", ".join(key for key in value if key[:1].isupper()) or ", ".join(value)
            raise TemplateError(f"there is no field {name}, only {known}")
        if value is None:
            raise TemplateError(f"there is no field {name} of nothing")
        raise TemplateError(f"there is no field {name} of {shown(value)}")


def _items(value: Document) -> Iterator[tuple[Document, Document]]:
    if isinstance(value, dict):
        yield from sorted(value.items())
    elif isinstance(value, list):
        yield from enumerate(value)
    else:
        raise TemplateError(f"range goes over lists and maps, not {shown(value)}")
