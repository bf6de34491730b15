"""Records programs on a terminal: `python -m tests.record_terminals 'COMMAND' [NAME ...]`.

COMMAND gives a shell in a container with vim, htop, less, procps and bash-completion, such as
`lamella exec -it tools bash`. It runs in a pane of tmux. What it writes is kept byte for byte, and
at every check the screen and the cursor as tmux has them: another emulator's word for what ours
has to show. The recordings are in tests/unit/tui/recordings, one compressed JSON document each.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path

DIRECTORY = Path(__file__).resolve().parent / "unit" / "tui" / "recordings"
QUIET_SECONDS = 0.7
"""A program that has written nothing for so long has drawn what it wanted to draw."""
SIZES = ((80, 24), (120, 40))
CHECK = "check"
PREPARE = (
    "PS1='$ ' HISTFILE=/tmp/history; rm -rf /tmp/work; mkdir /tmp/work; cd /tmp/work; "
    ". /usr/share/bash-completion/bash_completion; touch apple-pie apple-tart; "
    "seq -f 'row %04g of a longer text' 1 500 > text; "
    "printf 'wide 你好！ e\\xcc\\x81 👍 end\\n' > wide; "
    "history -c; clear"
)

# What is typed, in tmux's names for keys; `resize COLUMNS ROWS` changes the size.
Step = str | tuple[str, ...]
SCENES: dict[str, tuple[Step, ...]] = {
    "vim": (
        "vim -N -u NONE text\r", CHECK, "ihello ", ("Escape",), "yyp", ":set number\r", "/0100\r",
        CHECK, ":split wide\r", CHECK, "Gonew line", ("Escape",), ":w\r", CHECK, ":qa!\r",
        "cat wide\r", CHECK,
    ),
    "htop": (
        "htop -d 100\r", CHECK, ("F5",), CHECK, ("F2",), ("Down", "Right", "Down"), CHECK,
        ("Escape",), ("F6",), CHECK, ("Escape",), "q", CHECK,
    ),
    "less": (
        "less text\r", CHECK, " ", ("Down", "Down"), CHECK, "G", "?row 0123\r", CHECK, "g", CHECK,
        "q", "less wide\r", CHECK, "q", CHECK,
    ),
    "top": ("top -d 100\r", CHECK, "c", "V", CHECK, "z", "x", CHECK, "q", CHECK),
    "bash": (
        "echo first\r", "echo second word\r", ("Up", "Up"), CHECK, "\r", ("C-r",), "sec", CHECK,
        ("C-e",), ("C-w",), "changed\r", "ls app", ("Tab",), ("Tab",), CHECK, "p", ("Tab",), "\r",
        "ls --col", ("Tab",), "=always /\r", CHECK, "seq 1 60\r", "cat wide\r", CHECK, ("C-l",),
        CHECK,
    ),
    "resize": (
        "vim -N -u NONE text\r", CHECK, "resize 100 30", CHECK, "resize 61 17", CHECK, ":qa!\r",
        "htop -d 100\r", "resize 90 28", CHECK, "resize 64 19", CHECK, "q",
        "less text\r", "resize 100 33", CHECK, " ", "resize 70 20", CHECK,
    ),
}  # fmt: skip


@dataclass
class Recorder:
    """One pane of a tmux server of its own."""

    directory: Path
    columns: int
    rows: int
    steps: list[dict[str, object]] = field(default_factory=list)
    taken: int = 0

    def tmux(self, *words: str) -> str:
        command = ["tmux", "-S", str(self.directory / "socket"), "-f", "/dev/null", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def start(self, command: str) -> None:
        waiting = f"tmux -S {self.directory / 'socket'} wait-for go; exec {command}"
        environment = {name: os.environ[name] for name in os.environ if name != "TMUX"}
        subprocess.run(
            ["tmux", "-S", str(self.directory / "socket"), "-f", "/dev/null",
             "new-session", "-d", "-x", str(self.columns), "-y", str(self.rows + 1), "sh", ";",
             "set", "-g", "default-terminal", "xterm-256color", ";",
             "set", "-g", "status", "off", ";",
             "set", "-g", "escape-time", "0", ";",
             "new-window", waiting, ";",
             "resize-window", "-x", str(self.columns), "-y", str(self.rows)],
            check=True, env=environment,
        )  # fmt: skip
        self.tmux("pipe-pane", "-o", f"cat > {self.output}")
        self.tmux("wait-for", "-S", "go")
        self.settle()

    @property
    def output(self) -> Path:
        return self.directory / "output"

    def settle(self) -> None:
        """Wait until nothing comes any more, and take what came."""
        before = -1
        while (now := self.output.stat().st_size if self.output.exists() else 0) != before:
            before = now
            threading.Event().wait(QUIET_SECONDS)
        data = self.output.read_bytes()[self.taken :]
        self.taken += len(data)
        if data:
            self.steps.append({"output": base64.b64encode(data).decode()})

    def check(self) -> None:
        screen = self.tmux("capture-pane", "-p").splitlines()
        place = self.tmux("display-message", "-p", "#{cursor_x} #{cursor_y} #{cursor_flag}").split()
        self.steps.append({"screen": screen, "cursor": [int(number) for number in place]})

    def perform(self, step: Step) -> None:
        if step == CHECK:
            self.check()
            return
        if isinstance(step, str) and step.startswith("resize "):
            _, columns, rows = step.split()
            self.tmux("resize-window", "-x", columns, "-y", rows)
            self.steps.append({"resize": [int(columns), int(rows)]})
        elif isinstance(step, str):
            for number, line in enumerate(step.split("\r")):
                if number:
                    self.tmux("send-keys", "Enter")
                if line:
                    self.tmux("send-keys", "-l", line)
        else:
            self.tmux("send-keys", *step)
        self.settle()


def record(name: str, columns: int, rows: int, command: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        recorder = Recorder(Path(directory), columns, rows)
        recorder.start(command)
        try:
            recorder.perform(PREPARE + "\r")
            recorder.steps.clear()
            recorder.perform(("C-l",))
            for step in SCENES[name]:
                recorder.perform(step)
        finally:
            recorder.tmux("kill-server")
    document = {"columns": columns, "rows": rows, "steps": recorder.steps}
    data = json.dumps(document, ensure_ascii=False).encode()
    path = DIRECTORY / f"{name}-{columns}x{rows}.json.gz"
    path.write_bytes(gzip.compress(data, mtime=0))


def main(words: list[str]) -> int:
    command, *names = words
    DIRECTORY.mkdir(exist_ok=True)
    for name in names or SCENES:
        for columns, rows in SIZES:
            record(name, columns, rows, command)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
