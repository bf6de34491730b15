"""Passwords, tokens, helpers and certificates, with registries that want them."""

import base64
import json
import os
import stat
from pathlib import Path

import pytest

from engine.errors import (
    InvalidInputError,
    RegistryError,
    RegistryRefusedError,
    RegistryUnreachableError,
)
from engine.oci.reference import parse_reference
from engine.registry.client import RegistryClient
from engine.registry.credentials import (
    Credential,
    find_credential,
    forget_credential,
    store_credential,
)
from engine.registry.settings import RegistrySettings
from tests.fault_proxy import Fault, FaultProxy
from tests.integration.registry.conftest import HOST, push_image, quick_settings, read_all
from tests.registries import PASSWORD, USER, run_registry

LOGIN = Credential(username=USER, password=PASSWORD)


@pytest.fixture
def home(tmp_path):
    """An environment with files of the test's own."""
    directory = tmp_path / "home"
    directory.mkdir()
    return {"HOME": str(directory), "PATH": os.environ["PATH"]}


@pytest.fixture
def password_registry(tmp_path):
    with run_registry(tmp_path / "registry", has_passwords=True) as running:
        yield running


@pytest.fixture
def token_registry(tmp_path, tokens):
    with run_registry(tmp_path / "registry", tokens=tokens) as running:
        yield running


@pytest.fixture
def tls_registry(tmp_path, certificates):
    with run_registry(tmp_path / "registry", certificates=certificates) as running:
        yield running


def pull(client, name):
    chosen = client.choose(name, HOST)
    return read_all(client.open_blob(name, chosen.manifest.layers[0]))


def test_who_shows_no_password_is_told_how_to_log_in(password_registry, home):
    name = parse_reference(f"{password_registry.address}/web")
    with RegistryClient(quick_settings(environment=home)) as client:
        with pytest.raises(RegistryRefusedError, match="pull access denied for") as caught:
            client.choose(name, HOST)
        assert caught.value.hint == f"`lamella login {password_registry.address}` says who you are"
        with pytest.raises(RegistryRefusedError):
            client.check_login(password_registry.address)


def test_a_wrong_password_is_refused_and_not_tried_for_ever(password_registry):
    with FaultProxy(password_registry.address).running() as proxy:
        wrong = Credential(username=USER, password="wrong")
        with (
            RegistryClient(quick_settings(), login=wrong) as client,
            pytest.raises(RegistryRefusedError),
        ):
            client.check_login(proxy.address)
        assert len(proxy.requests) <= 3


def test_a_kept_password_opens_a_registry(password_registry, home):
    kept_in, is_plain = store_credential(password_registry.address, LOGIN, home)

    assert is_plain
    assert kept_in == f"{home['HOME']}/.docker/config.json"
    with RegistryClient(quick_settings(environment=home)) as client:
        image = push_image(client, f"{password_registry.address}/web:1")
        assert pull(client, image.name) == image.layer


def test_a_token_opens_a_registry_and_is_used_until_it_ends(token_registry, tokens, home):
    store_credential(token_registry.address, LOGIN, home)
    with RegistryClient(quick_settings(environment=home)) as client:
        image = push_image(client, f"{token_registry.address}/team/web:1")
        before = len(tokens.requests)
        for _ in range(5):
            assert pull(client, image.name) == image.layer
        assert len(tokens.requests) <= before + 1
    assert ["repository:team/web:pull,push"] in [one.get("scope") for one in tokens.requests]


def test_an_image_for_everybody_needs_no_login(token_registry, tokens, home):
    tokens.lets_anybody_read = True
    with RegistryClient(quick_settings(), login=LOGIN) as owner:
        image = push_image(owner, f"{token_registry.address}/web:1")
    with RegistryClient(quick_settings(environment=home)) as anybody:
        assert pull(anybody, image.name) == image.layer
        with pytest.raises(RegistryRefusedError):
            push_image(anybody, f"{token_registry.address}/web:2")


def test_a_blob_of_another_repository_is_mounted_with_a_token_for_both(token_registry, home):
    with RegistryClient(quick_settings(environment=home), login=LOGIN) as client:
        image = push_image(client, f"{token_registry.address}/one:1")
        other = parse_reference(f"{token_registry.address}/two")

        assert client.mount_blob(other, image.layer_descriptor.digest, source_repository="one")


