"""Files of layers, read by an ordinary user: also those that only the container's ids may read."""

import json

MAKES = """
mkdir -p /srv/shut; echo secret > /srv/shut/file; ln -s /etc/passwd /srv/link
chown 1000:1000 /srv/shut/file /srv/shut; chmod 0 /srv/shut/file /srv/shut; echo made
"""


def test_a_file_that_the_user_may_not_open_is_shown_from_its_layer(session):
    session.done("run", "--name", "web", "starter", "sh", "-c", MAKES)
    session.done("commit", "web", "mine")
    steps = session.done("history", "--format", "json", "mine").splitlines()
    step = str(json.loads(steps[0])["position"])
    listed = session.done("history", "--files", step, "mine")
    assert "srv/shut/file" in listed
    assert session.done("history", "--files", step, "--show", "srv/shut/file", "mine") == "secret"
    refused = session.lamella("history", "--files", step, "--show", "srv/link", "mine")
    assert refused.returncode == 125
    assert "srv/link is a symbolic link to /etc/passwd" in refused.stderr
