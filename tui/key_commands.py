"""Every key of the application, in one table; tui.keymap makes bindings, footer and help of it.

The letters are those that users of lazydocker, dive and k9s would guess. Control is used only for
paging, killing, refreshing and the palette: many terminals and tmux keep the other combinations.
"""

from __future__ import annotations

from enum import StrEnum

from engine.late_dataclasses import dataclass


class Context(StrEnum):
    """Where a key works."""

    EVERYWHERE = "Everywhere"
    LISTS = "Moving"
    IMAGES = "Images"
    LAYERS = "Layers"
    CONTAINERS = "Containers"
    DETAIL = "Details"
    FILES = "Files"
    LOGS = "Logs"
    VOLUMES = "Volumes"
    PICKER = "Choosing a file"
    REGISTRY = "Registry"
    REMOTE_IMAGE = "Image in a registry"
    TERMINAL = "Terminal"
    HISTORY = "Terminal, scrolled back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One thing that a key does.

    Attributes:
        command_id: Stays the same when keys change; settings.toml names it.
        action: Textual action, with its namespace.
        keys: Default keys, separated by commas.
        label: As the footer shows it.
        explanation: One sentence for help, palette and tooltip.
        command_line: What does the same in a shell, or empty.
        is_in_footer: Whether the footer has room for it.
        is_in_palette: Moving about is not worth an entry.
    """

    command_id: str
    context: Context
    action: str
    keys: str
    label: str
    explanation: str
    command_line: str = ""
    is_in_footer: bool = False
    is_in_palette: bool = True


def _command(
    command_id: str,
    context: Context,
    action: str,
    keys: str,
    label: str,
    explanation: str,
    command_line: str = "",
    *,
    is_in_footer: bool = False,
    is_in_palette: bool = True,
) -> Command:
    return Command(
        command_id=command_id,
        context=context,
        action=action,
        keys=keys,
        label=label,
        explanation=explanation,
        command_line=command_line,
        is_in_footer=is_in_footer,
        is_in_palette=is_in_palette,
    )


_E, _L, _I = Context.EVERYWHERE, Context.LISTS, Context.IMAGES
_Y, _C, _D = Context.LAYERS, Context.CONTAINERS, Context.DETAIL
_F, _G, _V, _P = Context.FILES, Context.LOGS, Context.VOLUMES, Context.PICKER
_R, _M = Context.REGISTRY, Context.REMOTE_IMAGE
_T, _H = Context.TERMINAL, Context.HISTORY

COMMANDS: tuple[Command, ...] = (
    # Everywhere
    _command("help", _E, "screen.help", "question_mark", "help",
             "Show every key of the pane that has the focus", "lamella --help", is_in_footer=True),
    _command("palette", _E, "app.command_palette", "colon,ctrl+p", "commands",
             "Search every command by name", is_in_footer=True, is_in_palette=False),
    _command("filter", _E, "screen.filter", "slash", "filter",
             "Show only rows with a text; in a log: search", is_in_footer=True),
    _command("back", _E, "screen.back", "escape", "back",
             "Close, clear the filter, or go one pane back", is_in_palette=False),
    _command("quit", _E, "app.quit", "q,ctrl+c,ctrl+q", "quit",
             "Quit; containers run on", is_in_footer=True),
    _command("pane.images", _E, "screen.pane('images')", "1", "images", "Go to the images"),
    _command("pane.layers", _E, "screen.pane('layers')", "2", "layers", "Go to the layers"),
    _command("pane.containers", _E, "screen.pane('containers')", "3", "containers",
             "Go to the containers"),
    _command("pane.detail", _E, "screen.pane('detail')", "4", "details", "Go to the details"),
    _command("pane.next", _E, "screen.next_pane(1)", "tab", "next pane", "Go to the next pane",
             is_in_palette=False),
    _command("pane.previous", _E, "screen.next_pane(-1)", "shift+tab", "previous pane",
             "Go to the previous pane", is_in_palette=False),
    _command("tab.next", _E, "screen.next_tab(1)", "right_square_bracket", "next tab",
             "Show the next tab of the details"),
    _command("tab.previous", _E, "screen.next_tab(-1)", "left_square_bracket", "previous tab",
             "Show the previous tab of the details"),
    _command("zoom", _E, "screen.zoom", "plus", "zoom",
             "Let the pane fill the screen, or go back to all panes"),
    _command("yank", _E, "screen.yank", "y", "copy",
             "Copy the id, name, digest, path or line under the cursor"),
    _command("refresh", _E, "screen.refresh_all", "ctrl+r", "refresh", "Read the store afresh"),
    _command("background", _E, "screen.background", "B", "background",
             "Show what goes on in the background, to watch or to cancel it"),
    _command("registry", _E, "screen.registry", "P", "pull",
             "Look for images in registries, look into them, and pull them",
             "lamella search TERM / lamella pull NAME"),
    _command("mouse", _E, "app.toggle_mouse", "M", "mouse", "Switch the mouse on or off"),
    _command("volumes", _E, "screen.volumes", "v", "volumes",
             "Show the volumes: who uses them, how large they are", "lamella volume ls"),
    _command("host", _E, "screen.host", "exclamation_mark", "host",
             "Show what this host gives and lacks, with remedies", "lamella info"),
    _command("terminals", _E, "screen.terminals", "T", "terminals",
             "Go back to a terminal that was left and goes on"),
    _command("events", _E, "screen.events", "V", "events",
             "Show what happened in the last day, and what happens", "lamella events --since 24h"),
    _command("prune", _E, "screen.prune", "X", "clean up",
             "Measure what nobody uses, and remove it", "lamella system prune"),
    # Moving
    _command("move.down", _L, "move(1)", "down,j", "down", "Next row", is_in_palette=False),
    _command("move.up", _L, "move(-1)", "up,k", "up", "Previous row", is_in_palette=False),
    _command("move.page_down", _L, "move_page(1.0)", "pagedown,ctrl+f", "page down",
             "One page down", is_in_palette=False),
    _command("move.page_up", _L, "move_page(-1.0)", "pageup,ctrl+b", "page up", "One page up",
             is_in_palette=False),
    _command("move.half_down", _L, "move_page(0.5)", "ctrl+d", "half page down",
             "Half a page down", is_in_palette=False),
    _command("move.half_up", _L, "move_page(-0.5)", "ctrl+u", "half page up", "Half a page up",
             is_in_palette=False),
    _command("move.top", _L, "move_to(0)", "g,home", "top", "First row", is_in_palette=False),
    _command("move.bottom", _L, "move_to(-1)", "G,end", "bottom", "Last row",
             is_in_palette=False),
    # Images
    _command("images.open", _I, "screen.open_image", "enter", "layers",
             "Walk the image's layers", "lamella history IMAGE", is_in_footer=True),
    _command("images.run", _I, "screen.run_image", "r", "run",
             "Run a container of this image, in the background or with a terminal",
             "lamella run -d IMAGE [COMMAND] / lamella run -it IMAGE [COMMAND]",
             is_in_footer=True),
    _command("images.push", _I, "screen.push_image", "p", "push",
             "Give the image to a registry, under this name or another one",
             "lamella tag IMAGE NAME / lamella push NAME"),
    _command("images.log_in", _I, "screen.log_in", "l", "log in",
             "Tell a registry who you are", "lamella login [REGISTRY]"),
    _command("images.log_out", _I, "screen.log_out", "o", "log out",
             "Forget who you are to a registry", "lamella logout [REGISTRY]"),
    _command("images.load", _I, "screen.load_image", "L", "load",
             "Load an image archive or an OCI layout from disk", "lamella load FILE",
             is_in_footer=True),
    _command("images.save", _I, "screen.save_image", "S", "save",
             "Save images to an archive or as an OCI layout",
             "lamella save -o FILE IMAGE...", is_in_footer=True),
    _command("images.import", _I, "screen.import_image", "I", "import",
             "Make an image of the tar of a root filesystem", "lamella import FILE NAME"),
    _command("images.demo", _I, "screen.make_demo", "D", "demo",
             "Make the demo: a starter image, three layers, three containers", "lamella demo",
             is_in_footer=True),
    _command("images.tag", _I, "screen.tag_image", "t", "tag", "Give the image another name",
             "lamella tag IMAGE NAME"),
    _command("images.remove", _I, "screen.remove_image", "d", "remove",
             "Remove the image, or one of its names", "lamella rmi IMAGE", is_in_footer=True),
    _command("images.mark", _I, "toggle_mark", "space", "mark",
             "Mark the image, or not: what is marked is saved or removed together"),
    _command("images.inspect", _I, "screen.tab('inspect')", "i", "inspect",
             "Show the image's config", "lamella inspect IMAGE"),
    # Layers
    _command("layers.open", _Y, "screen.open_layer", "enter", "files",
             "Walk the layer's files", is_in_footer=True),
    _command("layers.run", _Y, "screen.run_image", "r", "run",
             "Run a container of this image, in the background or with a terminal",
             "lamella run -d IMAGE [COMMAND] / lamella run -it IMAGE [COMMAND]"),
    _command("layers.inspect", _Y, "screen.tab('inspect')", "i", "inspect",
             "Show the image's config", "lamella inspect IMAGE"),
    # Containers
    _command("containers.open", _C, "screen.open_container", "enter", "details",
             "Go to the container's details", "lamella logs -f CONTAINER", is_in_footer=True),
    _command("containers.logs", _C, "screen.tab('logs')", "l", "logs", "Show the log",
             "lamella logs -f CONTAINER"),
    _command("containers.stop", _C, "screen.stop_or_start", "s", "stop/start",
             "Stop the container if it runs, else start it",
             "lamella stop CONTAINER / lamella start CONTAINER", is_in_footer=True),
    _command("containers.pause", _C, "screen.pause_or_unpause", "p", "pause",
             "Freeze every process of the container, or let it go on",
             "lamella pause CONTAINER / lamella unpause CONTAINER", is_in_footer=True),
    _command("containers.restart", _C, "screen.restart_container", "r", "restart",
             "Stop the container, then start it", "lamella restart CONTAINER", is_in_footer=True),
    _command("containers.kill", _C, "screen.kill_container", "ctrl+k", "kill",
             "Send a signal, SIGKILL unless another is chosen", "lamella kill CONTAINER"),
    _command("containers.remove", _C, "screen.remove_container", "d", "remove",
             "Remove the container with its writable layer and its log",
             "lamella rm CONTAINER", is_in_footer=True),
    _command("containers.rename", _C, "screen.rename_container", "N", "rename",
             "Give the container another name", "lamella rename CONTAINER NAME"),
    _command("containers.update", _C, "screen.update_container", "u", "change",
             "Change limits and restart policy of the container, also while it runs",
             "lamella update CONTAINER"),
    _command("containers.all", _C, "screen.toggle_all", "A", "all/running",
             "Show all containers, or only those that run", "lamella ps -a"),
    _command("containers.inspect", _C, "screen.tab('inspect')", "i", "inspect",
             "Show everything about the container", "lamella inspect CONTAINER"),
    _command("containers.shell", _C, "screen.open_shell", "e", "shell",
             "Open a terminal with bash in the container, or sh where there is none",
             "lamella exec -it CONTAINER bash", is_in_footer=True),
    _command("containers.exec", _C, "screen.open_exec", "E", "exec",
             "Open a terminal with a program of your choice in the container",
             "lamella exec -it CONTAINER COMMAND"),
    _command("containers.attach", _C, "screen.attach_container", "a", "attach",
             "Open a terminal on the container's own program", "lamella attach CONTAINER"),
    _command("containers.commit", _C, "screen.commit_container", "c", "commit",
             "Make an image of the container: its changes become one more layer",
             "lamella commit CONTAINER NAME", is_in_footer=True),
    _command("containers.copy_out", _C, "screen.copy_out", "o", "copy out",
             "Copy files of the container to this host", "lamella cp CONTAINER:PATH PATH"),
    _command("containers.copy_in", _C, "screen.copy_in", "O", "copy in",
             "Copy files of this host into the container", "lamella cp PATH CONTAINER:PATH"),
    _command("containers.export", _C, "screen.export_container", "x", "export",
             "Write all files of the container as a tar archive",
             "lamella export -o FILE CONTAINER"),
    # Files
    _command("files.fold", _F, "fold", "enter,space", "view",
             "Show the file; open or close the directory",
             "lamella history --files STEP --show PATH IMAGE",
             is_in_footer=True, is_in_palette=False),
    _command("files.open", _F, "fold_open", "l,right", "open", "Open the directory",
             is_in_palette=False),
    _command("files.close", _F, "fold_close", "h,left", "close",
             "Close the directory, or go to the one above", is_in_palette=False),
    _command("files.fold_all", _F, "fold_all", "z", "fold all",
             "Close every directory, or open them all", is_in_footer=True),
    _command("files.added", _F, "toggle_change('added')", "a", "+ added",
             "Show or hide what the layer adds", is_in_footer=True),
    _command("files.modified", _F, "toggle_change('modified')", "m", "~ changed",
             "Show or hide what the layer changes", is_in_footer=True),
    _command("files.removed", _F, "toggle_change('removed')", "x", "- removed",
             "Show or hide what the layer removes", is_in_footer=True),
    _command("files.unchanged", _F, "toggle_change('unchanged')", "u", "unchanged",
             "Show or hide directories that only lead to a change"),
    _command("files.sort", _F, "toggle_sort", "s", "sort", "Sort by size, or by name",
             is_in_footer=True),
    _command("files.next_layer", _F, "screen.next_layer(1)", "J", "layer below",
             "Show the files of the layer below"),
    _command("files.previous_layer", _F, "screen.next_layer(-1)", "K", "layer above",
             "Show the files of the layer above"),
    _command("files.attributes", _F, "toggle_attributes", "p", "attributes",
             "Show or hide mode and owner"),
    # Logs
    _command("logs.follow", _G, "toggle_follow", "f", "follow",
             "Follow the log's end, or stay where you are", "lamella logs -f CONTAINER",
             is_in_footer=True),
    _command("logs.timestamps", _G, "toggle_timestamps", "t", "times",
             "Show or hide the time of each line", "lamella logs -t CONTAINER",
             is_in_footer=True),
    _command("logs.wrap", _G, "toggle_wrap", "w", "wrap", "Wrap long lines, or cut them",
             is_in_footer=True),
    _command("logs.only", _G, "screen.filter_log", "F", "only",
             "Show only the lines that contain a text"),
    _command("logs.next", _G, "next_hit(1)", "n", "next hit", "Next hit of the search",
             is_in_palette=False),
    _command("logs.previous", _G, "next_hit(-1)", "N", "previous hit",
             "Previous hit of the search", is_in_palette=False),
    _command("logs.left", _G, "scroll_sideways(-8)", "left,h", "left", "Scroll left",
             is_in_palette=False),
    _command("logs.right", _G, "scroll_sideways(8)", "right,l", "right", "Scroll right",
             is_in_palette=False),
    _command("logs.save", _G, "screen.save_log", "S", "save", "Save the log to a file",
             "lamella logs CONTAINER > FILE", is_in_footer=True),
    # Terminal: every other key is the program's
    _command("terminal.leave", _T, "screen.leave", "ctrl+right_square_bracket", "leave",
             "Leave the terminal; the program goes on", is_in_footer=True, is_in_palette=False),
    _command("terminal.back", _T, "history_page(-1.0)", "shift+pageup", "scroll back",
             "Scroll back to select and copy; pgup as well, unless a program fills the screen",
             is_in_palette=False),
    # Terminal, scrolled back
    _command("history.select", _H, "history_select", "v,space", "select",
             "Begin a selection, or give it up", is_in_footer=True, is_in_palette=False),
    _command("history.copy", _H, "history_copy", "y,enter", "copy",
             "Copy the selection, or the line, and go back to the program",
             is_in_footer=True, is_in_palette=False),
    _command("history.full_screen", _H, "screen.full_screen", "f", "full screen",
             "Give the whole terminal to the program until ctrl-] or ctrl-p ctrl-q",
             is_in_footer=True, is_in_palette=False),
    _command("history.leave", _H, "history_leave", "escape,q,ctrl+c", "back to the program",
             "Go to the end; keys are the program's again", is_in_footer=True,
             is_in_palette=False),
    _command("history.help", _H, "screen.help", "question_mark", "help",
             "Show these keys", is_in_footer=True, is_in_palette=False),
    _command("history.up", _H, "history_move(-1, 0)", "up,k", "up", "Previous line",
             is_in_palette=False),
    _command("history.down", _H, "history_move(1, 0)", "down,j", "down", "Next line",
             is_in_palette=False),
    _command("history.left", _H, "history_move(0, -1)", "left,h", "left", "Previous column",
             is_in_palette=False),
    _command("history.right", _H, "history_move(0, 1)", "right,l", "right", "Next column",
             is_in_palette=False),
    _command("history.first", _H, "history_column(0)", "home,0", "line start",
             "First column", is_in_palette=False),
    _command("history.last", _H, "history_column(-1)", "end,dollar_sign", "line end",
             "Last column", is_in_palette=False),
    _command("history.page_up", _H, "history_page(-1.0)", "pageup,shift+pageup,ctrl+b", "page up",
             "One page back", is_in_palette=False),
    _command("history.page_down", _H, "history_page(1.0)", "pagedown,shift+pagedown,ctrl+f",
             "page down", "One page towards the end", is_in_palette=False),
    _command("history.half_up", _H, "history_page(-0.5)", "ctrl+u", "half page up",
             "Half a page back", is_in_palette=False),
    _command("history.half_down", _H, "history_page(0.5)", "ctrl+d", "half page down",
             "Half a page towards the end", is_in_palette=False),
    _command("history.top", _H, "history_to(0)", "g", "oldest", "Oldest line",
             is_in_palette=False),
    _command("history.bottom", _H, "history_to(-1)", "G", "newest", "Newest line",
             is_in_palette=False),
    # Registry: what was found, and tags
    _command("registry.peek", _R, "screen.peek", "enter", "look into it",
             "Show the layers of an image without pulling it", "lamella peek NAME",
             is_in_footer=True),
    _command("registry.pull", _R, "screen.pull", "P", "pull", "Pull an image",
             "lamella pull NAME", is_in_footer=True),
    _command("registry.tags", _R, "screen.tags", "t", "tags", "List the repository's tags",
             "lamella search --list-tags NAME", is_in_footer=True),
    _command("registry.delete", _R, "screen.delete", "d", "delete",
             "Delete the image from the registry", "lamella delete NAME:TAG",
             is_in_footer=True, is_in_palette=False),
    _command("registry.search", _R, "screen.search", "slash", "search",
             "Search for images; among tags: show only those with a text",
             "lamella search TERM", is_in_footer=True),
    _command("registry.background", _R, "screen.background", "B", "background",
             "Show what goes on in the background, to watch or to cancel it",
             is_in_palette=False),
    _command("registry.help", _R, "screen.help", "question_mark", "help", "Show these keys",
             is_in_footer=True, is_in_palette=False),
    _command("registry.palette", _R, "app.command_palette", "colon,ctrl+p", "commands",
             "Search the commands of this screen by name", is_in_palette=False),
    _command("registry.close", _R, "screen.cancel", "q", "close", "Go back",
             is_in_palette=False),
    # Image in a registry
    _command("remote.open", _M, "screen.open_step", "enter", "files",
             "Fetch this layer alone and show its files", "lamella peek --files STEP NAME",
             is_in_footer=True, is_in_palette=False),
    _command("remote.pull", _M, "screen.pull", "P", "pull", "Pull the image",
             "lamella pull NAME", is_in_footer=True, is_in_palette=False),
    _command("remote.platform", _M, "screen.choose_platform", "p", "platform",
             "Look at the image for another platform, and pull that",
             "lamella peek --platform PLATFORM NAME", is_in_footer=True, is_in_palette=False),
    _command("remote.filter", _M, "screen.filter", "slash", "filter",
             "Show only rows with a text", is_in_footer=True, is_in_palette=False),
    _command("remote.refresh", _M, "screen.refresh_image", "ctrl+r", "refresh",
             "Ask the registry again", is_in_palette=False),
    _command("remote.background", _M, "screen.background", "B", "background",
             "Show what goes on in the background, to watch or to cancel it",
             is_in_palette=False),
    _command("remote.help", _M, "screen.help", "question_mark", "help", "Show these keys",
             is_in_footer=True, is_in_palette=False),
    _command("remote.palette", _M, "app.command_palette", "colon,ctrl+p", "commands",
             "Search the commands of this screen by name", is_in_palette=False),
    _command("remote.close", _M, "screen.cancel", "q", "close", "Go back",
             is_in_palette=False),
    # Volumes
    _command("volumes.create", _V, "screen.create_volume", "c", "create", "Make a volume",
             "lamella volume create NAME", is_in_footer=True),
    _command("volumes.inspect", _V, "screen.inspect_volume", "i,enter", "inspect",
             "Show everything about the volume", "lamella volume inspect VOLUME",
             is_in_footer=True, is_in_palette=False),
    _command("volumes.remove", _V, "screen.remove_volume", "d", "remove",
             "Remove the volume with its files", "lamella volume rm VOLUME", is_in_footer=True,
             is_in_palette=False),
    _command("volumes.prune", _V, "screen.prune_volumes", "x", "prune",
             "Remove volumes that no container has", "lamella volume prune", is_in_footer=True),
    _command("volumes.filter", _V, "screen.filter_volumes", "slash", "filter",
             "Show only volumes with a text", is_in_footer=True, is_in_palette=False),
    _command("volumes.refresh", _V, "screen.refresh_volumes", "ctrl+r", "refresh",
             "Read and measure all volumes afresh", is_in_palette=False),
    _command("volumes.help", _V, "screen.help", "question_mark", "help", "Show these keys",
             is_in_footer=True, is_in_palette=False),
    _command("volumes.close", _V, "screen.cancel", "q", "close", "Go back",
             is_in_palette=False),
    # Choosing a file of this host
    _command("picker.open", _P, "screen.open", "enter,l,right", "open",
             "Open the directory, or take the file", is_in_footer=True, is_in_palette=False),
    _command("picker.parent", _P, "screen.parent", "backspace,h,left", "up",
             "Go to the directory above", is_in_footer=True, is_in_palette=False),
    _command("picker.path", _P, "screen.to_field", "tab,shift+tab", "path",
             "Type a path; tab completes it, and a path that is pasted goes there by itself",
             is_in_footer=True, is_in_palette=False),
    _command("picker.filter", _P, "screen.filter_files", "slash", "filter",
             "Show only names with a text", is_in_footer=True, is_in_palette=False),
    _command("picker.home", _P, "screen.home", "tilde", "home", "Go to your own directory",
             is_in_palette=False),
    _command("picker.hidden", _P, "screen.toggle_hidden", "full_stop", "hidden",
             "Show names with a dot in front, or not", is_in_footer=True, is_in_palette=False),
    _command("picker.refresh", _P, "screen.reread", "ctrl+r", "refresh",
             "Read the directory afresh", is_in_palette=False),
    _command("picker.help", _P, "screen.help", "question_mark", "help", "Show these keys",
             is_in_palette=False),
    _command("picker.close", _P, "screen.cancel", "q", "close", "Go back without an answer",
             is_in_palette=False),
)  # fmt: skip
