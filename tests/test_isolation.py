"""No test reaches beyond this machine: its connections are blocked, downloads of its commands refused."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from pytest_socket import SocketConnectBlockedError

PUBLIC = "192.0.2.1"  # set aside for documents (RFC 5737), nobody's address


def test_a_socket_to_a_public_address_is_blocked_and_the_loopback_is_not():
    with pytest.raises(SocketConnectBlockedError, match=PUBLIC):
        socket.create_connection((PUBLIC, 443), timeout=5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=5).close()


def test_a_download_in_another_process_is_refused_at_once():
    program = (
        "import requests\n"
        f"try: requests.get('https://{PUBLIC}/cifar-10-binary.tar.gz', timeout=5)\n"
        "except requests.exceptions.ProxyError: print('refused')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "refused\n", done.stderr


def test_a_test_without_the_mark_sees_no_real_data():
    assert "MUPJAX_DATA" not in os.environ


def test_a_test_of_real_images_is_skipped_by_name_where_they_are_missing(tmp_path):
    (tmp_path / "test_it.py").write_text("import pytest\n@pytest.mark.data('mnist')\ndef test_reads(): assert False\n")
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    command = [sys.executable, "-m", "pytest", "-ra", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "mnist: MUPJAX_DATA is not set, or has no mnist/train-images" in done.stdout
    assert "1 skipped" in done.stdout
