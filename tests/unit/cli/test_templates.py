"""Templates of --format, as Docker's users write them."""

import pytest

from tui.cli.template_functions import LabelMap
from tui.cli.templates import Template, TemplateError

CONTAINER = {
    "Id": "abc",
    "Name": "/web",
    "State": {"Status": "running", "Running": True, "ExitCode": 0},
    "Config": {"Env": ["A=1", "B=2"], "Labels": LabelMap({"com.x": "y", "tier": "front"})},
    "Mounts": [{"Source": "data", "Destination": "/data"}, {"Source": "etc", "Destination": "/e"}],
    "Empty": [],
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", "plain"),
        ("{{.Id}}", "abc"),
        ("{{ .State.Status }}/{{.State.ExitCode}}", "running/0"),
        ("{{json .State}}", '{"Status":"running","Running":true,"ExitCode":0}'),
        ("{{.State.Running}}", "true"),
        ("{{.Config.Env}}", "[A=1 B=2]"),
        ("{{.State}}", "map[ExitCode:0 Running:true Status:running]"),
        ('{{join .Config.Env ", "}}', "A=1, B=2"),
        ('{{index .Config.Labels "com.x"}}', "y"),
        ('{{index .Config.Labels "none"}}', ""),
        ("{{.Config.Labels.none}}", "<no value>"),
        ("{{index .Config.Env 1}}", "B=2"),
        ("{{(index .Mounts 0).Source}}", "data"),
        ("{{range .Mounts}}{{.Source}}:{{.Destination}} {{end}}", "data:/data etc:/e "),
        ("{{range $i, $m := .Mounts}}{{$i}}={{$m.Source}};{{end}}", "0=data;1=etc;"),
        ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}} {{end}}", "com.x=y tier=front "),
        ("{{range .Mounts}}{{$.Id}}{{end}}", "abcabc"),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ('{{if eq .State.Status "exited"}}a{{else if .Id}}b{{else}}c{{end}}', "b"),
        ("{{if and .Id (not .Empty)}}yes{{end}}", "yes"),
        ("{{with .State}}{{.Status}}{{end}}", "running"),
        ('{{.Name | upper | printf "%s!"}}', "/WEB!"),
        ("{{len .Mounts}} {{gt (len .Mounts) 1}}", "2 true"),
        ("{{$x := .Id}}{{$x}}{{$x}}", "abcabc"),
        ("a {{- .Id -}} b", "aabcb"),
        ("{{/* nothing */}}x", "x"),
        ('{{"}}"}}{{`raw`}}', "}}raw"),
        ('{{printf "%-5s|%3d|%q" .Id 7 .Name}}', 'abc  |  7|"/web"'),
        ("{{truncate .Id 2}}{{title .State.Status}}", "abRunning"),
    ],
)
def test_a_template_gives_what_docker_gives(template, text):
    assert Template(template).render(CONTAINER) == text


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{.Id", "unclosed action"),
        ("{{if .Id}}x", "without {{end}}"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{exec .Id}}", "no such function: exec"),
        ("{{.Nothing}}", "there is no field Nothing, only Id, Name"),
        ("{{.Id.More}}", "there is no field More of abc"),
        ("{{$y}}", "no such variable: $y"),
        ("{{range .Id}}{{end}}", "range goes over lists and maps"),
        ("{{index .Mounts 9}}", "index cannot be used like this"),
        ("{{json}}", "json cannot be used like this"),
        ("{{.Id ;}}", "unexpected ';'"),
        ("{{(.Id}}", "this cannot be read"),
        ("{{.Id .Name}}", "not a function: abc"),
        ("{{" + "(" * 5000 + ".Id" + ")" * 5000 + "}}", "nested too deeply"),
    ],
)
def test_what_is_wrong_with_a_template_is_said(template, reason):
    with pytest.raises(TemplateError) as caught:
        Template(template).render(CONTAINER)
    assert reason in caught.value.message
    assert caught.value.hint


def test_no_python_attribute_can_be_reached():
    for template in ("{{.__class__}}", "{{.Id.__class__}}", "{{(index .Config.Env 0).upper}}"):
        with pytest.raises(TemplateError):
            Template(template).render(CONTAINER)
