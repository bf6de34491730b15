"""hosts, hostname and resolv.conf."""

import os

from engine.containers.network_files import network_file_mounts, write_network_files


def test_the_container_knows_itself_and_its_loopback(tmp_path):
    write_network_files(tmp_path, hostname="box", name="web")
    hosts = (tmp_path / "hosts").read_text().splitlines()
    assert hosts[0] == "127.0.0.1\tlocalhost"
    assert "::1\tlocalhost ip6-localhost ip6-loopback" in hosts
    assert hosts[-1] == "127.0.0.1\tbox web"
    assert (tmp_path / "hostname").read_text() == "box\n"


def test_a_container_without_a_network_asks_no_name_server(tmp_path):
    write_network_files(tmp_path, hostname="box", name="box")
    text = (tmp_path / "resolv.conf").read_text()
    assert "nameserver" not in text
    assert (tmp_path / "hosts").read_text().splitlines()[-1] == "127.0.0.1\tbox"


def test_everybody_in_the_container_may_read_them_whatever_the_umask(tmp_path):
    before = os.umask(0o077)
    try:
        write_network_files(tmp_path, hostname="box", name="web")
    finally:
        os.umask(before)
    for mount in network_file_mounts(tmp_path, is_read_only=False):
        assert os.stat(mount.source).st_mode & 0o777 == 0o644
        assert mount.target.startswith("/etc/")