def test_a_token_that_ends_in_mid_pull_is_replaced(token_registry, tokens):
    refusals = []
    with FaultProxy(token_registry.address).running() as proxy:
        with RegistryClient(quick_settings(), login=LOGIN) as owner:
            image = push_image(owner, f"{proxy.address}/web:1")

        def plan(request):
            is_blob = request.method == "GET" and "/blobs/sha256" in request.path
            if is_blob and "range" not in request.headers:
                return Fault(cuts_at=100_000)
            shown = request.headers.get("authorization", "")
            if is_blob and (not refusals or shown in refusals):
                # What was good before is good no more.
                refusals.append(shown)
                challenge = (
                    f'Bearer realm="{tokens.realm}",service="lamella tests",'
                    'scope="repository:web:pull",error="invalid_token"'
                )
                return Fault(status=401, headers={"WWW-Authenticate": challenge})
            return None

        proxy.plan = plan
        with RegistryClient(quick_settings(), login=LOGIN) as client:
            assert pull(client, image.name) == image.layer
    assert len(refusals) == 1


def test_a_registry_that_never_lets_in_is_not_asked_for_ever(token_registry, tokens):
    with FaultProxy(token_registry.address).running() as proxy:
        challenge = f'Bearer realm="{tokens.realm}",service="lamella tests"'
        proxy.plan = lambda _request: Fault(status=401, headers={"WWW-Authenticate": challenge})
        with (
            RegistryClient(quick_settings(), login=LOGIN) as client,
            pytest.raises(RegistryRefusedError),
        ):
            client.choose(parse_reference(f"{proxy.address}/web"), HOST)
        assert len(proxy.requests) <= 3
        assert len(tokens.requests) == 1


@pytest.mark.parametrize(
    "realm",
    ["", "no address", "ftp://x/", "http://", "http://token.example/", "http://user:pw@localhost/"],
)
def test_token_servers_of_nonsense_are_our_own_errors(registry, realm):
    with FaultProxy(registry.address).running() as proxy:
        proxy.plan = lambda _request: Fault(
            status=401, headers={"WWW-Authenticate": f'Bearer realm="{realm}"'}
        )
        with (
            RegistryClient(quick_settings(), login=LOGIN) as client,
            pytest.raises(RegistryError),
        ):
            client.choose(parse_reference(f"{proxy.address}/web"), HOST)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"token":""}', b'{"token":"a\\r\\nX: y"}', b'{"token":5}', b"\xff"],
)
def test_tokens_of_nonsense_are_our_own_errors(registry, body):
    with FaultProxy(registry.address).running() as proxy:

        def plan(request):
            if request.path.startswith("/token"):
                return Fault(status=200, body=body)
            challenge = f'Bearer realm="http://{proxy.address}/token"'
            return Fault(status=401, headers={"WWW-Authenticate": challenge})

        proxy.plan = plan
        with (
            RegistryClient(quick_settings(), login=LOGIN) as client,
            pytest.raises(RegistryUnreachableError, match="token"),
        ):
            client.choose(parse_reference(f"{proxy.address}/web"), HOST)


def test_a_password_does_not_follow_a_redirection(password_registry):
    with (
        FaultProxy(password_registry.address).running() as proxy,
        FaultProxy(password_registry.address).running() as other,
        RegistryClient(quick_settings(), login=LOGIN) as client,
    ):
        image = push_image(client, f"{proxy.address}/web:1")
        proxy.plan = lambda request: (
            Fault(status=307, headers={"Location": f"http://{other.address}{request.path}"})
            if "/blobs/sha256" in request.path
            else None
        )
        # The other server is a registry that wants a password, and gets none.
        with pytest.raises(RegistryUnreachableError):
            read_all(client.open_blob(image.name, image.layer_descriptor))

    assert other.requests
    assert not [one for one in other.requests if "authorization" in one.headers]
    assert [one for one in proxy.requests if "authorization" in one.headers]


