import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidInputError
from engine.registry.endpoints import endpoints_of, is_loopback, parse_http_url
from engine.registry.settings import HostSettings, RegistrySettings
from engine.registry.transport import proxy_of


@pytest.fixture
def load(tmp_path):
    def read(text):
        path = tmp_path / "registries.toml"
        path.write_text(text)
        return RegistrySettings.load({"LAMELLA_REGISTRIES": str(path)})

    return read


def test_settings_say_what_is_insecure_and_what_mirrors_there_are(load):
    settings = load(
        '[registry."r.lan:5000"]\ninsecure = true\nmirrors = ["https://m.lan"]\n'
        '[registry."docker.io"]\nsearch = "https://s.lan/search"\n'
    )

    assert settings.of("r.lan:5000") == HostSettings(is_insecure=True, mirrors=("https://m.lan",))
    assert settings.of("docker.io").search_url == "https://s.lan/search"
    assert settings.of("other") == HostSettings()


@pytest.mark.parametrize(
    "text",
    [
        "registry = 5",
        '[registry]\nx = "y"',
        '[registry."x"]\nsecure = true',
        '[registry."x"]\ninsecure = "yes"',
        '[registry."x"]\nmirrors = "https://y"',
        '[registry."x"]\nmirrors = ["y"]',
        '[registry."x"]\nsearch = 5',
        "[",
    ],
)
def test_settings_that_make_no_sense_are_refused_with_the_file(load, text):
    with pytest.raises(InvalidInputError, match=r"registries\.toml"):
        load(text)


def test_a_file_that_is_named_has_to_be_there(tmp_path):
    with pytest.raises(InvalidInputError, match="no such file"):
        RegistrySettings.load({"LAMELLA_REGISTRIES": str(tmp_path / "none")})


def addresses(domain, settings=RegistrySettings(), **options):  # noqa: B008 - frozen
    return [str(endpoint.base) for endpoint in endpoints_of(domain, settings, **options)]


def test_docker_hub_is_at_its_own_address_and_mirrors_come_first():
    hosts = {"docker.io": HostSettings(mirrors=("https://m.lan/hub/", "http://n.lan:81"))}
    settings = RegistrySettings(hosts=hosts)

    assert addresses("docker.io", settings) == [
        "https://m.lan/hub/",
        "http://n.lan:81/",
        "https://registry-1.docker.io/",
    ]
    assert addresses("docker.io", settings, for_writing=True) == ["https://registry-1.docker.io/"]
    mirror = endpoints_of("docker.io", settings)[0]
    assert str(mirror.url("/v2/")) == "https://m.lan/hub/v2/"


def test_plain_http_is_for_this_host_and_for_who_is_allowed_it():
    assert addresses("r.lan") == ["https://r.lan/"]
    assert addresses("localhost:5000") == ["https://localhost:5000/", "http://localhost:5000/"]
    assert addresses("[::1]:5000")[1] == "http://[::1]:5000/"
    hosts = {"r.lan": HostSettings(is_insecure=True)}
    assert addresses("r.lan", RegistrySettings(hosts=hosts))[1] == "http://r.lan/"


def test_who_has_certificates_is_spoken_to_with_them_only(tmp_path):
    (tmp_path / "localhost:5000").mkdir()
    settings = RegistrySettings(certificate_directories=(tmp_path,))

    assert addresses("localhost:5000", settings) == ["https://localhost:5000/"]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.255.1.2", True),
        ("::1", True),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
        ("128.0.0.1", False),
        ("::2", False),
    ],
)
def test_only_this_host_is_this_host(host, expected):
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("no_proxy", "url", "is_direct"),
    [
        ("", "https://r.lan/", False),
        ("*", "https://r.lan/", True),
        ("r.lan", "https://r.lan/", True),
        (".lan", "https://r.lan/", True),
        ("lan", "https://r.lan/", True),
        ("other, r.lan:5000", "https://r.lan:5000/", True),
        ("r.lan:5000", "https://r.lan/", False),
        ("an", "https://r.lan/", False),
        ("10.0.0.0/8", "https://10.1.2.3/", True),
        ("10.0.0.0/8", "https://11.1.2.3/", False),
        ("", "https://localhost:5000/", True),
    ],
)
def test_a_proxy_is_used_but_for_hosts_that_are_named(no_proxy, url, is_direct):
    environment = {"HTTPS_PROXY": "proxy.lan:3128", "no_proxy": no_proxy}
    settings = RegistrySettings(environment=environment)

    proxy = proxy_of(parse_http_url(url), settings)

    assert proxy == ("" if is_direct else "http://proxy.lan:3128")


def test_a_proxy_of_another_kind_is_refused():
    settings = RegistrySettings(environment={"https_proxy": "socks5://user:secret@p:1"})

    with pytest.raises(InvalidInputError, match="only http and https proxies") as caught:
        proxy_of(parse_http_url("https://r.lan/"), settings)
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/v2/x?y=1", "http://r:5000/v2/x?y=1"),
        ("//s/x", "http://s/x"),
        ("https://s:443/x", "https://s/x"),
        ("?a=b", "http://r:5000/v2/here?a=b"),
        ("there", "http://r:5000/v2/there"),
        ("ftp://s/", None),
        ("https:///x", None),
        ("http://u:p@s/", None),
        ("http://s/a b", None),
        ("http://s/\r\nX: y", None),
    ],
)
def test_addresses_are_read_where_they_were_found(text, expected):
    base = parse_http_url("http://r:5000/v2/here")

    found = parse_http_url(text, base=base)

    assert (str(found) if found else None) == expected


@given(st.text() | st.text("htp:/[]@%?#.0a\\").map(lambda text: f"http://{text}"))
def test_no_address_is_too_odd(text):
    found = parse_http_url(text)
    if found is not None:
        assert found.scheme in {"http", "https"}
        assert found.host