def test_an_identity_token_stands_for_the_password(token_registry, tokens, home):
    tokens.identity_token = "identity"
    with RegistryClient(quick_settings(environment=home), login=LOGIN) as client:
        given = client.check_login(token_registry.address)
    assert given == "identity"
    store_credential(token_registry.address, Credential(username=USER, identity_token=given), home)

    kept = json.loads((tokens_file(home)).read_text())["auths"][token_registry.address]
    assert kept == {
        "auth": base64.b64encode(f"{USER}:".encode()).decode(),
        "identitytoken": "identity",
    }
    with RegistryClient(quick_settings(environment=home)) as client:
        image = push_image(client, f"{token_registry.address}/web:1")
        assert pull(client, image.name) == image.layer
    assert ["identity"] in [one.get("refresh_token") for one in tokens.requests]


def tokens_file(home):
    from pathlib import Path

    return Path(home["HOME"]) / ".docker" / "config.json"


def test_a_login_keeps_what_else_is_in_the_file_for_its_owner_only(home):
    path = tokens_file(home)
    path.parent.mkdir()
    path.write_text('{"psFormat": "x", "auths": {"other": {"auth": "YTpi"}}, "plugins": {"a": {}}}')
    path.chmod(0o644)

    store_credential("docker.io", LOGIN, home)

    document = json.loads(path.read_text())
    assert document["psFormat"] == "x"
    assert document["plugins"] == {"a": {}}
    assert set(document["auths"]) == {"other", "https://index.docker.io/v1/"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["config.json"]
    assert find_credential("docker.io", "library/web", home) == LOGIN

    assert forget_credential("docker.io", home)
    assert not forget_credential("docker.io", home)
    assert find_credential("docker.io", "library/web", home) is None
    assert set(json.loads(path.read_text())["auths"]) == {"other"}


def test_a_helper_keeps_the_password(home, tmp_path):
    kept = tmp_path / "kept.json"
    helper = tmp_path / "bin" / "docker-credential-tests"
    helper.parent.mkdir()
    helper.write_text(
        "#!/bin/sh\n"
        f'case "$1" in store) cat >{kept};; erase) rm {kept};; '
        f"get) read -r server; [ -e {kept} ] && cat {kept} || "
        "{ echo credentials not found in native keychain; exit 1; };; esac\n"
    )
    helper.chmod(0o755)
    home = {**home, "PATH": f"{helper.parent}:{home['PATH']}"}
    path = tokens_file(home)
    path.parent.mkdir()
    path.write_text('{"credHelpers": {"registry.example": "tests"}}')

    assert find_credential("registry.example", "web", home) is None
    assert store_credential("registry.example", LOGIN, home) == ("docker-credential-tests", False)
    assert json.loads(kept.read_text()) == {
        "ServerURL": "registry.example",
        "Username": USER,
        "Secret": PASSWORD,
    }
    assert find_credential("registry.example", "web", home) == LOGIN
    assert forget_credential("registry.example", home)
    assert not kept.exists()
    assert json.loads(path.read_text()) == {"credHelpers": {"registry.example": "tests"}}


def test_a_helper_that_is_missing_is_named(home):
    path = tokens_file(home)
    path.parent.mkdir()
    path.write_text('{"credsStore": "nowhere"}')

    with pytest.raises(RegistryError, match="not found: docker-credential-nowhere"):
        find_credential("registry.example", "web", home)

    # Looking here ends in "permission denied", as in a directory that may not be searched.
    denied = Path(home["HOME"]) / "denied"
    (denied / "docker-credential-nowhere").mkdir(parents=True)
    here = {**home, "PATH": f"{denied}:{home['PATH']}"}
    with pytest.raises(RegistryError, match="not found: docker-credential-nowhere"):
        find_credential("registry.example", "web", here)


def test_podmans_file_may_have_a_password_for_some_of_a_registry(home):
    runtime = {**home, "XDG_RUNTIME_DIR": home["HOME"]}
    path = tokens_file(home).parent.parent / "containers" / "auth.json"
    path.parent.mkdir()
    team = base64.b64encode(b"team:secret").decode()
    everybody = base64.b64encode(b"all:secret").decode()
    path.write_text(
        json.dumps({"auths": {"r.io/team": {"auth": team}, "r.io": {"auth": everybody}}})
    )

    def found(repository):
        credential = find_credential("r.io", repository, runtime)
        return credential and credential.username

    assert found("team/web") == "team"
    assert found("teams/web") == "all"
    assert found("") == "all"
    assert find_credential("r.io.example", "team/web", runtime) is None


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"auths": 5}', '{"auths": {"r.io": {"auth": "%%"}}}', "\x00"]
)
def test_a_damaged_file_is_named(home, text):
    path = tokens_file(home)
    path.parent.mkdir()
    path.write_text(text)

    with pytest.raises(InvalidInputError, match=r"config\.json"):
        find_credential("r.io", "web", home)


# --- certificates -----------------------------------------------------------------------------


def certificate_directory(tmp_path, registry, certificates):
    directory = tmp_path / "certs.d" / registry.address
    directory.mkdir(parents=True)
    (directory / "ca.crt").write_bytes(certificates.authority.read_bytes())
    return tmp_path / "certs.d"


def test_a_certificate_of_an_authority_that_is_named_is_trusted(
    tls_registry, certificates, tmp_path
):
    directory = certificate_directory(tmp_path, tls_registry, certificates)
    with RegistryClient(quick_settings(certificate_directories=(directory,))) as client:
        image = push_image(client, f"{tls_registry.address}/web:1")
        assert pull(client, image.name) == image.layer


def test_a_certificate_of_somebody_else_is_not_trusted(tls_registry, tmp_path):
    from tests.registries import make_certificates

    (tmp_path / "others").mkdir()
    others = make_certificates(tmp_path / "others")
    directory = certificate_directory(tmp_path, tls_registry, others)
    with (
        RegistryClient(quick_settings(certificate_directories=(directory,))) as client,
        pytest.raises(RegistryUnreachableError, match="certificate is not trusted") as caught,
    ):
        client.choose(parse_reference(f"{tls_registry.address}/web"), HOST)
    assert f"certs.d/{tls_registry.address}/ca.crt" in caught.value.hint


def test_this_host_needs_no_certificate_that_is_trusted(tls_registry):
    with RegistryClient(quick_settings()) as client:
        image = push_image(client, f"{tls_registry.address}/web:1")
        assert pull(client, image.name) == image.layer


def test_a_key_that_is_missing_is_named(tls_registry, certificates, tmp_path):
    directory = certificate_directory(tmp_path, tls_registry, certificates)
    (directory / tls_registry.address / "client.cert").write_text("x")
    with (
        RegistryClient(quick_settings(certificate_directories=(directory,))) as client,
        pytest.raises(InvalidInputError, match=r"missing key client\.key"),
    ):
        client.choose(parse_reference(f"{tls_registry.address}/web"), HOST)


def test_a_certificate_file_of_nonsense_is_named(tls_registry, certificates, tmp_path):
    directory = certificate_directory(tmp_path, tls_registry, certificates)
    (directory / tls_registry.address / "ca.crt").write_text("x")
    with (
        RegistryClient(quick_settings(certificate_directories=(directory,))) as client,
        pytest.raises(InvalidInputError, match="cannot use the certificates in"),
    ):
        client.choose(parse_reference(f"{tls_registry.address}/web"), HOST)


def test_another_host_is_spoken_to_in_plain_only_when_that_is_allowed(registry, tmp_path):
    port = registry.address.partition(":")[2]
    # A name of this host that does not say so.
    settings = RegistrySettings.load({"HOME": str(tmp_path)})
    assert not settings.hosts
    path = tmp_path / "registries.toml"
    path.write_text(f'[registry."registry.lan:{port}"]\ninsecure = true\n')
    from engine.registry.endpoints import endpoints_of

    allowed = RegistrySettings.load({"LAMELLA_REGISTRIES": str(path)})
    schemes = [end.base.scheme for end in endpoints_of(f"registry.lan:{port}", allowed)]
    assert schemes == ["https", "http"]
    assert [end.base.scheme for end in endpoints_of(f"registry.lan:{port}", settings)] == ["https"]
    assert [end.base.scheme for end in endpoints_of("localhost.example", settings)] == ["https"]
    assert len(endpoints_of("127.8.9.1:5000", settings)) == 2
    assert len(endpoints_of("[::1]:5000", settings)) == 2
